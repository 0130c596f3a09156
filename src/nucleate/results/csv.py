"""Write nuclei as CSV, one row per nucleus, without outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nucleate.errors import InputError
from nucleate.files import atomic
from nucleate.readers.source import Source
from nucleate.results.parquet import NucleiFile


def write_csv(found: NucleiFile, source: Source | None, path: Path) -> None:
    """Write the columns of the Parquet file except the outline as CSV."""
    import pyarrow.csv

    out = None
    with atomic(path) as temporary:
        for table in found.tables():
            flat = _flat(table)
            out = out or pyarrow.csv.CSVWriter(temporary, flat.schema)
            out.write_table(flat)
        if out is None:
            raise InputError(f"{found.path}: is damaged. Segment again.")
        out.close()


def write_joint_csv(files: dict[str, NucleiFile], path: Path) -> None:
    """Write the nuclei of several sources into one CSV, whose first column is `source`.

    Args:
        files: name of the source -> its nuclei. A column that some sources lack is empty for them.
        path: file to write.

    Raises:
        InputError: a file is damaged.
        OutputError: the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.csv

    schemas = [_flat(_first_table(found)).schema for found in files.values()]
    schema = pa.unify_schemas([pa.schema([("source", pa.string())]), *schemas])
    with atomic(path) as temporary, pyarrow.csv.CSVWriter(temporary, schema) as out:
        for name, found in files.items():
            for table in found.tables():
                flat = _flat(table)
                flat = flat.append_column("source", pa.array([name] * len(flat), pa.string()))
                for field in schema:
                    if field.name not in flat.column_names:
                        flat = flat.append_column(field, pa.nulls(len(flat), field.type))
                out.write_table(flat.select(schema.names))


def _first_table(found: NucleiFile) -> Any:  # noqa: ANN401
    table = next(found.tables(), None)
    if table is None:
        raise InputError(f"{found.path}: is damaged. Segment again.")
    return table


def _flat(table: Any) -> Any:  # noqa: ANN401
    """Return a table without outlines, with the box in four columns."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for name in table.column_names:
        if name == "bbox":
            box = table["bbox"].combine_chunks()
            sides = zip(("x0", "y0", "x1", "y1"), box.flatten(), strict=True)
            columns |= dict(sides)
        elif name != "geometry":
            columns[name] = table[name]
    return pa.table(columns)
