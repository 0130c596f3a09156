"""Does a GPU find the same nuclei? Precisions against the CPU, tiles, a run killed and resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image
from tests.synthetic_slide import Block, mirrored, write_slide

from nucleate import load_model, segment
from nucleate.evaluation.metrics.instance import matches
from nucleate.evaluation.metrics.matching import overlap
from nucleate.evaluation.score import score_labels
from nucleate.geometry.outlines import paint
from nucleate.inference.backends import Model
from nucleate.models.card import DEFAULT_MODEL, EXAMPLE, bundled_models
from nucleate.types import Int32, UInt8

if TYPE_CHECKING:
    from benchmarks.gpu.run import Findings

IMAGES = Path(__file__).parents[2] / ".gpu" / "images"
MPP = 0.25
SHARE = 0.3  # of the time budget, until the comparisons end
Annotated = tuple[UInt8, Int32 | None]


def images() -> list[Annotated]:
    """Return the packed validation images with their ground truth; else the bundled example."""
    found: list[Annotated] = []
    for path in sorted(IMAGES.glob("*.jpg")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        labels = cv2.imread(str(path.with_suffix(".labels.png")), cv2.IMREAD_UNCHANGED)
        found.append((image, labels.astype(np.int32)))
    return found or [(example()[:1024, :1024], None)]


def example() -> UInt8:
    """Return the bundled example enlarged to 0.25 um/px."""
    small = np.asarray(Image.open(EXAMPLE).convert("RGB"))  # needs no imagecodecs
    return cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)


def labels_of(image: UInt8, model: Model, tile_px: int = 2048) -> Int32:
    """Return the label image of what a model finds."""
    nuclei = segment(image, model, MPP, tile_px=tile_px)
    return paint(nuclei, image.shape[:2])


def same(base: Int32, other: Int32) -> float:
    """Return the share of nuclei of two label images that are equal at an IoU above 0.9."""
    count = int(base.max()) + int(other.max())
    return 2 * matches(overlap(base, other), 0.9)[0] / count if count else 1.0


def engines_and_tiles(found: Findings) -> None:
    """Compare each precision on the device with f32 on the CPU, and tiles with the whole image."""
    cuda = found.device == "cuda"
    annotated = images() if cuda else images()[:1]
    precisions = ("f32", "bf16", "f16") if cuda else ("bf16",)
    for name in sorted(bundled_models(), key=lambda n: n != DEFAULT_MODEL):
        base_model = load_model(name, device="cpu", backend="torch", precision="f32")
        base = [labels_of(image, base_model) for image, _ in annotated]
        for precision in precisions:
            if found.left(SHARE) < 0:
                return
            model = load_model(name, device=found.device, backend="torch", precision=precision)
            drawn = [labels_of(image, model) for image, _ in annotated]
            tiled = [labels_of(image, model, 512) for image, _ in annotated]
            found.put("check", f"{name}, {precision}", {
                "images": len(annotated),
                "nuclei": sum(int(labels.max()) for labels in drawn),
                "nuclei_cpu_f32": sum(int(labels.max()) for labels in base),
                "same_as_cpu_f32": _mean(same(a, b) for a, b in zip(base, drawn, strict=True)),
                "aji_difference": _aji_difference(annotated, base, drawn),
                "tiled_same_as_whole": _mean(same(a, b) for a, b in zip(drawn, tiled, strict=True)),
            })  # fmt: skip


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), 5)


def _aji_difference(
    annotated: list[Annotated], base: list[Int32], other: list[Int32]
) -> float | None:
    """Return mean AJI of `other` minus that of `base`; None without ground truth."""
    rows = [
        score_labels(truth, b).metrics["aji"] - score_labels(truth, a).metrics["aji"]
        for (_, truth), a, b in zip(annotated, base, other, strict=True)
        if truth is not None
    ]
    return round(float(np.mean(rows)), 5) if rows else None


def killed_and_resumed(found: Findings) -> None:
    """Segment a slide, kill the process once units are written, resume, compare the results."""
    if found.left() < (45 if found.device == "cuda" else 20):
        return
    folder = Path(tempfile.mkdtemp())
    try:
        image = mirrored(example()[:2048, :2048])
        block = Block(image, np.zeros(image.shape[:2], np.int32))
        high = 16_384 if found.device == "cuda" else 1_024
        write_slide(folder / "slide.svs", 16_384, high, block)
        whole = _segmented(folder, "whole", found.device, kill=False)
        resumed = _segmented(folder, "resumed", found.device, kill=True)
        found.put("check", "killed and resumed", {
            "nuclei": whole["nuclei"],
            "nuclei_resumed": resumed["nuclei"],
            "units_found_again": resumed["notes"],
            "same_bytes": whole["sha256"] == resumed["sha256"],
        })  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _segmented(folder: Path, name: str, device: str, kill: bool) -> dict[str, Any]:
    out = folder / name
    command = [sys.executable, "-m", "nucleate", "segment", str(folder / "slide.svs"), "-o",
               str(out), "--device", device, "--backend", "torch"]  # fmt: skip
    if kill:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and not list(out.glob(".slide.units/unit-*.parquet")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        command.append("--resume")
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    row = json.loads((out / "summary.json").read_text())["sources"][0]
    table = (out / "slide.nuclei.parquet").read_bytes()
    return {**row, "sha256": hashlib.sha256(table).hexdigest()}
