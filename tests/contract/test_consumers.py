"""What is exported, opened by the programs that it is for."""

import gzip
import json
import sqlite3
import zlib

import numpy as np
import pytest
import shapely

from nucleate.results.convert import export_results
from nucleate.results.parquet import open_nuclei
from nucleate.slides.outputs import BatchOptions
from nucleate.slides.segment_many import run_batch
from tests.conftest import painted
from tests.synthetic import tissue

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about each other


@pytest.fixture
def result(tmp_path, oracle):
    """Return the Parquet of an image, and the label image that it was found in."""
    from PIL import Image

    labels = tissue(700, 900, 400, seed=5)[1]
    Image.fromarray(painted(labels)).save(tmp_path / "a.png")
    run_batch([tmp_path / "a.png"], tmp_path / "out", oracle, BatchOptions(0.25, ("parquet",)))
    return tmp_path / "out" / "a.nuclei.parquet", labels


def test_geopandas_reads_polygons_and_boxes(result):
    import geopandas

    path, _ = result
    frame = geopandas.read_parquet(path)
    nuclei = open_nuclei(path).read()
    assert len(frame) == len(nuclei) > 200
    assert frame.crs is None
    assert (frame.geom_type == "Polygon").all()
    np.testing.assert_allclose(frame.area, _areas(nuclei), rtol=1e-5)
    np.testing.assert_allclose(frame.bounds.to_numpy(), nuclei.boxes_xyxy, atol=1e-3)
    window = (100, 100, 300, 250)
    near = geopandas.read_parquet(path, bbox=window)
    touching = shapely.intersects(shapely.envelope(frame.geometry), shapely.box(*window))
    assert set(near["id"]) == set(frame["id"][touching])
    assert 0 < len(near) < len(frame)


def _areas(nuclei):
    return [shapely.Polygon(nuclei.outline(row)).area for row in range(len(nuclei))]


def test_duckdb_counts_and_selects(result):
    import duckdb

    path, _ = result
    nuclei = open_nuclei(path).read()
    base = duckdb.connect()
    count, area = base.execute(f"SELECT count(*), sum(area_um2) FROM '{path}'").fetchone()  # noqa: S608
    assert count == len(nuclei)
    assert area == pytest.approx(float(nuclei.features["area_um2"].sum()), rel=1e-5)
    inside = base.execute(
        f"SELECT id FROM '{path}' WHERE bbox.xmin > 100 AND bbox.xmax < 400 ORDER BY id"  # noqa: S608
    ).fetchall()
    box = nuclei.boxes_xyxy
    assert [i for (i,) in inside] == nuclei.ids[(box[:, 0] > 100) & (box[:, 2] < 400)].tolist()
    (blob,) = base.execute(f"SELECT geometry FROM '{path}' WHERE id = 3").fetchone()  # noqa: S608
    np.testing.assert_allclose(
        shapely.from_wkb(bytes(blob)).exterior.coords[:-1], nuclei.outline(2)
    )


def test_geojson_gz_is_the_geojson(tmp_path, result):
    path, _ = result
    export_results(path, "geojson", tmp_path / "a.geojson")
    export_results(path, "geojson.gz", tmp_path / "a.geojson.gz")
    packed = gzip.decompress((tmp_path / "a.geojson.gz").read_bytes())
    assert packed == (tmp_path / "a.geojson").read_bytes()
    assert len(json.loads(packed)["features"]) == open_nuclei(path).count


def test_ome_zarr_reads_the_labels(tmp_path, result):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path, labels = result
    export_results(path, "ome-zarr", tmp_path / "a.zarr")
    (node, *_) = list(Reader(parse_url(tmp_path / "a.zarr"))())
    levels = [np.asarray(level) for level in node.data]
    assert levels[0].shape == labels.shape
    assert ((levels[0] > 0) == (labels > 0)).all()
    drawn = set(np.unique(levels[0])) - {0}
    assert drawn <= set(open_nuclei(path).read().ids)
    assert len(drawn) >= open_nuclei(path).count - 2  # one may be inside of another
    np.testing.assert_array_equal(levels[1], levels[0][::2, ::2])
    scale = node.metadata["coordinateTransformations"][1][0]["scale"]
    assert scale == [0.5, 0.5]


