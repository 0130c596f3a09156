"""Images as the world writes them: each is read right, read with a note, or refused by its name."""

import io
import struct
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from nucleate.annotations.label_images import read_labels
from nucleate.errors import InputError
from nucleate.readers.array import ArraySource
from nucleate.readers.images import ImageNote, load_image, read_image
from nucleate.readers.opening import open_source
from nucleate.readers.pixels import from_ycbcr, upright
from nucleate.readers.tiff import TiffSource
from tests.errors import says
from tests.synthetic import tissue

IMAGE = tissue(40, 56, 5, 3)[0]
YCBCR = np.asarray(Image.fromarray(IMAGE).convert("YCbCr"))
LOSSLESS = ["none", "lzw", "zlib", "packbits", "zstd", "lzma", "jpeg2000", "webp", "png"]
ORIENTATIONS = range(1, 9)


def _stored(image, orientation):
    """Return what has to be stored so that it is upright again."""
    back = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(upright(image, back))


def _written(path, pixels, photometric, compression, **options):
    arguments = {"lossless": True} if compression == "webp" else {}
    if compression == "jpeg2000":
        arguments = {"level": 0, "mct": False, "codecformat": "j2k"}
    tifffile.imwrite(
        path, pixels, photometric=photometric, metadata=None,
        compression=None if compression == "none" else compression,
        compressionargs=arguments or None, **options,
    )  # fmt: skip


@pytest.mark.parametrize("compression", LOSSLESS)
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_every_photometric_and_compression_gives_the_same_colours(
    tmp_path, photometric, compression, tile
):
    path = tmp_path / "a.tif"
    pixels = IMAGE if photometric == "rgb" else YCBCR
    options = {} if photometric == "rgb" else {"subsampling": (1, 1)}
    _written(path, pixels, photometric, compression, tile=tile, **options)
    near = 0 if photometric == "rgb" else 4  # of 8-bit luma and chroma
    for read in (read_image(path)[0], TiffSource(path).read(0, 0, 56, 40)):
        assert np.abs(read.astype(int) - IMAGE).max() <= near


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
def test_ycbcr_compressed_as_jpeg_is_decoded_once(tmp_path, subsampling):
    tifffile.imwrite(
        tmp_path / "a.tif", YCBCR, photometric="ycbcr", compression="jpeg",
        compressionargs={"level": 95}, subsampling=subsampling, metadata=None,
    )  # fmt: skip
    assert np.abs(read_image(tmp_path / "a.tif")[0].astype(int) - IMAGE).mean() < 12


def test_colours_of_video_range_are_stretched():
    black_white = np.array([[[16, 128, 128], [235, 128, 128]]], np.uint8)
    found = from_ycbcr(black_white, black_white=(16, 235, 128, 240, 128, 240))
    assert found.tolist() == [[[0, 0, 0], [255, 255, 255]]]


