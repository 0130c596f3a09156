"""What a file states about its resolution, and what it may cost: tables over all variants."""

import gzip
import json
import tracemalloc
import zipfile
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from nucleate.annotations.geojson import read_geojson
from nucleate.errors import ConfigError, InputError, ModelError
from nucleate.files import read_bytes
from nucleate.inference.openvino_backend import _check_layers
from nucleate.readers.associated import read_extras
from nucleate.readers.images import load_image, read_image
from nucleate.readers.limits import check_label_size, check_rows
from nucleate.readers.opening import open_source
from nucleate.readers.tiff import TiffSource
from nucleate.yaml_text import load_yaml
from tests.errors import says
from tests.synthetic import tissue

IMAGE = tissue(40, 56, 5, 3)[0]

OME_UNITS = [
    (0.5, "\u00b5m", 0.5), (0.5, "\u03bcm", 0.5), (500, "nm", 0.5), (5e-4, "mm", 0.5),
    (5e-5, "cm", 0.5), (5e-7, "m", 0.5), (5000, "\u00c5", 0.5), (5000, "\u212b", 0.5),
    (0.5, "micron", None), (1, "pixel", None), (1, "reference frame", None),
]  # fmt: skip


@pytest.mark.parametrize(("size", "unit", "mpp"), OME_UNITS)
def test_units_of_ome_xml(tmp_path, size, unit, mpp):
    meta = {"axes": "YXS", "PhysicalSizeX": size, "PhysicalSizeXUnit": unit}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, photometric="rgb", metadata=meta, ome=True)
    found = load_image(tmp_path / "a.ome.tif")
    assert found.mpp == (None if mpp is None else pytest.approx(mpp))
    assert bool(found.notes) == (unit == "micron")


def test_tags_of_an_ome_tiff_without_a_size_count(tmp_path):
    path = tmp_path / "a.ome.tif"
    options = {"resolution": (20_000, 20_000), "resolutionunit": 3, "metadata": {"axes": "YXS"}}
    tifffile.imwrite(path, IMAGE, photometric="rgb", ome=True, **options)
    assert load_image(path).mpp == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("unit", "per", "mpp"),
    [("micron", 2, 0.5), ("um", 2, 0.5), ("\\u00B5m", 2, 0.5), ("mm", 2000, 0.5),
     ("cm", 20_000, 0.5), ("nm", 0.002, 0.5), ("inch", 50_800, 0.5), ("inch", 300, None),
     ("pixel", 2, None)],
)  # fmt: skip
def test_units_of_imagej(tmp_path, unit, per, mpp):
    options = {"resolution": (per, per), "metadata": {"unit": unit}}
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", imagej=True, **options)
    assert load_image(tmp_path / "a.tif").mpp == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize(
    ("unit", "per", "mpp"),
    [(3, 20_000, 0.5), (2, 50_800, 0.5), (1, 20_000, None)]
    + [(2, dpi, None) for dpi in (72, 96, 150, 300, 600, 1200, 2400)]
    + [(3, dpi / 2.54, None) for dpi in (72, 300, 600, 2400)],
)
def test_units_of_resolution_tags(tmp_path, unit, per, mpp):
    options = {"resolution": (per, per), "resolutionunit": unit, "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", **options)
    assert load_image(tmp_path / "a.tif").mpp == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize(("y", "is_square"), [(0.5, True), (0.51, True), (0.6, False), (1, False)])
@pytest.mark.parametrize("how", ["tags", "ome", "zarr", "large"])
def test_pixels_that_are_not_square_are_refused(tmp_path, how, y, is_square):
    path = tmp_path / ("a.zarr" if how == "zarr" else "a.ome.tif" if how == "ome" else "a.tif")
    if how == "zarr":
        _zarr(path, [1, y, 0.5])
    elif how == "ome":
        meta = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": y}
        tifffile.imwrite(path, IMAGE, photometric="rgb", metadata=meta, ome=True)
    else:
        options = {"resolution": (20_000, 10_000 / y), "resolutionunit": 3, "tile": (16, 16)}
        tifffile.imwrite(path, IMAGE, photometric="rgb", **options)
    opened = TiffSource if how == "large" else open_source
    if is_square:
        assert opened(path).mpp == pytest.approx(0.5)
    else:
        with pytest.raises(InputError, match="not square"):
            opened(path)


