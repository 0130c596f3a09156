"""`nucleate stain …`: select a reference, fit, apply, preview."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nucleate.cli.terminal import answer, say, show, warn
from nucleate.errors import InputError
from nucleate.files import keep_apart

app = typer.Typer(
    help="Fit, apply and preview stain normalisation.",
    no_args_is_help=True,
)

SourcesArgument = Annotated[list[str], typer.Argument(help="Images, folders, globs.")]
CountOption = Annotated[
    int, typer.Option("--references", "-k", min=1, help="Number of reference images.")
]


@app.command()
def select(
    sources: SourcesArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for ranking.csv and ranking.png.")
    ] = Path("stain-reference"),
    references: CountOption = 1,
    min_tissue: Annotated[
        float, typer.Option(min=0, max=1, help="Smallest accepted share of tissue.")
    ] = 0.5,
    max_clipped: Annotated[
        float, typer.Option(min=0, max=1, help="Largest accepted share of clipped tissue.")
    ] = 0.05,
    drop_focus: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the least sharp images to drop.")
    ] = 0.1,
) -> None:
    """Rank images as stain references, with reasons for rejection.

    Example:
      nucleate stain select training/images -o stain-reference/
    """
    from nucleate.results.images import write_png
    from nucleate.stain.preview import ranking_sheet, write_ranking
    from nucleate.stain.reference import Criteria, examine
    from nucleate.stain.reference import select as rank

    paths = _images(sources, for_fitting=True)
    described = []
    for name, path in paths.items():
        try:
            described.append(examine(name, _read(path)))
        except InputError as error:
            if len(paths) == 1:
                raise
            say(f"omitted: {error}")
    ranking = rank(described, references, Criteria(min_tissue, max_clipped, drop_focus))
    write_ranking(out / "ranking.csv", ranking)
    shown = ranking[:24]
    if len(ranking) > 24:  # show the best, and the first rejected ones
        shown = ranking[:16] + [c for c in ranking[16:] if c.rejected][:8]
    write_png(out / "ranking.png", ranking_sheet([(c, _read(paths[c.name])) for c in shown]))
    answer(
        ranking=out / "ranking.csv",
        candidates=[
            {"image": paths[c.name], "chosen": c.chosen, "rejected": c.rejected} for c in ranking
        ],
    )
    for candidate in ranking:
        if candidate.chosen:
            show(f"{paths[candidate.name]}")
    rejected = sum(bool(c.rejected) for c in ranking)
    say(f"{len(ranking)} images, {rejected} rejected; the reasons are in {out / 'ranking.csv'}")


@app.command()
def fit(
    sources: SourcesArgument,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="JSON file for the fitted normaliser.")
    ] = Path("stain.json"),
    method: Annotated[
        str, typer.Option(help="histogram, macenko, reinhard, vahadane.")
    ] = "macenko",
    references: Annotated[
        int | None,
        typer.Option(
            "--references", "-k", min=1, help="Choose this many of the images as references."
        ),
    ] = None,
    blend: Annotated[float, typer.Option(help="Strength: 0 changes nothing, 1 is full.")] = 1.0,
    space: Annotated[
        str, typer.Option(help="Colour space of the method histogram: rgb, lab or stains.")
    ] = "rgb",
    as_published: Annotated[
        bool, typer.Option("--as-published", help="Treat glass as tissue, as published.")
    ] = False,
) -> None:
    """Fit a stain normaliser to reference images.

    Uses all named images, or with -k the best k of them.

    Example:
      nucleate stain fit reference.png --method macenko -o stain.json
    """
    from nucleate.stain.normalise import fit as fit_normaliser
    from nucleate.stain.normalise import write_normaliser
    from nucleate.stain.reference import examine
    from nucleate.stain.reference import select as rank

    paths = _images(sources, for_fitting=True)
    keep_apart(out, *paths.values())
    if references is not None:
        ranking = rank((examine(n, _read(path)) for n, path in paths.items()), references)
        chosen = {c.name for c in ranking if c.chosen}
        paths = {name: path for name, path in paths.items() if name in chosen}
    images = {name: _read(path) for name, path in paths.items()}
    write_normaliser(out, fit_normaliser(images, method, blend, space, as_published))
    answer(file=out, method=method, references=list(images))
    show(f"{out}: {method}, reference {', '.join(images)}")


@app.command()
def apply(
    sources: SourcesArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the images (PNG).")],
    stain: Annotated[Path, typer.Option(help="File of 'stain fit'.")] = Path("stain.json"),
) -> None:
    """Normalise the stain of images to the reference.

    Lists images that are left unchanged.

    Example:
      nucleate stain apply images/ --stain stain.json -o normalised/
    """
    from nucleate.errors import NucleateError
    from nucleate.results.images import write_png
    from nucleate.stain.normalise import read_normaliser

    normaliser = read_normaliser(stain)
    paths = _images(sources)
    for name, path in paths.items():
        keep_apart(out / f"{name}.png", path)
    reasons: dict[str, str] = {}
    for name, path in paths.items():
        try:
            image = _read(path)
            transform = normaliser.adapt(image)
            write_png(out / f"{name}.png", transform.apply(image))
        except NucleateError as error:
            reasons[str(path)] = str(error)
            if len(reasons) == len(paths):
                raise
            warn(str(error))
            continue
        if transform.note:
            say(f"{path}: {transform.note}")
    written = len(paths) - len(reasons)
    answer(out=out, images=written, failed=reasons)
    show(f"{written} images written to {out}")
    if reasons:
        raise typer.Exit(3)


@app.command()
def preview(
    sources: SourcesArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Image to write (PNG).")] = Path(
        "stain-preview.png"
    ),
    reference: Annotated[
        Path | None, typer.Option(help="Reference image. Default: the best of the sources.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=32, help="Images to show.")] = 6,
) -> None:
    """Show images beside the results of all stain methods.

    Example:
      nucleate stain preview images/ -o stain-preview.png
    """
    from nucleate.results.images import write_png
    from nucleate.stain.preview import preview_sheet
    from nucleate.stain.reference import examine
    from nucleate.stain.reference import select as rank

    paths = _images(sources)
    keep_apart(out, reference, *paths.values())
    if reference is None:
        ranking = rank(examine(name, _read(path)) for name, path in paths.items())
        reference = paths[ranking[0].name]
    step = max(1, len(paths) // count)
    images = {name: _read(path) for name, path in list(paths.items())[::step][:count]}
    sheet, notes = preview_sheet(images, reference.stem, _read(reference))
    write_png(out, sheet)
    for note in notes:
        say(note)
    answer(file=out, images=list(images), reference=reference, notes=notes)
    show(f"{out}: {len(images)} images, reference {reference}")


def _images(sources: list[str], for_fitting: bool = False) -> dict[str, Path]:
    """Return the images of files, folders and globs, by output name."""
    from nucleate.datasets.test_sets import is_official_test
    from nucleate.slides.find_sources import expand_sources, result_stems

    paths = {stem: Path(path) for path, stem in result_stems(expand_sources(sources)).items()}
    for path in paths.values():
        if for_fitting and is_official_test(path.stem):
            raise InputError(
                f"{path}: is an official test image, which must not be used for fitting or "
                "selection. Name training images."
            )
    return paths


def _read(path: Path) -> Any:  # noqa: ANN401
    """Read an image."""
    from nucleate.readers.images import IMAGES, read_image

    if path.suffix.lower() not in IMAGES:
        raise InputError(f"{path}: is a slide, not an image. Export a tile of it and name that.")
    return read_image(path)[0]
