"""Store nuclei as GeoParquet: one row per nucleus, row groups of nearby nuclei.

The metadata of a file make it self-contained: the pixel grid, the names of the classes, and how it
was made.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleate.errors import InputError, explain_os_error
from nucleate.files import atomic
from nucleate.readers.limits import check_rows
from nucleate.results.arrow import as_numpy, from_table, to_table
from nucleate.types import Frame, Instances

_FACTS = b"nucleate"
_COORDINATES = (
    "pixels of level 0, x to the right and y down from the corner of the image; the image "
    "begins at origin_xy of the file's level 0"
)
_LARGEST = 10_000_000  # limit of an edge in pixels: more than any scanner makes


def _foreign(path: Path) -> InputError:
    return InputError(f"{path}: was not written by this version of nucleate. Segment again.")


@dataclass(frozen=True, slots=True)
class NucleiFile:
    """A file of nuclei, read row group by row group.

    Attributes:
        path: path of the file.
        frame: the pixel grid.
        class_names: names of the classes.
        facts: other metadata: source, how the file was made.
        count: number of nuclei.
        kept: the nuclei if they are also in memory, to avoid reading them again.
    """

    path: Path
    frame: Frame
    class_names: tuple[str, ...]
    facts: dict[str, Any]
    count: int
    kept: Instances | None = None

    @property
    def id_space(self) -> uuid.UUID:
        """Namespace of the UUIDs of nuclei: the same result gives the same ids."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"nucleate:{self.facts.get('source')}")

    def groups(self) -> Iterator[Instances]:
        """Yield the nuclei, row group by row group."""
        if self.kept is not None:
            yield self.kept
            return
        for table in self.tables():
            yield self._nuclei(table)

    def tables(self) -> Iterator[Any]:
        """Yield the rows as pyarrow tables, row group by row group."""
        with self._open() as file:
            for i in range(file.num_row_groups):
                yield file.read_row_group(i)

    def group(self, number: int) -> Instances:
        """Return the nuclei of one row group; empty if there is no such group."""
        if self.kept is not None:
            return self.kept if number == 0 else Instances.empty(self.frame)
        with self._open() as file:
            if number >= file.num_row_groups:
                return Instances.empty(self.frame)
            return self._nuclei(file.read_row_group(number))

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open the file, and turn errors of damaged files into an `InputError`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with open(self.path, "rb") as raw, pq.ParquetFile(raw) as file:
                yield file
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise InputError(f"{self.path}: is damaged. Segment again.") from error
        except OSError as error:
            if error.filename or error.errno is not None:  # a system error
                raise
            raise InputError(f"{self.path}: is damaged. Segment again.") from error

    def checked(self) -> Iterator[Any]:
        """Yield the rows like `tables`, after checking their content."""
        for table in self.tables():
            self._nuclei(table)
            yield table

    def _nuclei(self, table: Any) -> Instances:  # noqa: ANN401
        import shapely

        wrong = (ValueError, LookupError, TypeError, AttributeError, shapely.errors.ShapelyError)
        try:
            return from_table(table, self.frame, self.class_names)
        except (InputError, *wrong) as error:
            raise _foreign(self.path) from error

    def spans(self) -> list[tuple[float, float]]:
        """Return the vertical extent (top, bottom) of the nuclei in each row group, in pixels."""
        if self.kept is not None:
            return [(0.0, float(self.frame.height))]
        spans = []
        with self._open() as file:
            names = [file.metadata.schema.column(i).path for i in range(file.metadata.num_columns)]
            low, high = names.index("bbox.ymin"), names.index("bbox.ymax")
            for i in range(file.num_row_groups):
                group = file.metadata.row_group(i)
                a, b = group.column(low).statistics, group.column(high).statistics
                if group.num_rows and a is not None and b is not None:
                    spans.append((float(a.min or 0.0), float(b.max or 0.0)))
                else:
                    spans.append((0.0, 0.0))
        return spans

    def column(self, name: str) -> Any:  # noqa: ANN401
        """Return one column of numbers as an array."""
        if self.kept is not None and name in self.kept.features:
            return self.kept.features[name]
        with self._open() as file:
            return file.read(columns=[name])[name].to_numpy()

    def leaves(self, paths: Sequence[str]) -> Iterator[list[Any]]:
        """Yield columns as arrays, row group by row group; `bbox.xmin` is a side of the boxes."""
        with self._open() as file:
            for i in range(file.num_row_groups):
                table = file.read_row_group(i, columns=list(paths)).flatten()
                yield [as_numpy(table[path]) for path in paths]

    def numeric_columns(self) -> list[str]:
        """Return the names of all numeric columns except the id."""
        import pyarrow.types as kinds

        with self._open() as file:
            schema = file.schema_arrow
        return [
            field.name
            for field in schema
            if field.name != "id"
            and (kinds.is_floating(field.type) or kinds.is_integer(field.type))
        ]

    def read(self) -> Instances:
        """Return all nuclei at once."""
        return Instances.concatenate(list(self.groups()), self.frame)


