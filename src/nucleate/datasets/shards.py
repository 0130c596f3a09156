"""Shards: prepared images as arrays in a few `.npz` files, with a manifest and hashes.

`manifest.json` lists the images. Image i of a shard is stored as `i.image`, `i.labels`,
`i.classes`, `i.ignore` and, if requested, target maps as `i.distance` and so on. Scaled images are
float32 and are converted back to exactly their original bytes; other programs read the arrays with
`numpy.load`.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nucleate.annotations.label_images import as_labels
from nucleate.datasets.base import DatasetCard, Entry, check_name, open_root
from nucleate.datasets.test_sets import is_official_test
from nucleate.errors import InputError
from nucleate.files import PathLike, read_bytes, sha256, write_text
from nucleate.resolution import plausible_mpp
from nucleate.targets import encode
from nucleate.types import Float32, Sample, UInt8

CARD = DatasetCard(
    title="Shards",
    contents="Prepared images as arrays, as written by nucleate prepare and nucleate data convert.",
    licence="that of the data they were made from",
    citation="that of the data they were made from",
    where="Make them with: nucleate prepare, or nucleate data convert --to shards",
)

MANIFEST = "manifest.json"
FORMAT = "nucleate-shards-1"
_SHARD_BYTES = 256 << 20
_FACTS = ("name", "group", "mpp", "organ", "species", "centre", "class_names")


@dataclass(frozen=True, slots=True)
class Scaling:
    """Conversion of an image's bytes to the stored numbers.

    Attributes:
        kind: `none` stores bytes; `unit` divides by 255; `zscore` then subtracts `mean` and divides
            by `sd`.
        mean: means of red, green and blue, in 0..1.
        sd: standard deviations of red, green and blue, in 0..1.
    """

    kind: str = "none"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    sd: tuple[float, ...] = (1.0, 1.0, 1.0)

    def apply(self, image: UInt8) -> UInt8 | Float32:
        """Convert an image to the numbers to store, uint8 or float32 (H, W, 3)."""
        if self.kind == "none":
            return image
        unit = image.astype(np.float32) / np.float32(255)
        return ((unit - np.array(self.mean, np.float32)) / np.array(self.sd, np.float32)).astype(
            np.float32
        )

    def undo(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Convert stored numbers back to the bytes of the image.

        Example:
            >>> scaling = Scaling("zscore", (0.5, 0.4, 0.6), (0.2, 0.2, 0.1))
            >>> image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
            >>> bool((scaling.undo(scaling.apply(image)) == image).all())
            True
        """
        if self.kind == "none":
            return stored
        if stored.dtype != np.float32 or stored.ndim != 3 or stored.shape[2] != 3:
            raise ValueError(f"a normalised image of {stored.dtype} {stored.shape}")
        scaled = cv2.multiply(stored, (*(255 * s for s in self.sd), 0.0))
        levels = cv2.add(scaled, (*(255 * m for m in self.mean), 0.0), dtype=cv2.CV_8U)
        return np.asarray(levels)  # rounded and clipped to 0..255


def entries(root: Path) -> list[Entry]:
    """List the images of a folder of shards, sorted by name.

    Args:
        root: folder or zip file that contains `manifest.json`.

    Raises:
        InputError: the manifest is missing or damaged, or names missing files.
    """
    base = open_root(root)
    path = base / MANIFEST
    if not path.is_file():
        raise InputError(f"{root}: contains no {MANIFEST}. {CARD.where}")
    manifest = read_manifest(path)
    scaling = Scaling(**manifest["scaling"])
    found = []
    for record in manifest["images"]:
        file = base / record["shard"]
        if record["shard"] not in manifest["files"] or not file.is_file():
            raise InputError(
                f"{root}: the shard {record['shard']!r} is missing. Write the shards again."
            )
        read = _reader(record, file, scaling)
        organ = record["organ"]
        test = is_official_test(record["name"])
        found.append(Entry(record["name"], record["group"], read, organ, test))
    return sorted(found, key=lambda entry: entry.name)


def read_manifest(path: PathLike) -> dict[str, Any]:
    """Read the manifest of a folder of shards.

    Raises:
        InputError: not JSON, or not a manifest of this version.
    """
    try:
        content = json.loads(read_bytes(path, 1 << 28))
        if content["format"] != FORMAT:
            raise ValueError(f"the format {str(content['format'])[:40]!r}")
        scaling = Scaling(**content["scaling"])
        numbers = np.array([scaling.mean, scaling.sd], np.float64).reshape(2, 3)
        if scaling.kind not in ("none", "unit", "zscore") or not np.isfinite(numbers).all():
            raise ValueError("an invalid scaling")
        names = [str(record["name"]) for record in content["images"]]
        if len(set(names)) < len(names):
            raise ValueError("a duplicate name")
        for record in content["images"]:
            texts = [record[key] for key in ("name", "group", "shard")]
            texts += [record[key] or "" for key in ("organ", "species", "centre")]
            texts += list(record["class_names"])
            if not all(isinstance(text, str) for text in texts) or record["index"] < 0:
                raise TypeError("a fact of the wrong type")
            check_name(record["name"])
            record["mpp"]  # may be null, but must be present
            if "/" in record["shard"]:
                raise ValueError("a shard outside the folder")
        if not all(isinstance(digest, str) for digest in dict(content["files"]).values()):
            raise TypeError("a hash that is not text")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = f"{type(error).__name__}: {error}"[:160].rstrip(".")
        raise InputError(
            f"{path}: not a manifest of shards ({said}). Write the shards again."
        ) from error
    return content  # type: ignore[no-any-return]


