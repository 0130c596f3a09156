"""Write nuclei as a TIAToolbox annotation store, which is an SQLite file."""

from __future__ import annotations

import json
import sqlite3
import uuid
import zlib
from pathlib import Path
from typing import Any

from nucleate.files import atomic
from nucleate.results.parquet import NucleiFile


def write_annotation_store(path: Path, found: NucleiFile) -> None:
    """Write TIAToolbox's annotation store, version 1.0.1: polygons with properties, and an R-tree.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic(path) as temporary:
        temporary.touch()  # fails with the system's reason, which SQLite does not report
        base = sqlite3.connect(temporary, isolation_level="DEFERRED")
        try:
            _make_store(base)
            for table in found.checked():
                _fill_store(base, table, found.class_names, found.id_space)
            base.commit()
        except sqlite3.Error as error:  # SQLite reports a full disk as its own error
            raise OSError(str(error)) from error
        finally:
            base.close()


def _make_store(base: sqlite3.Connection) -> None:
    base.execute("CREATE TABLE metadata (key TEXT UNIQUE, value TEXT)")
    facts = {"version": "1.0.1", "compression": "zlib", "compression_level": 9}
    base.executemany(
        "INSERT INTO metadata VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()]
    )
    base.execute("CREATE VIRTUAL TABLE rtree USING rtree(id, min_x, max_x, min_y, max_y)")
    base.execute(
        "CREATE TABLE annotations (id INTEGER PRIMARY KEY, key TEXT UNIQUE, objtype TEXT, "
        "cx FLOAT NOT NULL, cy FLOAT NOT NULL, geometry BLOB, properties TEXT, area FLOAT NOT NULL)"
    )


def _fill_store(
    base: sqlite3.Connection,
    table: Any,  # noqa: ANN401
    class_names: tuple[str, ...],
    space: uuid.UUID,
) -> None:
    import shapely

    skipped = ("id", "x", "y", "bbox", "geometry", "class", "class_name")
    names = [name for name in table.column_names if name not in skipped]
    rows = table.select(["id", "x", "y", "bbox", "geometry", "class", *names]).to_pylist()
    areas = shapely.area(shapely.from_wkb([row["geometry"] for row in rows]))
    boxes = [(r["id"], *(r["bbox"][s] for s in ("xmin", "xmax", "ymin", "ymax"))) for r in rows]
    base.executemany("INSERT INTO rtree VALUES (?, ?, ?, ?, ?)", boxes)
    base.executemany(
        "INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row["id"],
                str(uuid.uuid5(space, str(row["id"]))),
                "Polygon",
                row["x"],
                row["y"],
                zlib.compress(row["geometry"], 9),
                json.dumps(
                    {"type": class_names[row["class"]]}
                    | {n: round(row[n], 4) for n in names if row[n] == row[n]},
                    separators=(",", ":"),
                ),
                float(area),
            )
            for row, area in zip(rows, areas, strict=True)
        ],
    )
