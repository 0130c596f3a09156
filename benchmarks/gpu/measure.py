"""How fast is a GPU? The network by itself, batch by batch, and a slide from file to Parquet."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from benchmarks.gpu.check import example
from tests.synthetic_slide import Block, mirrored, write_slide

from nucleate import load_model
from nucleate.inference.pipeline import EngineOptions
from nucleate.inference.torch_backend import read_weights
from nucleate.models.card import DEFAULT_MODEL, bundled_models, find_model, read_card
from nucleate.models.families import build
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch

if TYPE_CHECKING:
    from benchmarks.gpu.run import Findings

MPP = 0.25
SHARE, SLIDE_SHARE = 0.6, 0.92  # of the time budget, until each part ends
TILE = 1024
MM2 = (TILE * MPP / 1000) ** 2  # of one tile
Step = Callable[[torch.Tensor], object]


def network(found: Findings) -> None:
    """Time each bundled network alone, pixels and maps on the device: no file, no decoding."""
    cuda = found.device == "cuda"
    for name in sorted(bundled_models(), key=lambda n: n != DEFAULT_MODEL):
        card = read_card(find_model(name))
        net = build(card.family, card.heads, card.arguments)
        net.load_state_dict(read_weights(find_model(name), card))
        net.eval().to(found.device)
        wide = net.to(memory_format=torch.channels_last)
        precisions = {"f32": None, "bf16": torch.bfloat16} | (
            {"f16": torch.float16} if cuda else {}
        )
        for precision, kind in precisions.items():
            for batch in (1, 4, 16, 64) if cuda else (1,):
                _network(found, f"{name}, {precision}, batch {batch}", _eager(wide, kind), batch)
        if not cuda:
            continue
        for batch in (1, 8):
            _network(found, f"{name}, f16, batch {batch}, CUDA graph",
                     _graphed(wide, torch.float16, batch), batch)  # fmt: skip
        plain = net.to(memory_format=torch.contiguous_format)
        _network(found, f"{name}, f16, batch 8, not channels_last",
                 _eager(plain, torch.float16, channels_last=False), 8)  # fmt: skip
        if name == DEFAULT_MODEL:
            started = time.perf_counter()
            compiled: Any = torch.compile(net.to(memory_format=torch.channels_last))
            step = _eager(compiled, torch.float16)
            _network(found, f"{name}, f16, batch 8, torch.compile", step, 8)
            found.put("network", "seconds to compile", round(time.perf_counter() - started, 1))


def _eager(net: Any, kind: torch.dtype | None, channels_last: bool = True) -> Step:
    def step(batch: torch.Tensor) -> object:
        image = batch.permute(0, 3, 1, 2)
        image = image if channels_last else image.contiguous()
        with torch.autocast(batch.device.type, kind, enabled=kind is not None):
            return net(image)

    return step


def _graphed(net: Any, kind: torch.dtype, size: int) -> Step:
    """Record the network once as a CUDA graph, and play it again for each batch."""
    held = torch.zeros((size, TILE, TILE, 3), dtype=torch.uint8, device="cuda")
    eager = _eager(net, kind)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):
            eager(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        maps = eager(held)

    def step(batch: torch.Tensor) -> object:
        held.copy_(batch)
        graph.replay()
        return maps

    return step


def _network(found: Findings, name: str, step: Step, batch: int) -> None:
    """Time one way: the median of several calls after two to warm up; skip it if memory lacks."""
    if found.left(SHARE) < 0:
        return
    cuda = found.device == "cuda"
    image = example()
    tile = torch.from_numpy(np.ascontiguousarray(image[:TILE, :TILE])).to(found.device)
    pixels = tile.repeat(batch, 1, 1, 1)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        times = []
        with torch.inference_mode():
            until = time.perf_counter() + (2.0 if cuda else 5.0)
            while len(times) < 4 or (len(times) < 30 and time.perf_counter() < until):
                started = time.perf_counter()
                step(pixels)
                if cuda:
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - started)
    except torch.cuda.OutOfMemoryError:
        found.put("network", name, "out of memory")
        torch.cuda.empty_cache()
        return
    row = {"seconds_per_mm2": round(float(np.median(times[2:])) / (batch * MM2), 5)}
    if cuda:
        row["gpu_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    found.put("network", name, row)


def slides(found: Findings) -> None:
    """Time a slide of tissue from file to Parquet, in this process, start-up taken out."""
    cuda = found.device == "cuda"
    folder = Path(tempfile.mkdtemp())
    try:
        image = mirrored(example()[:2048, :2048])
        block = Block(image, np.zeros(image.shape[:2], np.int32))
        sizes = (8_192, 24_576) if cuda else (2_048,)
        paths = [folder / f"{edge}.tif" for edge in sizes]
        for edge, path in zip(sizes, paths, strict=True):
            write_slide(path, edge, edge, block, lossless=True)  # read without imagecodecs
        jpeg = folder / "jpeg.svs"
        write_slide(jpeg, sizes[-1], sizes[-1], block)
        for label, options in _ways(cuda):
            if found.left(SLIDE_SHARE) < 0:
                return
            model = load_model(DEFAULT_MODEL, device=found.device, backend="torch",
                               precision="f16" if cuda else "f32")  # fmt: skip
            _slide(found, label, paths, model, options, folder)
            paths = paths[-1:]  # the first one has warmed up
            if cuda and label == "tile 2048, batch 4, 12 decoders":
                _slide(found, label + ", JPEG by OpenSlide", [jpeg], model, options, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _ways(cuda: bool) -> Iterator[tuple[str, EngineOptions]]:
    if not cuda:
        yield "1 decoding thread", EngineOptions()
        return
    yield "as by default", EngineOptions()
    for decoders in (12, 6):
        yield f"tile 2048, batch 4, {decoders} decoders", EngineOptions(2048, 4, 8, decoders)
    yield "tile 1536, batch 8, 12 decoders", EngineOptions(1536, 8, 8, 12)
    yield "tile 4096, batch 1, 12 decoders", EngineOptions(4096, 1, 8, 12)


def _slide(
    found: Findings, label: str, paths: list[Path], model: Any, options: EngineOptions,
    folder: Path,
) -> None:  # fmt: skip
    """Segment the small slide to warm up, then the largest; write down the second."""
    batch = BatchOptions(formats=(), engine=options, tissue_mask=False)
    row: dict[str, Any] = {}
    last = [0.0]

    def tick(*_: object) -> None:
        last[0] = time.perf_counter()

    for path in paths:
        with _watching(found.device) as busy:
            started = time.perf_counter()
            row = run_batch([path], folder / "out", model, batch, progress=tick)["sources"][0]
            ended = time.perf_counter()
    mm2 = row["width"] * row["height"] * row["mpp"] ** 2 / 1e6
    printed = {
        "mm2": round(mm2, 2),
        "nuclei": row["nuclei"],
        "seconds": row["seconds"],
        "seconds_per_mm2": round(row["seconds"] / mm2, 4),
        "stages_seconds": row["stages"],
        "tiles_seconds": round(last[0] - started, 2),
        "after_the_last_tile": round(ended - last[0], 2),
    }
    if found.device == "cuda":
        printed |= {
            "gpu_busy_share": round(float(np.mean(busy)) / 100, 3),
            "gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        }
    found.put("slides", label, printed)


@contextmanager
def _watching(device: str) -> Iterator[list[float]]:
    """Give a list that fills with how busy the GPU is, in percent, ten times a second."""
    busy: list[float] = []
    if device != "cuda":
        yield busy
        return
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            busy.append(float(torch.cuda.utilization()))

    watcher = threading.Thread(target=look, daemon=True)
    torch.cuda.reset_peak_memory_stats()
    watcher.start()
    try:
        yield busy
    finally:
        stop.set()
        watcher.join()
