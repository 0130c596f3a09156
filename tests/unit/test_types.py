import numpy as np
import pytest

from nucleate.errors import InputError
from nucleate.types import Frame, Instances, Sample
from tests.errors import says

FRAME = Frame(100, 50, 0.25)


def _three():
    return Instances(
        ids=np.array([1, 2, 3]),
        coords_xy=np.arange(20, dtype=np.float32).reshape(10, 2),
        offsets=np.array([0, 3, 7, 10]),
        boxes_xyxy=np.arange(12, dtype=np.float32).reshape(3, 4),
        scores=np.array([0.1, 0.2, 0.3], np.float32),
        classes=np.zeros(3, np.int16),
        frame=FRAME,
        features={"area_um2": np.array([5.0, 6.0, 7.0])},
    )


@pytest.mark.parametrize("rows", [np.array([2, 0]), np.array([True, False, True])])
def test_rows_are_taken_with_their_outlines(rows):
    nuclei = _three()
    taken = nuclei.take(rows)
    index = np.flatnonzero(rows) if rows.dtype == bool else rows
    assert taken.ids.tolist() == (index + 1).tolist()
    assert taken.features["area_um2"].tolist() == (index + 5.0).tolist()
    for new, old in enumerate(index):
        np.testing.assert_array_equal(taken.outline(new), nuclei.outline(int(old)))


def test_tables_are_joined_and_renumbered():
    joined = Instances.concatenate([_three(), Instances.empty(FRAME), _three()], FRAME)
    assert joined.ids.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(joined.outline(4), _three().outline(1))
    assert joined.features["area_um2"].tolist() == [5, 6, 7, 5, 6, 7]


def test_no_nuclei_is_a_table():
    empty = Instances.empty(FRAME)
    assert len(empty) == 0
    assert len(empty.take(np.zeros(0, bool))) == 0
    assert len(Instances.concatenate([], FRAME)) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ids": np.array([1, 2])}, "coords|offsets|boxes"),
        ({"boxes_xyxy": np.zeros((3, 4))}, "boxes_xyxy must be float32"),
        ({"offsets": np.array([0, 3, 7, 9])}, "offsets must run"),
        ({"features": {"x": np.zeros(2)}}, "feature 'x' has 2 rows, not 3"),
    ],
)
def test_lengths_and_dtypes_must_fit(change, said):
    from dataclasses import replace

    with pytest.raises(InputError, match=said):
        replace(_three(), **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": np.zeros((4, 4, 3), np.float32)}, "image must be uint8"),
        ({"labels": np.zeros((4, 5), np.int32)}, "labels must be int32 of shape 4×4"),
        ({"labels": np.zeros((4, 4), np.uint8)}, "labels must be int32"),
        ({"ignore": np.zeros((4, 4), np.uint8)}, "ignore must be bool"),
        ({"classes": np.zeros(3, np.int64)}, "classes must be int16"),
    ],
)
def test_sample_is_what_it_says(change, said):
    good = {"image": np.zeros((4, 4, 3), np.uint8), "labels": None, "name": "a", "group": "g"}
    with pytest.raises(InputError, match=said):
        Sample(**(good | change))


def squares(n):
    """Return n squares of 4 pixels in a row."""
    corners = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float32)
    places = np.stack([10.0 * np.arange(n), np.zeros(n)], 1).astype(np.float32)
    return Instances(
        ids=np.arange(1, n + 1),
        coords_xy=(places[:, None] + corners).reshape(-1, 2),
        offsets=np.arange(0, 4 * n + 1, 4),
        boxes_xyxy=np.concatenate([places, places + 4], 1),
        scores=np.ones(n, np.float32),
        classes=np.zeros(n, np.int16),
        frame=Frame(10 * n + 10, 20, 0.25),
        features={"area_um2": np.arange(n, dtype=np.float32), "<b>": np.full(n, np.nan, "f4")},
    )


def test_a_notebook_shows_outlines_and_features():
    printed = squares(5)._repr_html_()
    assert "<b>5 nuclei</b> on 60 × 20 pixels" in printed
    assert printed.count("M") == printed.count("Z") == 5
    assert "<td style='text-align:left'>&lt;b&gt;</td><td>nan</td>" in printed
    assert "<td style='text-align:left'>area_um2</td><td>1</td><td>2</td><td>3</td>" in printed
    many = squares(5_000)._repr_html_()
    assert "5,000 nuclei</b> (1,667 of them drawn)" in many
    assert "<b>0 nuclei</b>" in Instances.empty(Frame(5, 5))._repr_html_()


def test_nuclei_are_plotted_where_they_are():
    pytest.importorskip("matplotlib").use("agg")
    axes = squares(3).plot(np.zeros((20, 40, 3), np.uint8), "area_um2")
    drawn = axes.collections[0]
    assert len(drawn.get_paths()) == 3
    np.testing.assert_allclose(drawn.get_paths()[1].vertices[:2], [[10, 0], [14, 0]])
    assert axes.get_ylim() == (20, 0)
    with pytest.raises(InputError, match=says("feature", "'area'")):
        squares(3).plot(column="area")


@pytest.mark.parametrize("column", [None, "area_um2"])
def test_every_outline_of_a_plot_has_a_colour(column):
    import matplotlib as mpl

    mpl.use("Agg")
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], np.float32)
    nuclei = Instances(
        ids=np.array([1, 2]), coords_xy=np.concatenate([square, square + 5]),
        offsets=np.array([0, 4, 8]), boxes_xyxy=np.array([[0, 0, 4, 4], [5, 5, 9, 9]], np.float32),
        scores=np.ones(2, np.float32), classes=np.zeros(2, np.int16), frame=Frame(10, 10, 0.25),
        features={"area_um2": np.array([1.0, 2.0], np.float32)},
    )  # fmt: skip
    axes = nuclei.plot(column=column)
    axes.figure.canvas.draw()
    (drawn,) = axes.collections
    colours = drawn.get_edgecolor()
    assert len(colours) == (1 if column is None else 2)
    assert (colours[:, 3] == 1).all()
    assert len(np.unique(colours, axis=0)) == len(colours)
    pixels = np.asarray(axes.figure.canvas.buffer_rgba())[..., :3].reshape(-1, 3)
    assert (pixels == np.rint(255 * colours[0, :3]).astype(np.uint8)).all(1).any()
    assert repr(nuclei) == "Instances(2 nuclei on 10 × 10 pixels, 0.25 um/px; features: area_um2)"