def damaged_shards(root: Path) -> list[str]:
    """Return a sentence for each shard that does not match its hash."""
    base = open_root(root)
    found = []
    for name, digest in read_manifest(base / MANIFEST)["files"].items():
        data = read_bytes(base / name) if (base / name).is_file() else b""
        if hashlib.sha256(data).hexdigest() != digest:
            found.append(f"{name}: does not match the hash in the manifest")
    return found


def _reader(record: dict[str, Any], file: PathLike, scaling: Scaling) -> Callable[[], Sample]:
    def read() -> Sample:
        number = record["index"]
        try:
            with _seekable(file) as handle, np.load(handle, allow_pickle=False) as shard:
                arrays = {
                    key: shard[f"{number}.{key}"]
                    for key in ("image", "labels", "classes", "ignore")
                    if f"{number}.{key}" in shard
                }
            image = scaling.undo(arrays["image"])
        except InputError:
            raise
        except Exception as error:  # damaged bytes raise any error
            said = (" ".join(str(error).split()) or type(error).__name__)[:120].rstrip(".")
            raise InputError(f"{file}: damaged ({said}). Write the shards again.") from error
        labels = arrays.get("labels")
        return Sample(
            image=image,
            labels=None if labels is None else as_labels(file, labels),
            name=str(record["name"]),
            group=str(record["group"]),
            mpp=plausible_mpp(record["mpp"]),
            classes=arrays.get("classes"),
            class_names=tuple(record["class_names"]),
            ignore=arrays.get("ignore"),
            organ=record["organ"],
            species=record["species"],
            centre=record["centre"],
        )

    return read


def _seekable(file: PathLike) -> IO[bytes]:
    return open(file, "rb") if isinstance(file, Path) else io.BytesIO(read_bytes(file))


def write_shards(
    samples: Iterable[Sample],
    out: Path,
    scaling: Scaling | None = None,
    about: dict[str, Any] | None = None,
    maps: tuple[str, ...] = (),
) -> int:
    """Write samples as shards into an existing, empty folder.

    Args:
        samples: read one by one; at most one shard of them is in memory.
        out: the folder.
        scaling: scaling of the images.
        about: processing of the images, for the manifest.
        maps: heads whose target maps are stored too, for other programs.

    Returns:
        The number of images.

    Raises:
        InputError: two images have one name.
        ConfigError: no such head.
    """
    how = scaling or Scaling()
    records: list[dict[str, Any]] = []
    files: dict[str, str] = {}
    for shard, batch in enumerate(_batches(samples, how)):
        name = f"shard-{shard:04d}.npz"
        arrays: dict[str, NDArray[Any]] = {}
        for index, sample in enumerate(batch):
            arrays[f"{index}.image"] = how.apply(sample.image)
            for key in ("labels", "classes", "ignore"):
                value = getattr(sample, key)
                if value is not None:
                    arrays[f"{index}.{key}"] = value
            if sample.labels is not None:
                for head, target in encode(sample.labels, list(maps)).items():
                    arrays[f"{index}.{head}"] = target
            facts = {key: getattr(sample, key) for key in _FACTS}
            records.append({**facts, "shard": name, "index": index})
        with open(out / name, "wb") as handle:
            np.savez(handle, **arrays)  # type: ignore[arg-type]
        files[name] = sha256(out / name)
    counts = Counter(record["name"] for record in records)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"Two images have the name {twice!r}. Rename one of them.")
    manifest = {
        "format": FORMAT, "scaling": asdict(how), "about": about or {}, "files": files,
        "images": records,
    }  # fmt: skip
    write_text(out / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    return len(records)


def _batches(samples: Iterable[Sample], scaling: Scaling) -> Iterator[list[Sample]]:
    """Yield samples in batches of at most about 256 MiB."""
    batch: list[Sample] = []
    size = 0
    for sample in samples:
        pixels = sample.image.shape[0] * sample.image.shape[1]
        need = pixels * ((3 if scaling.kind == "none" else 12) + 5)
        if batch and size + need > _SHARD_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(sample)
        size += need
    if batch:
        yield batch
