"""Whole slides: seams, memory, speed, faults. Writes docs/results/slides.json, one part per call.

python benchmarks/slides.py seams | memory | speed | workers | kills | files FOLDER

Slides are made here (tests/synthetic_slide.py): real tissue, repeated, glass elsewhere. Times are
of a shared machine: read the ratios.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
OUT = ROOT / "docs" / "results" / "slides.json"

from benchmarks.timing import cpu_name  # noqa: E402
from tests.synthetic_slide import (  # noqa: E402
    glass_with_tissue,
    painted_block,
    tissue_block,
    write_slide,
)

LAUNCHER = """
import resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
said = (done.stderr.strip().splitlines() or [""])[-1]
print(done.returncode, round(time.perf_counter() - started, 1), round(peak / 1024), said)
"""


def measured(command: list[object]) -> dict[str, Any]:
    """Run a command; return seconds and peak memory.

    A small process starts it: what is forked from a large one counts as large from the start.
    """
    launched = [sys.executable, "-c", LAUNCHER, *map(str, command)]
    data = subprocess.run(launched, capture_output=True, text=True, check=True)
    code, seconds, peak, *said = data.stdout.strip().split(" ", 3)
    return {
        "code": int(code), "said": "".join(said), "seconds": float(seconds), "peak_mb": int(peak),
    }  # fmt: skip


def segment(*words: object) -> dict[str, Any]:
    """Run `nucleate segment`; return seconds, peak memory, and the summary's first source."""
    out = Path(str(words[words.index("-o") + 1]))
    found = measured([sys.executable, "-m", "nucleate", "segment", *words])
    summary = out / "summary.json"
    sources = json.loads(summary.read_text())["sources"] if summary.exists() else [None]
    return {**found, "row": sources[0]}


def megabytes(path: Path) -> int:
    """Return the size of a file."""
    return round(path.stat().st_size / 2**20)