INKS = np.asarray(Image.fromarray(IMAGE).convert("CMYK"))
MIXED = np.dstack([INKS[..., :3] // 2, INKS[..., 0] // 2])  # with black, which PIL does not use


def _mixed(inks):
    """Return what ideal inks look like, from the definition, in whole numbers."""
    paper = 255 - inks.astype(int)
    return np.rint(paper[..., :3] * paper[..., 3:] / 255)


@pytest.mark.parametrize("compression", ["none", "lzw", "zlib", "packbits", "zstd", "lzma", "jpeg"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inks_are_turned_into_rgb(tmp_path, compression, tile, planar, dtype):
    if compression == "jpeg" and (dtype == np.uint16 or planar == "separate"):
        pytest.skip("JPEG is of 8 bits")
    pixels = MIXED.astype(dtype) * (257 if dtype == np.uint16 else 1)
    if planar == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric="separated", planarconfig=planar, tile=tile,
        compression=None if compression == "none" else compression, metadata=None,
        compressionargs={"level": 100} if compression == "jpeg" else None,
    )  # fmt: skip
    found = load_image(tmp_path / "a.tif")
    assert found.notes == ("its inks (CMYK) are converted to RGB without a colour profile",)
    off = np.abs(found.pixels - _mixed(MIXED))
    assert off.max() <= 1 if compression != "jpeg" else off.mean() < 3


@pytest.mark.parametrize("compression", ["none", "lzw", "zlib", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("photometric", ["cielab", "icclab"])
@pytest.mark.parametrize("bits", [8, 16])
def test_lab_is_turned_into_srgb(tmp_path, compression, photometric, bits):
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    there = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    coded = np.asarray(ImageCms.applyTransform(Image.fromarray(IMAGE), there)).astype(int)
    signed = coded[..., 1:].astype(np.uint8).view(np.int8).astype(int)
    if bits == 8:
        ab, light = signed if photometric == "cielab" else signed + 128, coded[..., :1]
    else:
        ab = signed * 256 if photometric == "cielab" else (signed + 128) * 256
        light = coded[..., :1] * (257 if photometric == "cielab" else 256)
    pixels = np.concatenate([light, ab], -1).astype(np.uint8 if bits == 8 else np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, photometric=photometric, metadata=None,
        compression=None if compression == "none" else compression,
    )  # fmt: skip
    found = load_image(tmp_path / "a.tif")
    assert "Lab" in found.notes[0]
    off = np.abs(found.pixels.astype(int) - IMAGE)
    assert off.max() <= 8
    assert off.mean() < 1


@pytest.mark.parametrize("photometric", [10, 32803, 32845, 34892])
def test_other_colour_spaces_are_refused_by_name(tmp_path, photometric):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(photometric)
    name = tifffile.PHOTOMETRIC(photometric).name
    with pytest.raises(InputError, match=says(name, "Export it as RGB")):
        read_image(tmp_path / "a.tif")


def test_inks_that_are_not_cmyk_are_refused(tmp_path):
    tag = (332, "H", 1, 2, True)
    tifffile.imwrite(tmp_path / "a.tif", INKS, photometric="separated", extratags=[tag])
    with pytest.raises(InputError, match="inks other than CMYK"):
        read_image(tmp_path / "a.tif")
    five = np.dstack([INKS, INKS[..., 0]])
    tifffile.imwrite(tmp_path / "b.tif", five, photometric="separated")
    with pytest.raises(InputError, match="not 4 values"):
        read_image(tmp_path / "b.tif")


def test_three_channels_of_which_zero_is_white_are_refused(tmp_path):
    planes = np.moveaxis(255 - IMAGE, -1, 0)
    meta = {"axes": "CYX"}
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="miniswhite", metadata=meta)
    with pytest.raises(InputError, match="0 is white"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_cmyk_jpeg_is_converted_with_a_note(tmp_path, progressive):
    image = Image.fromarray(MIXED, "CMYK")
    image.save(tmp_path / "a.jpg", quality=100, subsampling=0, progressive=progressive)
    with pytest.warns(ImageNote, match="CMYK"):
        found = read_image(tmp_path / "a.jpg")[0]
    assert np.abs(found - _mixed(MIXED)).mean() < 3


@pytest.mark.parametrize("stored", ["CMYK", "YCCK"])  # as Photoshop writes them: inverted
def test_a_cmyk_jpeg_of_adobe_is_converted_with_a_note(tmp_path, stored):
    content = imagecodecs.jpeg8_encode(
        255 - MIXED, level=100, colorspace="CMYK", outcolorspace=stored, subsampling="444"
    )
    assert content[content.find(b"Adobe") + 11] == {"CMYK": 0, "YCCK": 2}[stored]
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.warns(ImageNote, match="CMYK"):
        found = read_image(tmp_path / "a.jpg")[0]
    assert np.abs(found - _mixed(MIXED)).mean() < 3


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_images_are_turned_upright(tmp_path, ending, orientation):
    path, stored = tmp_path / f"a.{ending}", _stored(IMAGE, orientation)
    if ending == "tif":
        tag = (274, "H", 1, orientation, True)
        tifffile.imwrite(path, stored, photometric="rgb", tile=(16, 16), extratags=[tag])
        np.testing.assert_array_equal(TiffSource(path).read(7, 3, 31, 29), IMAGE[3:29, 7:31])
        assert (TiffSource(path).width, TiffSource(path).height) == (56, 40)
    else:
        exif = Image.Exif()
        exif[274] = orientation
        options = {"quality": 100, "subsampling": 0} if ending == "jpg" else {"lossless": True}
        Image.fromarray(stored).save(path, exif=exif, **({} if ending == "png" else options))
        with Image.open(path) as opened:
            np.testing.assert_array_equal(
                ArraySource(opened).read(0, 0, 56, 40), read_image(path)[0]
            )
    found = read_image(path)[0]
    assert found.shape == IMAGE.shape
    assert np.abs(found.astype(int) - IMAGE).max() <= (12 if ending == "jpg" else 0)


def test_labels_with_an_orientation_are_turned_as_their_image_is(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(_stored(labels, 6)).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)


def _png16(pixels, sbit=None):
    data = imagecodecs.png_encode(pixels)
    if sbit is None:
        return data
    chunk = b"sBIT" + bytes([sbit] * 3)
    packed = struct.pack(">I", 3) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data[:33] + packed + data[33:]


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("how", ["tiff", "png", "npy", "array", "tag", "ome", "sbit"])
def test_values_of_fewer_bits_in_files_of_sixteen(tmp_path, bits, how):
    full = IMAGE.astype(np.uint32)
    full[0, 0] = 255
    pixels = np.rint(full * ((1 << bits) - 1) / 255).astype(np.uint16)
    stated = how in ("tag", "ome", "sbit")
    if stated:
        pixels //= 2  # a dark image: only what is stated tells
    path = tmp_path / {"png": "a.png", "sbit": "a.png", "npy": "a.npy", "ome": "a.ome.tif"}.get(
        how, "a.tif"
    )
    if how in ("png", "sbit"):
        path.write_bytes(_png16(pixels, bits if stated else None))
    elif how == "npy":
        np.save(path, pixels)
    elif how == "ome":
        meta = {"axes": "YXS", "SignificantBits": bits}
        tifffile.imwrite(path, pixels, photometric="rgb", ome=True, metadata=meta)
    elif how != "array":
        tags = [(281, "H", 3, ((1 << bits) - 1,) * 3, True)] if how == "tag" else []
        tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags, metadata=None)
    source = ArraySource(pixels) if how == "array" else open_source(path)
    found = source.read(0, 0, 56, 40).astype(int)
    assert np.abs(found - full.astype(int) // (2 if stated else 1)).max() <= 1
    assert bool(source.notes) == (bits < 16)
    assert not source.notes or f"{bits} bits" in source.notes[0]


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opacity_that_is_zero_everywhere_is_ignored(tmp_path, ending, dtype):
    if dtype == np.uint16 and ending == "webp":
        pytest.skip("WebP has 8 bits")
    colours = IMAGE.astype(dtype) * (257 if dtype == np.uint16 else 1)
    colours[0, 0] = np.iinfo(dtype).max
    pixels, path = np.dstack([colours, np.zeros_like(colours[..., 0])]), tmp_path / f"a.{ending}"
    if ending == "tif":
        tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    elif ending == "npy":
        np.save(path, pixels)
    elif ending == "png":
        path.write_bytes(imagecodecs.png_encode(pixels))
    else:
        Image.fromarray(pixels).save(path, lossless=True, exact=True)
    found = load_image(path)
    assert "opacity" in found.notes[0]
    expected = IMAGE.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(found.pixels, expected)


def test_colours_that_are_multiplied_by_their_opacity_are_not_multiplied_again(tmp_path):
    pixels = np.zeros((20, 20, 4), np.uint8)
    pixels[:] = (50, 60, 70, 128)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    assert read_image(tmp_path / "a.tif")[0][0, 0].tolist() == [177, 187, 197]


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_palette_gives_colours_of_an_image_and_indices_of_labels(tmp_path, ending):
    indices = (np.arange(30, dtype=np.uint8) % 7).reshape(5, 6)
    table = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    path = tmp_path / f"a.{ending}"
    if ending == "png":
        image = Image.fromarray(indices, "P")
        image.putpalette(table.tobytes())
        image.save(path)
    else:
        wide = table.T.astype(np.uint16) * 257
        tifffile.imwrite(path, indices, photometric="palette", colormap=wide)
    np.testing.assert_array_equal(read_labels(path), indices)
    np.testing.assert_array_equal(read_image(path)[0], table[indices])


CHANNELS = {
    "DAPI": (["DAPI", "FITC", "Cy3"], False), "names of dyes": (["Hoechst", "a", "b"], False),
    "colours": (["Red", "Green", "Blue"], True), "numbers": (["0", "1", "2"], True),
    "none": (None, True),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANNELS)
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_grey_channels_are_colours_only_where_they_can_be(tmp_path, kind, case):
    names, is_read = CHANNELS[case]
    path, planes = tmp_path / "a.tif", np.ascontiguousarray(np.moveaxis(IMAGE, -1, 0))
    meta = {"axes": "CYX"}
    if names and kind == "ome":
        meta["Channel"] = {"Name": names}
    elif names:
        meta["Labels"] = names
    tifffile.imwrite(path, planes, photometric="minisblack", metadata=meta, **{kind: True})
    if is_read:
        np.testing.assert_array_equal(read_image(path)[0], IMAGE)
    else:
        with pytest.raises(InputError, match=says("3 grey channels", names[0])):
            read_image(path)


def test_dark_grey_channels_without_names_are_fluorescence(tmp_path):
    dark = np.moveaxis(255 - np.maximum(IMAGE, 230), -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", dark, photometric="minisblack", metadata={"axes": "CYX"})
    with pytest.raises(InputError, match="fluorescence"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("axis", ["Z", "T"])
@pytest.mark.parametrize("large", [False, True])
def test_planes_are_refused_or_chosen(tmp_path, axis, large):
    path = tmp_path / "a.ome.tif"
    stack = np.stack([np.full_like(IMAGE, 245), IMAGE, IMAGE[::-1]])
    meta = {"axes": f"{axis}YXS"}
    tifffile.imwrite(path, stack, photometric="rgb", tile=(16, 16), ome=True, metadata=meta)
    opened = TiffSource if large else open_source
    with pytest.raises(InputError, match=says("3 planes", "--plane")):
        opened(path)
    np.testing.assert_array_equal(opened(path, 2).read(0, 0, 56, 40), IMAGE)
    np.testing.assert_array_equal(opened(path, 3).read(0, 0, 56, 40), IMAGE[::-1])
    with pytest.raises(InputError, match="--plane 1 to 3"):
        opened(path, 4)


FOREIGN = {
    "GIF": b"GIF89a" + bytes(20), "HEIC": b"\0\0\0\x18ftypheic" + bytes(20),
    "AVIF": b"\0\0\0\x18ftypavif" + bytes(20), "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "JPEG XL": b"\xff\x0a" + bytes(20), "PDF": b"%PDF-1.7" + bytes(20),
    "CZI": b"ZISRAWFILE" + bytes(20), "web page": b"<!DOCTYPE html><html>",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "svs", "dat"])
def test_a_format_that_is_not_read_is_named_whatever_its_ending(tmp_path, name, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(FOREIGN[name])
    with pytest.raises(InputError, match=says(f"a.{ending}", name)) as caught:
        open_source(path)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    "ending", ["czi", "vsi", "isyntax", "kfb", "lif", "nd2", "oib", "lsm", "sdpc", "heic", "jp2"]
)
def test_an_ending_of_another_program_is_named_with_what_converts_it(tmp_path, ending):
    (tmp_path / f"a.{ending}").write_bytes(bytes(range(1, 60)))
    with pytest.raises(InputError, match=says("does not read", "Convert it")):
        open_source(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "tif", "svs"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
def test_an_image_is_read_by_its_content_whatever_its_ending(tmp_path, kind, ending):
    if ending == "svs" and kind in ("TIFF", "BMP"):
        pytest.skip("slides are TIFF files")
    path = tmp_path / f"a.{ending}"
    Image.fromarray(IMAGE).save(path, format=kind)
    assert np.abs(open_source(path).read(0, 0, 56, 40).astype(int) - IMAGE).mean() < 12


def _dicom(said):
    return bytes(128) + b"DICM" + said.encode() + b"\0" * 300


@pytest.mark.parametrize(
    ("uid", "name"),
    [("1.2.840.10008.5.1.4.1.1.66.4", "segmentation"), ("1.2.840.10008.5.1.4.1.1.88.34", "report"),
     ("1.2.840.10008.5.1.4.1.1.77.1.6", "Convert")],
)  # fmt: skip
def test_whole_dicom_files_are_not_called_damaged(tmp_path, uid, name):
    (tmp_path / "a.dcm").write_bytes(_dicom(uid))
    with pytest.raises(InputError, match=says("DICOM", name)) as caught:
        open_source(tmp_path / "a.dcm")
    assert "damaged" not in str(caught.value)


def _profile(name):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def _wide(kind=b"mntr"):
    """Return a profile whose red and blue are exchanged: the right result is known."""
    data = bytearray(_profile("sRGB"))
    count = int.from_bytes(data[128:132], "big")
    at = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, blue = at[b"rXYZ"], at[b"bXYZ"]
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    data[12:16] = kind
    text = bytes(data).replace("sRGB".encode("utf-16-be"), "ABCD".encode("utf-16-be"))
    return text.replace(b"sRGB", b"ABCD")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_colour_profile_of_a_display_is_applied(tmp_path, ending):
    options = {} if ending == "png" else {"quality": 100} if ending == "jpg" else {"lossless": True}
    Image.fromarray(IMAGE).save(tmp_path / f"a.{ending}", icc_profile=_profile("sRGB"), **options)
    plain = load_image(tmp_path / f"a.{ending}")
    assert not plain.notes
    Image.fromarray(IMAGE).save(tmp_path / f"b.{ending}", icc_profile=_wide(), **options)
    found = load_image(tmp_path / f"b.{ending}")
    assert "converted to sRGB" in found.notes[0]
    assert np.abs(found.pixels[..., ::-1].astype(int) - plain.pixels).max() <= 1


@pytest.mark.parametrize("profile", [_wide(b"scnr"), b"damaged"])
def test_a_colour_profile_of_a_scanner_is_noted_and_not_applied(tmp_path, profile):
    Image.fromarray(IMAGE).save(tmp_path / "a.png", icc_profile=profile)
    found = load_image(tmp_path / "a.png")
    assert "is not applied" in found.notes[0]
    np.testing.assert_array_equal(found.pixels, IMAGE)


@pytest.mark.parametrize("large", [False, True])
def test_a_tiff_keeps_its_pixels_as_slides_do(tmp_path, large):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", tile=(16, 16), iccprofile=_wide())
    source = TiffSource(path) if large else open_source(path)
    assert [note for note in source.notes if "is not applied" in note]
    np.testing.assert_array_equal(source.read(0, 0, 56, 40), IMAGE)


def test_a_gamma_that_is_not_applied_is_noted(tmp_path):
    data = io.BytesIO()
    Image.fromarray(IMAGE).save(data, "PNG")
    chunk = b"gAMA" + struct.pack(">I", 100000)
    packed = struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data.getvalue()[:33] + packed + data.getvalue()[33:])
    assert load_image(tmp_path / "a.png").notes == ("its gamma (1) is not applied",)


def test_several_images_in_one_file_are_refused(tmp_path):
    first, *more = [Image.fromarray(IMAGE), Image.fromarray(IMAGE[::-1])]
    first.save(tmp_path / "a.png", save_all=True, append_images=more)
    with pytest.raises(InputError, match="2 images"):
        read_image(tmp_path / "a.png")


def test_one_colour_may_be_transparent(tmp_path):
    info = PngImagePlugin.PngInfo()
    image = Image.fromarray(IMAGE)
    image.save(tmp_path / "a.png", pnginfo=info, transparency=tuple(map(int, IMAGE[0, 0])))
    assert read_image(tmp_path / "a.png")[0][0, 0].tolist() == [255, 255, 255]


def test_notes_reach_python(tmp_path):
    data = io.BytesIO()
    tifffile.imwrite(data, np.minimum(IMAGE.astype(np.uint16) * 16, 4095), photometric="rgb")
    (tmp_path / "a.tif").write_bytes(data.getvalue())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(tmp_path / "a.tif")
    assert [w.category for w in caught] == [ImageNote]


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_jpeg_that_ends_early_is_refused(tmp_path, mode, progressive):
    thumb = Image.fromarray(IMAGE[:16, :16])
    exif = io.BytesIO()
    thumb.save(exif, "JPEG")  # has an end too, in the head
    image = Image.fromarray(IMAGE).convert(mode)
    options = {"quality": 95, "progressive": progressive, "exif": b"Exif\0\0" + exif.getvalue()}
    image.save(tmp_path / "a.jpg", **options)
    assert load_image(tmp_path / "a.jpg").pixels.shape == IMAGE.shape
    data = (tmp_path / "a.jpg").read_bytes()
    for left in (len(data) - 2, len(data) // 2 + len(exif.getvalue()) // 2):
        (tmp_path / "b.jpg").write_bytes(data[:left])
        with pytest.raises(InputError, match="cannot be read as an image"):
            load_image(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(data + bytes(100))  # what follows the end is no matter
    assert load_image(tmp_path / "c.jpg").pixels.shape == IMAGE.shape


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("reduced", [0, 1])
def test_a_thumbnail_that_comes_first_is_not_taken_for_the_image(tmp_path, reduced, large):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE[::4, ::4], photometric="rgb", subfiletype=reduced, resolution=(10, 10))
        file.write(
            IMAGE, photometric="rgb", tile=(16, 16), resolution=(20_000, 20_000),
            resolutionunit="CENTIMETER",
        )  # fmt: skip
    source = TiffSource(path) if large else open_source(path)
    np.testing.assert_array_equal(source.read(0, 0, 56, 40), IMAGE)
    assert source.mpp == pytest.approx(0.5)
    assert source.notes == ()


@pytest.mark.parametrize("large", [False, True])
def test_of_several_images_in_a_tiff_the_largest_is_read_and_noted(tmp_path, large):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE[:, :20], photometric="rgb", tile=(16, 16))
        file.write(IMAGE, photometric="rgb", tile=(16, 16))
    source = TiffSource(path) if large else open_source(path)
    np.testing.assert_array_equal(source.read(0, 0, 56, 40), IMAGE)
    assert source.notes == ("contains 2 images: the largest, of 56 × 40 pixels, is read",)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_png_is_refused_in_every_depth(tmp_path, channels, dtype):
    pixels = np.dstack([IMAGE[..., 0].astype(dtype)] * channels)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.squeeze(pixels)))
    with pytest.raises(InputError, match="grey-scale"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    "meta",
    [{"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "\u00b5m"},
     {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "\u00b5m"},
     {"PhysicalSizeX": 500, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}],
)  # fmt: skip
def test_one_edge_of_a_pixel_suffices(tmp_path, meta):
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", ome=True, metadata={"axes": "YXS", **meta})
    assert open_source(path).mpp == pytest.approx(0.5)


def test_a_decimal_comma_of_aperio_is_read(tmp_path):
    text = "Aperio Image Library v12|AppMag = 20|MPP = 0,4990"
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", description=text)
    assert open_source(tmp_path / "a.tif").mpp == pytest.approx(0.499)