def test_spatialdata_reads_shapes_and_table(tmp_path, result):
    import spatialdata

    path, _ = result
    export_results(path, "spatialdata", tmp_path / "a.zarr")
    found = spatialdata.read_zarr(tmp_path / "a.zarr")
    nuclei = open_nuclei(path).read()
    table, shapes = found.tables["features"], found.shapes["nuclei"]
    assert len(shapes) == table.n_obs == len(nuclei)
    np.testing.assert_allclose(shapes.geometry.area, _areas(nuclei), rtol=1e-5)
    column = table.X[:, list(table.var_names).index("area_um2")]
    np.testing.assert_allclose(np.ravel(column), nuclei.features["area_um2"], rtol=1e-6)
    moved = spatialdata.transform(shapes, to_coordinate_system="micrometres")
    np.testing.assert_allclose(moved.geometry.area, shapes.geometry.area * 0.25**2, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # squidpy's own
def test_squidpy_finds_the_neighbours_that_nucleate_counts(tmp_path, result):
    """Read as its tutorials do: the table of a SpatialData, with positions in obsm."""
    import spatialdata
    import squidpy

    path, _ = result
    export_results(path, "spatialdata", tmp_path / "a.zarr")
    table = spatialdata.read_zarr(tmp_path / "a.zarr").tables["features"]
    radius_px = 50 / 0.25
    squidpy.gr.spatial_neighbors(table, radius=radius_px, coord_type="generic")
    counted = np.asarray((table.obsp["spatial_connectivities"] > 0).sum(1)).ravel()
    nuclei = open_nuclei(path).read()
    assert counted.tolist() == nuclei.features["neighbours_50um"].tolist()
    nearest = squidpy.gr.spatial_neighbors(table, n_neighs=1, coord_type="generic", copy=True)
    distance = np.asarray(nearest.distances.max(1).todense()).ravel() * 0.25
    assert (distance >= nuclei.features["nearest_um"] - 1e-3).all()  # a pair counts both ways
    squidpy.gr.ripley(table, cluster_key="class", mode="L", n_simulations=10)
    assert "class_ripley_L" in table.uns


def test_annotation_store_has_the_documented_tables(tmp_path, result):
    path, _ = result
    export_results(path, "annotation-store", tmp_path / "a.db")
    nuclei = open_nuclei(path).read()
    base = sqlite3.connect(tmp_path / "a.db")
    facts = {key: json.loads(value) for key, value in base.execute("SELECT * FROM metadata")}
    assert facts == {"version": "1.0.1", "compression": "zlib", "compression_level": 9}
    columns = [row[1:3] for row in base.execute("PRAGMA table_info(annotations)")]
    assert columns == [
        ("id", "INTEGER"), ("key", "TEXT"), ("objtype", "TEXT"), ("cx", "FLOAT"), ("cy", "FLOAT"),
        ("geometry", "BLOB"), ("properties", "TEXT"), ("area", "FLOAT"),
    ]  # fmt: skip
    near = base.execute(
        "SELECT a.id, geometry, properties, area FROM annotations a JOIN rtree r ON a.id = r.id "
        "WHERE max_x >= 100 AND min_x <= 300 AND max_y >= 100 AND min_y <= 250 ORDER BY a.id"
    ).fetchall()
    box = nuclei.boxes_xyxy
    expected = (box[:, 2] >= 100) & (box[:, 0] <= 300) & (box[:, 3] >= 100) & (box[:, 1] <= 250)
    assert [row[0] for row in near] == nuclei.ids[expected].tolist()
    for number, blob, text, area in near:
        polygon = shapely.from_wkb(zlib.decompress(blob))
        np.testing.assert_allclose(polygon.exterior.coords[:-1], nuclei.outline(number - 1))
        assert polygon.area == pytest.approx(area)
        assert json.loads(text)["type"] == "nucleus"
    base.close()


def test_every_image_of_a_folder_is_exported(tmp_path, result, oracle):
    path, _ = result
    export_results(path.parent, "csv", tmp_path / "one.csv")
    from PIL import Image

    for name in "bc":
        Image.fromarray(painted(tissue(90, 90, 9)[1])).save(tmp_path / f"{name}.png")
    options = BatchOptions(0.25, ("parquet",))
    run_batch([tmp_path / "b.png", tmp_path / "c.png"], tmp_path / "two", oracle, options)
    done = export_results(tmp_path / "two", "csv", tmp_path / "all")
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["b.nuclei.csv", "c.nuclei.csv"]
    assert done.images == 2