def open_nuclei(path: str | Path) -> NucleiFile:
    """Open a .nuclei.parquet; `read` returns all nuclei, `groups` yields them part by part.

    Args:
        path: file written by `nucleate segment`.

    Raises:
        InputError: the file is missing, damaged, or not written by this version of nucleate.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, but a file was expected. Pass a .nuclei.parquet.")
    try:
        with open(path, "rb") as raw, pq.ParquetFile(raw) as file:
            facts = json.loads(file.schema_arrow.metadata[_FACTS])
            count = file.metadata.num_rows
            check_rows(path, path.stat().st_size, count)
            most = _largest_class(file.metadata)
    except pa.ArrowException as error:
        raise InputError(f"{path}: damaged, or not a Parquet file. Segment again.") from error
    except OSError as error:
        raise InputError(explain_os_error(error, path)) from error
    except (ValueError, LookupError, TypeError) as error:
        raise _foreign(path) from error
    try:
        names = tuple(str(name) for name in facts["class_names"])
        width, height = int(facts["width"]), int(facts["height"])
        x, y = facts["origin_xy"]
        mpp = None if facts["mpp"] is None else float(facts["mpp"])
        if min(width, height) < 1 or max(width, height) > _LARGEST or most >= len(names):
            raise ValueError("an image without a size, or classes without a name")
        if mpp is not None and not 0 < mpp < np.inf:
            raise ValueError("an invalid resolution")
        frame = Frame(width, height, mpp, (int(x), int(y)))
    except (ValueError, LookupError, TypeError) as error:
        raise _foreign(path) from error
    return NucleiFile(path, frame, names, facts, count)


def _largest_class(metadata: Any) -> int:  # noqa: ANN401
    """Return the largest class index in the statistics of a file, 0 if there is none."""
    if not metadata.num_row_groups:
        return 0
    first = metadata.row_group(0)
    paths = [first.column(i).path_in_schema for i in range(first.num_columns)]
    statistics = [
        metadata.row_group(i).column(paths.index("class")).statistics
        for i in range(metadata.num_row_groups)
    ]
    return max((int(s.max) for s in statistics if s is not None and s.has_min_max), default=0)


class Writer:
    """Writer of row groups of nuclei; use `writer`."""

    def __init__(self, path: Path, like: Instances, facts: dict[str, Any]) -> None:
        import pyarrow.parquet as pq

        frame = like.frame
        geo = {
            "version": "1.1.0",
            "primary_column": "geometry",
            "columns": {
                "geometry": {
                    "encoding": "WKB",
                    "geometry_types": ["Polygon"],
                    "crs": None,  # pixels have no geographic coordinates
                    "bbox": [0, 0, frame.width, frame.height],
                    "covering": {
                        "bbox": {s: ["bbox", s] for s in ("xmin", "ymin", "xmax", "ymax")}
                    },
                }
            },
        }
        facts = {
            **facts,
            "mpp": frame.mpp,
            "width": frame.width,
            "height": frame.height,
            "origin_xy": list(frame.origin_xy),
            "class_names": list(like.class_names),
            "coordinates": _COORDINATES,
        }
        metadata = {"geo": json.dumps(geo), _FACTS: json.dumps(facts)}
        none = like.take(np.zeros(0, np.int64))
        self._schema = to_table(none).schema.with_metadata(metadata)
        self._file = pq.ParquetWriter(  # dictionaries only help columns with few values
            path, self._schema, compression="zstd", use_dictionary=["class_name"]
        )
        self.count = self._groups = 0

    def write(self, nuclei: Instances) -> None:
        """Write one row group with the columns of the file; it may be empty."""
        table = to_table(nuclei).select(self._schema.names).cast(self._schema)
        self._file.write_table(table, row_group_size=max(len(nuclei), 1))
        self.count += len(nuclei)
        self._groups += 1

    def close(self) -> None:
        """Finish the file, with an empty row group if it has none."""
        if not self._groups:
            self._file.write_table(self._schema.empty_table())
        self._file.close()


@contextmanager
def writer(path: Path, like: Instances, facts: dict[str, Any]) -> Iterator[Writer]:
    """Open a writer of row groups; the file is renamed to `path` when it is complete.

    Args:
        path: final path.
        like: nuclei with the frame, classes and features of the file; may be empty.
        facts: further metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary:
        out = Writer(temporary, like, facts)
        try:
            yield out
        finally:
            out.close()
