"""`nucleate prepare`: prepare a data set for training, in nucleate or elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nucleate.cli.data import keep_outside
from nucleate.cli.options import OptionsOption
from nucleate.cli.terminal import answer, say, show
from nucleate.errors import ConfigError

if TYPE_CHECKING:
    from nucleate.config import StainConfig


def prepare(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Folder or zip file of the data.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="None")],
    data: Annotated[str, typer.Option(help="Name of the data set, see 'data list'.")] = "folder",
    options: OptionsOption = None,
    split: Annotated[
        Path | None,
        typer.Option(help="Split file: one folder per part; fit on training images only."),
    ] = None,
    stain: Annotated[
        str, typer.Option(help="none, histogram, macenko, reinhard, vahadane.")
    ] = "none",
    stain_file: Annotated[
        Path | None, typer.Option(help="Normaliser of 'stain fit' to use instead.")
    ] = None,
    references: Annotated[int, typer.Option(min=1, help="Number of stain reference images.")] = 1,
    pieces: Annotated[
        Literal["split", "largest", "keep"],
        typer.Option(help="Labels in several pieces: split them, keep the largest, or keep all."),
    ] = "split",
    min_area: Annotated[int, typer.Option(min=0, help="Smallest label to keep, in pixels.")] = 10,
    fill_holes: Annotated[bool, typer.Option(help="Fill holes in labels.")] = True,
    craft: Annotated[bool, typer.Option(help="Fix the labels.")] = True,
    mpp: Annotated[float | None, typer.Option(help="Micrometres per pixel to resample to.")] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT to resize to, instead of --mpp.")
    ] = None,
    copies: Annotated[int, typer.Option(min=0, help="Augmented copies per training image.")] = 0,
    scale: Annotated[
        Literal["none", "unit", "zscore"],
        typer.Option(help="Scaling of pixel values: none, unit or zscore."),
    ] = "none",
    maps: Annotated[
        str, typer.Option(help="Target maps to store: foreground,distance,boundary,…")
    ] = "",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the copies.")] = 1,
) -> None:
    """Prepare training data once and write it as shards.

    Normalises stain, fixes labels, resamples, augments and scales; writes a manifest.

    Example:
      nucleate prepare CryoNuSeg ready/ --data cryonuseg --stain macenko --scale zscore
    """
    from nucleate.curation.clean_labels import CraftOptions
    from nucleate.curation.prepare import PrepareOptions
    from nucleate.curation.prepare import prepare as prepare_entries
    from nucleate.datasets.loading import list_entries
    from nucleate.datasets.splits import read_split
    from nucleate.options import parse_options
    from nucleate.resolution import check_mpp

    wanted = PrepareOptions(
        stain=_stain_config(stain, stain_file, references),
        craft=CraftOptions(pieces, min_area, fill_holes) if craft else None,
        mpp=None if mpp is None else check_mpp(mpp),
        size=None if size is None else _parse_size(size),
        copies=copies,
        seed=seed,
        scale=scale,
        maps=tuple(name.strip() for name in maps.split(",") if name.strip()),
    )
    keep_outside(out, source)
    entries = list_entries(data, source, parse_options(options))
    parts = None if split is None else read_split(split)
    written = prepare_entries(entries, out, wanted, parts, say)
    answer(out=out, images=written)
    show(f"{', '.join(f'{n} {part}' for part, n in written.items())} images written to {out}")


def _stain_config(method: str, fitted: Path | None, references: int) -> StainConfig:
    """Return the stain normalisation that the options ask for."""
    from nucleate.config import StainConfig
    from nucleate.stain.normalise import METHODS, read_normaliser

    if fitted is not None and method != "none":
        raise ConfigError("prepare: --stain and --stain-file exclude each other. Omit one of them.")
    if method not in ("none", *METHODS):
        raise ConfigError(
            f"--stain {method}: unknown method. Choose one of none, {', '.join(sorted(METHODS))}."
        )
    if fitted is not None:
        method = read_normaliser(fitted).method
    content = {"method": method, "references": references, "fitted": fitted and str(fitted)}
    return StainConfig.model_validate(content)


def _parse_size(text: str) -> tuple[int, int]:
    """Parse `WIDTHxHEIGHT` to (height, width)."""
    found = re.fullmatch(r"(\d{1,6})[x×](\d{1,6})", text)
    if not found:
        raise ConfigError(f"--size {text!r}: write it as WIDTHxHEIGHT, for example 512x512.")
    return int(found.group(2)), int(found.group(1))
