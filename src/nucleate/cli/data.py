"""`nucleate data …`: list, check, inspect, convert, split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nucleate.cli.options import OptionsOption
from nucleate.cli.terminal import answer, counted, say, show, warn
from nucleate.errors import ConfigError, InputError, pick

app = typer.Typer(help="List, check, inspect, convert and split data sets.", no_args_is_help=True)


def _names() -> list[str]:
    from nucleate.datasets import DATASETS

    return sorted(DATASETS)


SourceArgument = Annotated[
    str,
    typer.Argument(
        help="Name of a data set (see 'data list'), or a folder of your own.",
        autocompletion=_names,
    ),
]
RootArgument = Annotated[
    Path | None, typer.Argument(help="Folder or zip file of the named data set.")
]


@app.command("list")
def list_() -> None:
    """List the data sets that nucleate reads.

    Example:
      nucleate data list
    """
    from dataclasses import asdict

    from nucleate.datasets import DATASETS

    answer(data_sets={name: asdict(dataset.card) for name, dataset in sorted(DATASETS.items())})
    for name, dataset in sorted(DATASETS.items()):
        card = dataset.card
        lines = [name, f"  {card.title}: {card.contents}"]
        if len(card.classes) > 1:
            lines.append(f"  classes: {', '.join(card.classes)}")
        lines += [
            f"  overlapping annotations: {card.overlaps}",
            f"  licence: {card.licence}",
            f"  cite: {card.citation}",
            f"  get it: {card.where}",
        ]
        show("\n".join(lines))


@app.command()
def check(
    source: SourceArgument,
    root: RootArgument = None,
    options: OptionsOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="JSON file for all findings.")
    ] = None,
) -> None:
    """Check a data set for errors, duplicates and leakage.

    Checks counts, sizes, ids, images without labels, and that no patient is in two parts.

    Example:
      nucleate data check monuseg "MoNuSeg 2018 Training Data.zip"
    """
    import json
    from dataclasses import asdict

    from nucleate.curation.check import check as check_entries
    from nucleate.datasets.shards import damaged_shards
    from nucleate.files import write_text

    name, card, entries = _entries(source, root, options)
    if out is not None:
        keep_outside(out, Path(source) if root is None else root)
    report = check_entries(entries, card)
    if name == "shards":
        report.problems += damaged_shards(Path(source) if root is None else root)
    if out is not None:
        write_text(out, json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    answer(**asdict(report))
    groups = len({entry.group for entry in entries})
    show(f"{report.images} images of {groups} groups, {report.nuclei} nuclei annotated")
    if report.part:
        show(f"complete: the counts are those of {card.title}, part {report.part!r}")
    for note in report.notes:
        show(f"note: {note}")
    for problem in report.problems:
        show(f"problem: {problem}")
    if report.problems:
        raise typer.Exit(3)


@app.command()
def inspect(
    source: SourceArgument,
    root: RootArgument = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for index.html and report.json.")
    ] = Path("report"),
    options: OptionsOption = None,
    split: Annotated[Path | None, typer.Option(help="Split file, to compare its parts.")] = None,
) -> None:
    """Measure a data set and write a page (extra 'data').

    Example:
      nucleate data inspect cryonuseg CryoNuSeg -o report/
    """
    from nucleate.curation.inspect import inspect_entries
    from nucleate.curation.inspect_page import write_report
    from nucleate.datasets.shards import damaged_shards
    from nucleate.datasets.splits import read_split
    from nucleate.errors import optional

    optional("matplotlib", "data")
    optional("scipy", "data")
    optional("jinja2", "data")
    name, card, entries = _entries(source, root, options)
    parts = None if split is None else read_split(split)
    if parts is not None and not parts.names() & {entry.name for entry in entries}:
        raise ConfigError(
            f"{split}: contains none of these images. Name the split file of this data set."
        )
    found = inspect_entries(entries, card, parts)
    if name == "shards":
        found.conflicts += damaged_shards(Path(source) if root is None else root)
    write_report(found, card, name, out)
    answer(page=out / "index.html", images=found.images, nuclei=found.nuclei)
    show(f"{found.images} images, {found.nuclei} nuclei; see {out / 'index.html'}")
    if found.unread:
        warn(f"{counted(found.unread, 'image')} cannot be read; the reasons are on the page")
        raise typer.Exit(3)


@app.command()
def convert(
    source: SourceArgument,
    root: RootArgument = None,
    to: Annotated[str, typer.Option(help="folder, coco, coco-polygons or shards.")] = "folder",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("converted"),
    options: OptionsOption = None,
) -> None:
    """Convert a data set to another format; labels stay exact.

    Example:
      nucleate data convert consep CoNSeP --to coco -o consep-coco/
    """
    from dataclasses import asdict

    from nucleate.curation.convert import convert as convert_entries

    _, card, entries = _entries(source, root, options)
    keep_outside(out, Path(source) if root is None else root)
    tally = convert_entries(entries, out, to)
    answer(out=out, **asdict(tally))
    show(f"{tally.images} images with {tally.nuclei} nuclei written to {out}")
    if tally.contested_px or tally.hidden:
        show(
            f"{tally.contested_px} pixels belong to more than one annotation, and "
            f"{tally.hidden} annotations have no pixels left: {card.overlaps}"
        )
    for problem in tally.problems:
        warn(f"warning: {problem}")


@app.command()
def split(
    recipe: Annotated[Path, typer.Argument(help="Recipe whose data to split.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Split file to write; with --scheme, a folder.")
    ],
    scheme: Annotated[
        str | None,
        typer.Option(
            help="kfold, official, histology-nucleiseg (CryoNuSeg), nuinsseg, leave-one-organ-out "
            "or leave-one-patient-out. By default, one validation part is drawn."
        ),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Folds, for kfold only. Default: 5.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="key.path=value: change the recipe.")
    ] = None,
) -> None:
    """Write the splits of a recipe as files, by patient.

    No patient is in two parts, and every file has a hash.

    Example:
      nucleate data split recipes/laptop.yaml --scheme kfold -o splits/ --set data.root=data
    """
    from nucleate.config import load_recipe
    from nucleate.datasets.loading import collect, list_sets
    from nucleate.datasets.schemes import SchemeOptions, split_by
    from nucleate.datasets.splits import write_split

    if folds is not None and scheme != "kfold":
        raise ConfigError(
            "data split: --folds requires --scheme kfold. Add the scheme, or omit --folds."
        )
    wanted = load_recipe(recipe, changes)
    if scheme is None:
        made = {out: collect(wanted.data, Path()).split}
    else:
        entries, _, _ = list_sets(wanted.data.sets, Path(wanted.data.root))
        how = SchemeOptions(
            5 if folds is None else folds, wanted.data.validation, wanted.data.split_seed
        )
        splits = split_by(scheme, list(entries.values()), how)
        made = {out / f"{name}.json": split for name, split in splits.items()}
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise ConfigError(f"{out}: already exists. Choose another -o, or remove it.")
    for path, part in made.items():
        write_split(path, part)
        sizes = ", ".join(f"{len(names)} {name}" for name, names in part.parts.items())
        show(f"{path}: {sizes}; sha256 {part.digest}")
        if part.mixes:
            say(f"{path}: {part.mixes}")
    answer(
        splits=[
            {"file": path, "sha256": part.digest, "parts": part.parts}
            for path, part in made.items()
        ]
    )


@app.command()
def slide(
    file: Annotated[Path, typer.Argument(help="Slide or image.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for label, macro image and colour profile."),
    ] = None,
) -> None:
    """Show size, resolution, levels and metadata of a slide.

    With -o, also writes its label, macro image and colour profile.

    Example:
      nucleate data slide slide.svs -o extras/
    """
    from nucleate.files import atomic
    from nucleate.readers.associated import read_extras
    from nucleate.results.images import write_png

    found = read_extras(file)
    source = found.source
    mpp = "unknown" if source.mpp is None else f"{source.mpp:.4g} um/px"
    levels = ", ".join(f"{down:g}" for down in source.downsamples)
    answer(
        name=source.name,
        width=source.width,
        height=source.height,
        mpp=source.mpp,
        downsamples=source.downsamples,
        origin_xy=source.origin_xy,
        associated={name: image.shape[:2] for name, image in found.associated.items()},
        colour_profile_bytes=None if found.icc is None else len(found.icc),
        metadata=found.metadata,
    )
    show(f"{source.name}: {source.width} × {source.height} pixels, {mpp}, levels {levels}")
    show(f"origin {source.origin_xy} in the file; read by {type(source).__name__}")
    for name, image in found.associated.items():
        show(f"{name}: {image.shape[1]} × {image.shape[0]} pixels")
        if out is not None:
            write_png(out / f"{file.stem}.{name}.png", image)
    show(f"colour profile: {'none' if found.icc is None else f'{len(found.icc)} bytes'}")
    if out is not None and found.icc is not None:
        with atomic(out / f"{file.stem}.icc") as temporary:
            temporary.write_bytes(found.icc)
    for key, value in sorted(found.metadata.items()):
        if not key.startswith("openslide."):  # redundant; --json has all
            show(f"  {key} = {' '.join(value.split())[:120]}")


def keep_outside(out: Path, source: Path | None) -> None:
    """Raise a `ConfigError` if the output would be inside its own source data."""
    if source is not None and out.resolve().is_relative_to(source.resolve()):
        raise ConfigError(f"{out}: is inside the data set. Choose a folder outside it.")


def _entries(source: str, root: Path | None, options: list[str] | None) -> tuple[str, Any, Any]:
    """Return name, card and entries of a named data set, or of your own folder."""
    from nucleate.datasets import DATASETS
    from nucleate.datasets.loading import list_entries
    from nucleate.options import parse_options

    name, place = source, root
    if root is None:
        if source in DATASETS and not Path(source).exists():
            raise ConfigError(
                f"{source}: the location of the data set is missing. Add its folder or zip file."
            )
        name, place = "folder", Path(source)
        if not place.exists():
            raise InputError(
                f"{source}: is neither a folder nor a known data set. List the names with nucleate "
                "data list."
            )
    card = pick(DATASETS, name, "data set").card
    parsed = parse_options(options)
    return name, card, list_entries(name, place or Path(), parsed)
