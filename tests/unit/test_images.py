import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from nucleate.annotations.label_images import read_labels
from nucleate.errors import InputError
from nucleate.readers.images import read_image
from nucleate.results.images import write_labels
from tests.errors import says
from tests.synthetic import tissue

IMAGE, LABELS = tissue(40, 60, 5)


def test_eight_bit_rgb_is_read_as_it_is(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    pixels, mpp = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, IMAGE)
    assert mpp is None


def test_paths_may_be_text(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    write_labels(tmp_path / "b.tif", LABELS, None)
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png"))[0], IMAGE)
    np.testing.assert_array_equal(read_labels(str(tmp_path / "b.tif")), LABELS)


def test_sixteen_bit_is_scaled_to_eight(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE.astype(np.uint16) * 257, photometric="rgb")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], IMAGE)


def test_transparency_is_laid_over_white(tmp_path):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = 10, 20, 30, 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist()[0] == [[10, 20, 30], [255, 255, 255]]


def test_palette_is_resolved(tmp_path):
    Image.fromarray(IMAGE).quantize(64).save(tmp_path / "a.png")
    assert np.abs(read_image(tmp_path / "a.png")[0].astype(int) - IMAGE).mean() < 12


def test_planes_first_tiff_is_brought_to_channels_last(tmp_path):
    planes = np.moveaxis(IMAGE, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], IMAGE)


@pytest.mark.parametrize(
    ("options", "mpp"),
    [
        ({"resolution": (40_000, 40_000), "resolutionunit": 3}, 0.25),
        ({"resolution": (72, 72), "resolutionunit": 2}, None),  # a screen, not a microscope
        ({"description": "Aperio Image |MPP = 0.5021|AppMag = 20"}, 0.5021),
        ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": 0.4}}, 0.4),
        ({}, None),
        *(
            ({"ome": True, "metadata": {"axes": "YXS", "PhysicalSizeX": size,
                                        "PhysicalSizeXUnit": unit}}, mpp)
            for size, unit, mpp in [(250, "nm", 0.25), (0.00025, "mm", 0.25), (0.25, "mm", None),
                                    (1, "pixel", None), (1, "reference frame", None)]
        ),
    ],
)  # fmt: skip
def test_resolution_is_what_the_tiff_states(tmp_path, options, mpp):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", **options)
    assert read_image(tmp_path / "a.tif")[1] == (None if mpp is None else pytest.approx(mpp))


@pytest.mark.parametrize("suffix", ["png", "tif", "npy", "mat"])
def test_labels_come_back_from_every_format(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        Image.fromarray(LABELS.astype(np.uint16)).save(path)
    elif suffix == "tif":
        write_labels(path, LABELS, 0.25)
    elif suffix == "npy":
        np.save(path, LABELS)
    else:
        import scipy.io

        scipy.io.savemat(path, {"inst_map": LABELS.astype(np.float64)})
    back = read_labels(path)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, LABELS)


def test_label_numbers_above_sixteen_bits_survive(tmp_path):
    labels = np.full((8, 8), 70_001, np.int32)
    write_labels(tmp_path / "a.tif", labels, None)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_grey_palette_is_a_label_image(tmp_path):
    image = Image.fromarray(LABELS.astype(np.uint8), mode="P")
    image.putpalette([v for i in range(256) for v in (i, i, i)])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), LABELS)


def _truncated_tiff():
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, IMAGE, photometric="rgb")
    return buffer.getvalue()[:-2000]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.png", b"", "empty"),
        ("text.png", b"this is no image", "cannot be read as an image"),
        ("cut.tif", _truncated_tiff(), "truncated"),
        ("text.tif", b"II*\x00garbage", "cannot be read as TIFF"),
        ("text.npy", b"\x93NUMPY garbage", "cannot be read as a NumPy array"),
        ("a.xyz", b"x", "not a supported image format"),
    ],
)
def test_unreadable_image_is_one_clear_sentence(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_meaningless_fourth_sample_is_dropped(tmp_path):
    four = np.dstack([IMAGE, IMAGE[..., :1]])
    tifffile.imwrite(tmp_path / "x.tif", four, photometric="rgb", extrasamples=["unspecified"])
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif")[0], IMAGE)


def test_large_image_is_no_bomb_and_other_formats_have_no_alias(tmp_path):
    Image.fromarray(np.full((9_000, 11_000, 3), 255, np.uint8)).save(
        tmp_path / "big.png", compress_level=1
    )
    assert read_image(tmp_path / "big.png")[0].shape == (9_000, 11_000, 3)
    Image.fromarray(IMAGE).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match=says("GIF")):
        read_image(tmp_path / "a.png")


def test_grey_image_is_refused(tmp_path):
    Image.fromarray(IMAGE[..., 0]).save(tmp_path / "g.png")
    with pytest.raises(InputError, match="grey-scale"):
        read_image(tmp_path / "g.png")


def test_pickled_array_is_never_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], object), allow_pickle=True)
    with pytest.raises(InputError, match=says("Python objects")):
        read_labels(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (LABELS.astype(np.float32), "must be integers"),
        (-LABELS, "between 0"),
        (np.dstack([LABELS] * 3), "one channel"),
    ],
)
def test_wrong_labels_are_refused(tmp_path, array, said):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=said):
        read_labels(tmp_path / "a.npy")
