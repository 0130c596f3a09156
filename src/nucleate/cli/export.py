"""nucleate export and package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nucleate.cli.options import (
    model_names,
)
from nucleate.cli.terminal import (
    answer,
    counted,
    say,
    show,
)


def export(
    result: Annotated[
        Path, typer.Argument(help="Folder written by nucleate segment, or one .nuclei.parquet.")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="coco, geojson, geojson.gz, csv, labels, ome-zarr, spatialdata, annotation-store."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="File to write. For several images, coco and csv make one file, other formats one "
            "each: name a folder, as FOLDER/.",
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Option(help="COCO file of the same images: write a COCO results list for it."),
    ] = None,
) -> None:
    """Convert a result to the format of another program.

    coco and csv write all images into one file.

    Examples:
      nucleate export out/slide.nuclei.parquet --to geojson.gz -o slide.geojson.gz
      nucleate export out/ --to csv -o all.csv
      nucleate export out/ --to coco -o results.json --truth annotations.json
    """
    from dataclasses import asdict

    from nucleate.results.convert import export_results

    done = export_results(result, to, out, truth)
    answer(file=out, **asdict(done))
    show(f"{done.nuclei} nuclei of {counted(done.images, 'image')} written to {out}")
    if done.left_out:
        say(f"{done.left_out} images are not in {truth} and were omitted")
    if truth is not None and done.without:
        say(f"{done.without} images of {truth} are not in {result}")


def package(
    model: Annotated[
        str,
        typer.Argument(
            help="Bundled model by name, model folder, or run folder.", autocompletion=model_names
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write (.zip).")],
    authors: Annotated[
        list[str] | None,
        typer.Option(
            "--author", help="Author of the model; repeatable. Bundled models name theirs."
        ),
    ] = None,
    cite: Annotated[
        list[str] | None,
        typer.Option("--cite", help="Reference with a DOI or an address; repeatable."),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", help="SPDX expression, if the model card states no licence."),
    ] = None,
) -> None:
    """Package a model for bioimage.io.

    Programs that support bioimage.io can then run its network.

    Examples:
      nucleate package mtl-small -o mtl-small.zip
      nucleate package runs/mine -o mine.zip --author "A. Smith" --cite "Smith 2026, https://..."
    """
    from nucleate.bioimageio import Origin, write_package

    inside = write_package(model, out, Origin(tuple(authors or ()), tuple(cite or ()), licence))
    answer(file=out, inside=inside)
    show(f"{out}: {', '.join(inside)}")
