"""`nucleate view` and `nucleate serve`: view results in the browser."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from nucleate.cli.options import (
    BackendOption,
    DeviceOption,
    ModelOption,
    PrecisionOption,
    ThreadsOption,
)
from nucleate.cli.terminal import answer, say, show
from nucleate.errors import optional

PortOption = Annotated[
    int, typer.Option(min=0, max=65535, help="Port of the page; 0: any free one.")
]
OpenOption = Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")]


def view(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Images, slides, .nuclei.parquet files, folders of 'nucleate segment'."
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Option(
            help="Ground truth to compare the result with: label image or .nuclei.parquet."
        ),
    ] = None,
    port: PortOption = 0,
    open_browser: OpenOption = True,
) -> None:
    """View images, slides and nuclei in the browser.

    Images and results are paired by name; two results of one image are shown side by side. The
    image of a result is looked up beside it and where its summary.json states. Only the sources
    named here are served, and only to this machine.

    Examples:
      nucleate view out/
      nucleate view slide.svs out/slide.nuclei.parquet
      nucleate view tile.png a/tile.nuclei.parquet b/tile.nuclei.parquet
      nucleate view tile.png out/tile.nuclei.parquet --truth tile.labels.tif
    """
    optional("fastapi", "view")
    from nucleate.viewer.contents import open_contents, scratch_folder
    from nucleate.viewer.serving import serve_until_stopped

    with scratch_folder() as scratch:
        shown = open_contents(paths, truth, Path(scratch), say)
        serve_until_stopped(shown, None, port, Path(scratch) if open_browser else None, _announce)


def serve(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Images and results to show at the start, as in 'nucleate view'."),
    ] = None,
    model: ModelOption = "mtl-small",
    device: DeviceOption = "auto",
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = 0,
    megabytes: Annotated[int, typer.Option(min=1, help="Largest file, in MB.")] = 64,
    megapixels: Annotated[int, typer.Option(min=1, help="Largest image, in megapixels.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, help="Longest time per image.")] = 600.0,
    port: PortOption = 0,
    open_browser: OpenOption = True,
) -> None:
    """Segment images that you drop on a page in the browser.

    Images are segmented one at a time; others wait. Nothing is stored: the last few images stay in
    memory until the server stops.

    Example:
      nucleate serve --megapixels 50
    """
    optional("fastapi", "view")
    from nucleate.inference.loading import load_model
    from nucleate.viewer.contents import open_contents, scratch_folder
    from nucleate.viewer.queue import Limits, Queue
    from nucleate.viewer.serving import serve_until_stopped

    with scratch_folder() as scratch:
        shown = open_contents(paths, None, Path(scratch), say) if paths else []
        ready = load_model(model, device, backend, precision, threads)
        limits = Limits(megabytes, megapixels, seconds)
        queue = Queue(ready, limits, Path(scratch), time.monotonic)
        serve_until_stopped(shown, queue, port, Path(scratch) if open_browser else None, _announce)


def _announce(address: str) -> None:
    answer(address=address)
    show(address)
    say("Ctrl+C stops it.")