def _zarr(path, scale, unit="micrometer", chunks=(3, 40, 56), **more):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array("0", shape=(3, 40, 56), chunks=chunks, dtype="u1")
    array[:] = np.moveaxis(IMAGE, -1, 0)
    axes = [{"name": "c"}] + [{"name": n, "unit": unit} for n in "yx"]
    entry = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
    group.attrs.update({"multiscales": [{"axes": axes, "datasets": [entry]}], **more})


@pytest.mark.parametrize(
    ("unit", "size"),
    [("micrometer", 0.5), ("nanometer", 500), ("millimeter", 5e-4), ("\u00b5m", 0.5)],
)
def test_units_of_ome_zarr(tmp_path, unit, size):
    _zarr(tmp_path / "a.zarr", [1, size, size], unit)
    assert open_source(tmp_path / "a.zarr").mpp == pytest.approx(0.5)


def test_dyes_of_an_ome_zarr_are_refused(tmp_path):
    names = [{"label": name} for name in ("DAPI", "FITC", "Cy3")]
    _zarr(tmp_path / "a.zarr", [1, 0.5, 0.5], omero={"channels": names})
    with pytest.raises(InputError, match="DAPI"):
        open_source(tmp_path / "a.zarr")


def test_chunks_that_are_too_large_are_refused(tmp_path):
    _zarr(tmp_path / "a.zarr", [1, 0.5, 0.5])
    meta = tmp_path / "a.zarr" / "0" / ".zarray"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "chunks": [3, 26_000, 26_000]}))
    with pytest.raises(InputError, match=says("1934 MiB", "at most 128 MiB")):
        open_source(tmp_path / "a.zarr")


def _bomb(codec, count):
    """Return `count` bytes of zero as a codec packs them."""
    numcodecs = pytest.importorskip("numcodecs")
    if codec == "frames":  # of Zstandard, which does not state its size: runs of 128 KiB
        block = (((1 << 17) << 3) | 0b010).to_bytes(3, "little") + b"\0"
        last = (((1 << 17) << 3) | 0b011).to_bytes(3, "little") + b"\0"
        return b"\x28\xb5\x2f\xfd\x00\x58" + block * (count // (1 << 17) - 1) + last
    if codec == "none":
        return bytes(count)
    made = {"blosc": numcodecs.Blosc, "zstd": numcodecs.Zstd, "lz4": numcodecs.LZ4,
            "gzip": numcodecs.GZip, "zlib": numcodecs.Zlib}[codec]()  # fmt: skip
    return bytes(made.encode(np.zeros(count, np.uint8)))


def _zarr_of(path, version, codec, shards=None):
    zarr, numcodecs = pytest.importorskip("zarr"), pytest.importorskip("numcodecs")
    packed = {"frames": "zstd", "none": None}.get(codec, codec)
    if version == 2:
        ids = {"blosc": numcodecs.Blosc, "zstd": numcodecs.Zstd, "lz4": numcodecs.LZ4,
               "gzip": numcodecs.GZip, "zlib": numcodecs.Zlib}  # fmt: skip
        compressor = None if packed is None else ids[packed]()
    else:
        ids = {"blosc": zarr.codecs.BloscCodec, "zstd": zarr.codecs.ZstdCodec,
               "gzip": zarr.codecs.GzipCodec}  # fmt: skip
        compressor = None if packed is None else ids[packed]()
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = group.create_array(
        "0", shape=(3, 40, 56), chunks=(3, 16, 16), shards=shards, dtype="u1",
        compressors=compressor,
    )  # fmt: skip
    array[:] = np.moveaxis(IMAGE, -1, 0)
    axes = [{"name": "c"}] + [{"name": n, "unit": "micrometer"} for n in "yx"]
    entry = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 0.5, 0.5]}]}
    image = {"multiscales": [{"axes": axes, "datasets": [entry]}]}
    group.attrs.update(image if version == 2 else {"ome": image})


