"""From which images crops are drawn, with which edges."""

from dataclasses import replace

import numpy as np
import pytest

from nucleate.config import DataConfig, load_recipe
from nucleate.datasets.loading import collect
from nucleate.errors import ConfigError
from nucleate.geometry.labels import grown
from nucleate.targets import encode, soft_foreground
from nucleate.training.crops import CropDataset, tissue_area
from nucleate.training.trainer import check_recipe
from nucleate.types import Sample
from tests.data import folder, monuseg
from tests.errors import says
from tests.synthetic import tissue

SMALL = "recipes/mtl-small.yaml"


def disc(radius, size=64, at=(31.3, 32.1)):
    y, x = np.mgrid[:size, :size]
    return (np.hypot(x - at[0], y - at[1]) <= radius).astype(np.int32)


@pytest.mark.parametrize("by", [-2.0, -1.0, -0.5, 0.3, 0.5, 1.0, 1.7, 3.0])
def test_round_nuclei_grow_by_what_is_asked(by):
    radii = []
    for at in [(31.3, 32.1), (30.0, 30.5), (32.7, 31.9)]:
        labels = grown(disc(10, at=at) * 4, by)
        assert set(np.unique(labels)) == {0, 4}
        radii.append(np.sqrt((labels > 0).sum() / np.pi))
    assert np.mean(radii) == pytest.approx(10 + by, abs=0.3)


def test_growing_takes_nobody_elses_pixels_and_shrinking_loses_nobody():
    _, labels = tissue(120, 120, 60, seed=4)
    larger, smaller = grown(labels, 2.5), grown(labels, -3.0)
    np.testing.assert_array_equal(larger[labels > 0], labels[labels > 0])
    assert set(np.unique(smaller)) == set(np.unique(labels))
    np.testing.assert_array_equal(smaller[smaller > 0], labels[smaller > 0])
    two = np.zeros((21, 40), np.int32)
    two[8:13, 8:13], two[8:13, 19:24] = 1, 2  # six pixels between them: three for each
    assert grown(two, 5.0)[10, 13:19].tolist() == [1, 1, 1, 2, 2, 2]


def test_edges_are_soft_around_the_annotated_edge():
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:20], labels[10:30, 20:30] = 1, 2
    row = soft_foreground(labels, 4.0)[20]
    assert row[7:13].tolist() == [0.0, 0.125, 0.375, 0.625, 0.875, 1.0]
    assert (row[13:27] == 1).all()  # no edge where two nuclei touch
    hard = encode(labels, ["foreground"])["foreground"]
    np.testing.assert_array_equal(encode(labels, ["foreground"], None, 1e-3)["foreground"], hard)
    for empty in (np.zeros((5, 5), np.int32), np.ones((5, 5), np.int32)):
        np.testing.assert_array_equal(soft_foreground(empty, 3.0), empty)


def test_soft_edges_are_refused_where_they_mean_nothing():
    for change, said in (
        ("heads.distance.edge_px=2", says("edge_px", "only to the head foreground")),
        ("heads.foreground={loss: {lovasz: 1.0}, edge_px: 2}", says("lovasz", "soft edges")),
    ):
        with pytest.raises(ConfigError, match=said):
            check_recipe(load_recipe(SMALL, [change]))


def test_crops_follow_the_weights_and_the_tissue():
    image, labels = tissue(64, 64, 8)
    wide = Sample(np.tile(image, (1, 3, 1)), np.tile(labels, (1, 3)), "a", "a", 0.25)
    recipe = load_recipe(SMALL)
    shares = [np.diff(CropDataset([wide, replace(wide, weight=w)], recipe).cumulated)[0]
              for w in (1.0, 3.0)]  # fmt: skip
    assert shares == pytest.approx([0.5, 0.75])
    glass = np.full_like(wide.image, 235)
    assert tissue_area(glass) == pytest.approx(0.1 * glass[..., 0].size)
    half = np.concatenate([wide.image, glass])
    assert tissue_area(half) == pytest.approx(tissue_area(wide.image))


def test_sets_give_their_weight_and_edges_to_what_is_trained_on(tmp_path):
    monuseg.make(tmp_path / "m")
    folder.make(tmp_path / "f")
    sets = [
        {"name": "monuseg", "path": "m"},
        {"name": "folder", "path": "f", "validate_on": False, "options": {"mpp": 0.25},
         "weight": 2.5, "grow_px": 1.0},
    ]  # fmt: skip
    config = DataConfig.model_validate({"sets": sets, "root": str(tmp_path), "validation": 0.3})
    data = collect(config, tmp_path)
    plain = collect(config.model_copy(update={"sets": [
        s.model_copy(update={"grow_px": 0.0}) for s in config.sets]}), tmp_path)  # fmt: skip
    train, before = data.read("train", 0.25), plain.read("train", 0.25)
    for ours, theirs, name in zip(train, before, data.split.parts["train"], strict=True):
        own = name.startswith("1:")
        assert ours.weight == (2.5 if own else 1.0)
        assert ((ours.labels > 0).sum() > (theirs.labels > 0).sum()) == own
    assert all(s.weight == 1.0 for s in data.read("validation", 0.25))
