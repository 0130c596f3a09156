"""Downloads whose hash was computed on the very file; for all else, what to do by hand."""

from __future__ import annotations

from pathlib import Path

from nucleate.datasets.entry import DatasetCard
from nucleate.errors import InputError, optional


def fetch(name: str, card: DatasetCard, out: Path) -> tuple[list[Path], str]:
    """Fetch what may be fetched of a data set.

    Args:
        name: of the data set, for the instructions.
        card: of the data set.
        out: folder for the files.

    Returns:
        The files that are in `out` now and fit their hash; and what is left to do by hand.

    Raises:
        InputError: a download fails or does not fit its hash; nothing is left of it.
        NucleateError: pooch is not installed.
    """
    files = [_fetch_one(download.url, download.sha256, download.name, out) for download in
             card.downloads]  # fmt: skip
    if files:
        return files, ""
    if card.licence.startswith(("yours", "that of")):
        return [], f"{card.title}: there is nothing to download. {card.where}"
    parts = "; ".join(
        f"{part}: {pictures} pictures" + (f", {nuclei:,} nuclei" if nuclei else "")
        for part, (pictures, nuclei) in card.parts.items()
    )
    return [], (
        f"{card.title} is not downloaded by itself: no file of it was at hand to compute a hash "
        f"on, and nothing is fetched without.\n{card.where}\nLicence: {card.licence}\n"
        + (f"It must hold: {parts}\n" if parts else "")
        + f"Then check it with: nucleate data check {name} FOLDER_OR_ZIP"
    )


def _fetch_one(url: str, sha256: str, name: str, out: Path) -> Path:
    """Download one file, or take the one that is there and fits."""
    pooch = optional("pooch", "train")
    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=out))
    except Exception as error:  # servers, names and disks fail in many ways
        said = (" ".join(str(error).split()) or type(error).__name__)[:200].rstrip(".")
        raise InputError(f"{url}: cannot be fetched ({said}). Try again later.") from error