CHUNKS = [(2, c) for c in ("none", "blosc", "zstd", "frames", "lz4", "gzip", "zlib")]
CHUNKS += [(3, c) for c in ("none", "blosc", "zstd", "frames", "gzip")]


@pytest.mark.parametrize(("version", "codec"), CHUNKS)
def test_a_chunk_that_unpacks_to_more_than_it_may_is_refused(tmp_path, version, codec):
    _zarr_of(tmp_path / "a.zarr", version, codec)
    whole = open_source(tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole.read(0, 0, 56, 40), IMAGE)
    chunk = tmp_path / "a.zarr" / "0" / ("0.1.2" if version == 2 else "c/0/1/2")
    chunk.write_bytes(_bomb(codec, 1 << 27))
    source = open_source(tmp_path / "a.zarr")
    np.testing.assert_array_equal(source.read(0, 0, 16, 16), IMAGE[:16, :16])  # others are read
    tracemalloc.start()
    with pytest.raises(InputError, match=says("unpacks to", "made to fill the memory")):
        source.read(0, 0, 56, 40)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_chunk_of_a_shard_that_unpacks_to_more_than_it_may_is_refused(tmp_path):
    _zarr_of(tmp_path / "a.zarr", 3, "zstd", shards=(3, 48, 64))
    np.testing.assert_array_equal(open_source(tmp_path / "a.zarr").read(0, 0, 56, 40), IMAGE)
    shard = tmp_path / "a.zarr" / "0" / "c" / "0" / "0" / "0"
    data, bomb = bytearray(shard.read_bytes()), _bomb("zstd", 1 << 27)
    index = len(data) - 4 - 16 * 12
    data[index : index + 16] = len(data).to_bytes(8, "little") + len(bomb).to_bytes(8, "little")
    head, tail = bytes(data[:index]), bytes(data[index:])
    tail = index.to_bytes(8, "little") + tail[8:]
    shard.write_bytes(head + bomb + tail)
    with pytest.raises(InputError, match=says("unpacks to")):
        open_source(tmp_path / "a.zarr").read(0, 0, 56, 40)


def test_chunks_that_are_packed_twice_are_refused(tmp_path):
    _zarr_of(tmp_path / "a.zarr", 2, "zlib")
    meta = tmp_path / "a.zarr" / "0" / ".zarray"
    twice = {**json.loads(meta.read_text()), "filters": [{"id": "zlib", "level": 1}]}
    meta.write_text(json.dumps(twice))
    with pytest.raises(InputError, match="zlib and zlib"):
        open_source(tmp_path / "a.zarr")


def test_metadata_that_would_fill_the_memory_are_refused(tmp_path):
    _zarr_of(tmp_path / "a.zarr", 2, "zlib")
    (tmp_path / "a.zarr" / ".zattrs").write_text(" " * (17 << 20))
    with pytest.raises(InputError, match=says(".zattrs", "17 MiB")):
        open_source(tmp_path / "a.zarr")


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000", "webp", "png"])
def test_a_piece_that_is_larger_than_it_claims_is_refused(tmp_path, codec):
    path, big = tmp_path / "a.tif", np.full((3000, 3000, 3), 200, np.uint8)
    options = {"jpeg2000": {"codecformat": "j2k"}}.get(codec, {})
    name = {"jpeg": "jpeg8", "jpeg2000": "jpeg2k"}.get(codec, codec)
    piece = getattr(imagecodecs, f"{name}_encode")(big, **options)
    small = np.zeros((256, 256, 3), np.uint8)
    tifffile.imwrite(
        path, iter([piece]), shape=small.shape, dtype="u1", photometric="rgb", tile=(256, 256),
        compression=codec, metadata=None,
    )  # fmt: skip
    with pytest.raises(InputError, match=says("3000 × 3000", "a.tif")):
        read_image(path)
    with pytest.raises(InputError, match="3000 × 3000"):
        TiffSource(path).read(0, 0, 256, 256)