def some_blocks(edge: int, count: int) -> np.ndarray:
    """Return which blocks of a slide of `edge` pixels are tissue: `count` of them, in one piece."""
    side = -(-edge // tissue_block().image.shape[0])
    covered = np.zeros(side * side, bool)
    covered[:count] = True
    return covered.reshape(side, side)


def seams(folder: Path) -> dict[str, Any]:
    """Every nucleus once, whatever the tiles: with an oracle exactly, with the model nearly."""
    from skimage.measure import label
    from tests.conftest import OracleBackend, oracle_card

    from nucleate import postprocess
    from nucleate.geometry.labels import boxes_areas
    from nucleate.inference.backends import Model
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.results.parquet import open_nuclei
    from nucleate.slides.outputs import BatchOptions
    from nucleate.slides.segment_many import run_batch

    edge = 20_000
    block = painted_block(tissue_block())
    painted = folder / "painted.tif"
    write_slide(painted, edge, edge, block, lossless=True, glass=(0, 0, 0))
    repeated = -(-edge // block.labels.shape[0])
    whole = label(np.tile(block.labels, (repeated, repeated))[:edge, :edge], connectivity=1)
    boxes, areas = boxes_areas(whole.astype(np.int32), int(whole.max()))
    truth = sorted(map(tuple, np.column_stack([boxes, areas]).tolist()))
    del whole

    def decode(maps: dict, thresholds: dict) -> np.ndarray:
        return label(np.rint(maps["foreground"]).astype(np.int32), connectivity=1).astype(np.int32)

    postprocess.DECODERS["oracle"] = postprocess.Decoder(
        ("foreground",), {}, {}, postprocess.one_layer(decode)
    )
    oracle = Model(oracle_card(halo_px=128), OracleBackend())
    exact = {}
    for tile in (512, 1024, 2048):
        options = BatchOptions(formats=(), engine=EngineOptions(tile), tissue_mask=False)
        out = folder / f"oracle-{tile}"
        row = run_batch([painted], out, oracle, options)["sources"][0]
        nuclei = open_nuclei(out / row["files"]["parquet"]).read()
        sizes = np.rint(nuclei.features["area_um2"] / 0.25**2)
        found = sorted(map(tuple, np.column_stack([nuclei.boxes_xyxy, sizes]).astype(int).tolist()))
        exact[tile] = {"nuclei": len(found), "wrong": len(set(found) ^ set(truth))}
        print(tile, exact[tile], flush=True)
    slide = folder / "tissue.tif"
    write_slide(slide, edge, edge, tissue_block(), covered=some_blocks(edge, 6))
    small = folder / "small.tif"
    write_slide(small, 2000, 2000, tissue_block())
    model = {
        precision: tile_sizes(folder / precision, slide, small, precision)
        for precision in ("f32", "int8")
    }
    return {"edge": edge, "truth": len(truth), "oracle": exact, "model": model}


def tile_sizes(folder: Path, slide: Path, small: Path, precision: str) -> dict[str, Any]:
    """Return how far results of the bundled model agree, one tile size against another."""
    from nucleate.results.parquet import open_nuclei

    def found(path: Path, tile: int) -> Any:
        out = folder / f"{path.stem}-{tile}"
        segment(path, "-o", out, "--tile-px", tile, "--precision", precision)
        return open_nuclei(out / f"{path.stem}.nuclei.parquet").read()

    tables = {tile: found(slide, tile) for tile in (512, 1024, 2048)}
    pairs = {
        f"{a} and {b}": agreement(tables[a], tables[b])
        for a, b in ((512, 1024), (512, 2048), (1024, 2048))
    }
    whole = found(small, 2048)
    for tile in (512, 1024):
        pairs[f"2000², {tile} and untiled"] = agreement(whole, found(small, tile))
    print(precision, pairs, flush=True)
    return pairs


def agreement(one: Any, other: Any) -> dict[str, Any]:
    """Return how many nuclei of two tables are the same at IoU 0.9."""
    import shapely

    polygons = [
        shapely.make_valid(
            shapely.from_ragged_array(
                shapely.GeometryType.POLYGON,
                t.coords_xy.astype(float),
                (t.offsets, np.arange(len(t.offsets))),
            )
        )
        for t in (one, other)
    ]
    a, b = shapely.STRtree(polygons[1]).query(polygons[0], predicate="intersects")
    shared = shapely.area(shapely.intersection(polygons[0][a], polygons[1][b]))
    union = shapely.area(polygons[0][a]) + shapely.area(polygons[1][b]) - shared
    same = int((shared / union > 0.9).sum())
    return {"nuclei": [len(one), len(other)], "same": same,
            "share": round(2 * same / (len(one) + len(other)), 5)}  # fmt: skip


def memory(folder: Path) -> dict[str, Any]:
    """Peak memory over slides of growing size; the largest contains a million nuclei."""
    rows = {}
    for edge, blocks in ((10_000, 9), (30_000, 30), (100_000, 285)):
        slide = folder / f"{edge}.tif"
        write_slide(slide, edge, edge, tissue_block(), covered=some_blocks(edge, blocks))
        data = segment(slide, "-o", folder / f"out-{edge}", "--precision", "bf16")
        row = data.pop("row")
        rows[edge] = data | {
            "nuclei": row["nuclei"],
            "tissue_mm2": row["tissue_mm2"],
            "parquet_mb": megabytes(folder / f"out-{edge}" / f"{edge}.nuclei.parquet"),
        }
        print(edge, rows[edge], flush=True)
    return {"slides": rows, "exports": exported(folder / "out-100000" / "100000.nuclei.parquet")}


def exported(largest: Path) -> dict[str, Any]:
    """Time and peak memory of the exports of a table."""
    exports = {}
    for form in ("geojson.gz", "csv", "annotation-store", "coco"):
        out = largest.with_name(f"x.{form}")
        words = ["export", largest, "--to", form, "-o", out]
        data = measured([sys.executable, "-m", "nucleate", *words])
        exports[form] = {
            "seconds": data["seconds"],
            "peak_mb": data["peak_mb"],
            "mb": megabytes(out),
        }
        print(form, exports[form], flush=True)
    return exports


def speed(folder: Path) -> dict[str, Any]:
    """How far the engine is from its slowest stage alone."""
    from nucleate import load_model
    from nucleate.inference.inputs import as_reader
    from nucleate.inference.pipeline import EngineOptions
    from nucleate.inference.units import plan_units
    from nucleate.quality.tissue import survey
    from nucleate.readers.opening import open_source

    slide_file = folder / "speed.tif"
    write_slide(slide_file, 13_000, 12_000, tissue_block(), covered=some_blocks(13_000, 10))
    model = load_model(device="cpu")
    slide = as_reader(open_source(slide_file), model.card, None)
    units = plan_units(slide, model.card, EngineOptions(), survey(slide).tissue)
    tiles = [tile for unit in units for tile in unit.tiles]
    images = [slide.read(tile.read, model.card.mpp) for tile in tiles]
    rounds = []
    for i in range(3):
        started = time.perf_counter()
        for image in images:
            model.backend(image[None])
        alone = time.perf_counter() - started
        data = segment(slide_file, "-o", folder / f"plain-{i}")
        row = data["row"]
        rounds.append(
            {"network_alone": round(alone, 1), "engine": row["seconds"], "process": data["seconds"],
             "stages": row["stages"], "nuclei": row["nuclei"], "tissue_mm2": row["tissue_mm2"]}
        )  # fmt: skip
        print(rounds[-1], flush=True)
    return {"tiles": len(tiles), "units": len(units), "rounds": rounds}


def workers(folder: Path) -> dict[str, Any]:
    """Two Dask workers of one thread against one process of two, in turns."""
    slide_file = folder / "workers.tif"
    write_slide(slide_file, 13_000, 13_000, tissue_block(), covered=some_blocks(13_000, 20))
    plain, dask = [], []
    address = "tcp://127.0.0.1:18786"
    module = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
    scheduler = subprocess.Popen([*module, "--port", "18786"], stderr=subprocess.DEVNULL)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", address,
             "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)],
            stderr=subprocess.DEVNULL,
        )
        for _ in range(2)
    ]  # fmt: skip
    try:
        time.sleep(8)
        for i in range(2):
            for rows, name, more in (
                (plain, "plain", ()), (dask, "dask", ("--scheduler", address)),
            ):  # fmt: skip
                data = segment(slide_file, "-o", folder / f"{name}-{i}", *more)
                rows.append({key: data["row"][key] for key in ("seconds", "nuclei", "tissue_mm2")})
                print(name, rows[-1], flush=True)
    finally:
        for process in (*started, scheduler):
            process.terminate()
    return {"one_process": plain, "two_workers": dask}


def kills(folder: Path) -> dict[str, Any]:
    """SIGKILL at 20 random moments, each time with --resume: the table of the undisturbed run."""
    slide = glass_with_tissue(folder / "a.tif")
    words = [slide, "--tile-px", "768", "-o"]
    usual = segment(*words, folder / "whole")["seconds"]
    rng = np.random.default_rng(0)
    count = done_before = 0
    out = folder / "out"
    while count < 20:
        resumed = [*map(str, (*words, out)), "--resume"]
        command = [sys.executable, "-m", "nucleate", "segment", *resumed]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            process.wait(float(rng.uniform(0.2, 1.0)) * usual)
            done_before += 1
            shutil.rmtree(out)  # it came to its end: from the beginning
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            count += 1
    last = segment(*words, out, "--resume")
    one, other = (pq.read_table(f / "a.nuclei.parquet") for f in (folder / "whole", out))
    same_bytes = (folder / "whole" / "a.nuclei.parquet").read_bytes() == (
        out / "a.nuclei.parquet"
    ).read_bytes()
    columns = set(one.column_names) - {"bbox"}
    equal = all(
        np.array_equal(one[c].to_numpy(), other[c].to_numpy(), equal_nan=one[c].type != "binary")
        if one[c].type in ("float", "double")
        else one[c].equals(other[c])
        for c in columns
    )
    return {"kills": count, "came_to_an_end": done_before, "notes": last["row"]["notes"],
            "nuclei": len(other), "same_content": equal, "same_bytes": same_bytes}  # fmt: skip


def files(folder: Path, slides: Path) -> list[dict[str, Any]]:
    """Segment every file of a folder, damaged ones too, one by one."""
    rows = []
    for path in sorted(p for p in slides.rglob("*") if p.is_file()):
        data = segment(path, "-o", folder / path.name, "--formats", "parquet")
        missing = "carries no resolution" in data["said"] or "0.02 to 20" in data["said"]
        if missing:
            data = segment(path, "-o", folder / path.name, "--formats", "parquet", "--mpp", "0.5")
        row = data["row"] or {}
        rows.append(
            {
                "file": path.relative_to(slides).as_posix(),
                "code": data["code"],
                "mpp_given": missing,
                "nuclei": row.get("nuclei"),
                "size": [row.get("width"), row.get("height")],
                "said": data["said"].replace(str(path), path.name) if data["code"] else "",
            }
        )
        print(rows[-1], flush=True)
    return rows


def main(part: str, *words: str) -> None:
    """Measure one part and write it beside the others."""
    from nucleate.environment import git_commit

    with tempfile.TemporaryDirectory() as scratch:
        found = globals()[part](Path(scratch), *map(Path, words))
    whole = json.loads(OUT.read_text()) if OUT.exists() else {}
    whole[part] = {
        "command": f"python benchmarks/slides.py {part}" + (" FOLDER" if words else ""),
        "commit": git_commit(),
        "cores": os.cpu_count(),
        "machine": cpu_name(),
        "memory_of_this_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "found": found,
    }
    OUT.write_text(json.dumps(dict(sorted(whole.items())), indent=1) + "\n")


if __name__ == "__main__":
    parts = ("seams", "memory", "speed", "workers", "kills", "files")
    if len(sys.argv) < 2 or sys.argv[1] not in parts:
        sys.exit(__doc__)
    main(*sys.argv[1:])