def test_many_values_per_pixel_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((8, 8, 40), np.uint8),
        photometric="minisblack",
        planarconfig="contig",
    )
    with pytest.raises(InputError, match=says("40 values per pixel", "at most 16")):
        open_source(tmp_path / "a.tif")


def test_an_image_that_claims_far_more_than_its_size_is_refused(tmp_path):
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    data = b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + zlib.crc32(header).to_bytes(4, "big")
    body = b"IDAT" + zlib.compress(bytes(1000))
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data + chunk)
    with pytest.raises(InputError, match=says("1144 MiB", "250 times")):
        read_image(tmp_path / "a.png")


def test_a_member_of_a_zip_file_may_not_unpack_without_end(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(300 << 20))
        archive.writestr("b.xml", bytes(20 << 20))
    for name, limit in (("a.png", "256 MiB"), ("b.xml", "16 MiB")):
        with pytest.raises(InputError, match=limit):
            read_bytes(zipfile.Path(tmp_path / "a.zip", name))


def test_packed_lists_may_not_unpack_without_end(tmp_path):
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b"[" + b"[]," * 10_000_000 + b"[]]"))
    with pytest.raises(InputError, match="16 MiB"):
        read_geojson(tmp_path / "a.geojson.gz")


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 8)),
        "a: &a [*a]",
        "a: &a {b: *a}",
    ],
)
def test_aliases_of_yaml_do_not_multiply(text):
    with pytest.raises(ConfigError, match="aliases"):
        load_yaml(text, yaml.SafeLoader, "a.yaml")


def test_a_few_aliases_are_values():
    assert load_yaml("a: &a [1]\nb: [*a, *a]", yaml.SafeLoader, "") == {"a": [1], "b": [[1], [1]]}


def test_rows_and_frames_are_held_against_the_file():
    check_rows("a", 60_000_000, 1_000_000)
    with pytest.raises(InputError, match="4,000,000 nuclei"):
        check_rows("a.parquet", 541_811, 4_000_000)
    with pytest.raises(InputError, match="10,000,000 × 10,000,000"):
        check_label_size("a.parquet", 10_000_000, 10_000_000)


@pytest.mark.parametrize("repeats", [(1, 60_000, 60_000), (1, 4096, 4096)])
def test_a_network_that_fills_the_memory_is_refused(repeats, tmp_path):
    openvino = pytest.importorskip("openvino")
    ops = openvino.opset13
    image = ops.parameter([-1, -1, -1, 3], np.uint8, name="image")
    grown = ops.tile(image, np.array([*repeats, 1], np.int64))
    network = openvino.Model([ops.relu(ops.convert(grown, "f32"))], [image])
    with pytest.raises(ModelError, match=says("layer", "268,435,456")):
        _check_layers(tmp_path / "model.onnx", network, 16)


def test_a_colour_profile_that_is_none_is_no_traceback(tmp_path):
    tag = (34675, "I", 4, (1, 2, 3, 4), True)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", extratags=[tag])
    assert read_extras(tmp_path / "a.tif").icc is None


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "most"),
    [("a.png", 3, "u1", 6), ("a.png", 4, "u1", 6), ("a.tif", 3, "u1", 6), ("a.tif", 4, "u1", 6),
     ("a.webp", 4, "u1", 6), ("a.jpg", 3, "u1", 6), ("a.tif", 3, "u2", 12), ("a.tif", 4, "u2", 12),
     ("a.png", 4, "u2", 12)],
)  # fmt: skip
def test_reading_takes_a_few_bytes_per_pixel(tmp_path, name, channels, dtype, most):
    pixels = np.full((3000, 3000, channels), np.iinfo(dtype).max, dtype)
    pixels[::2, ::3, 0] = 40
    path = tmp_path / name
    if name.endswith("tif"):
        extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
        tifffile.imwrite(path, pixels, photometric="rgb", compression="zlib", **extra)
    elif name.endswith("png"):
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        Image.fromarray(pixels).save(path, lossless=name.endswith("webp"))
    load_image(path)  # what is loaded once
    tracemalloc.start()
    try:
        load_image(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    fixed = 24 << 20  # of the strips that are converted at once
    assert (peak - fixed) / 9e6 <= most
