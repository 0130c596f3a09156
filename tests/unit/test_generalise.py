from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

areas = pytest.importorskip("benchmarks.generalise.areas")
oracles = pytest.importorskip("benchmarks.generalise.oracles")
from benchmarks.generalise import plan, scoring, store, strokes  # noqa: E402
from benchmarks.generalise.sets import SETS  # noqa: E402

from nucleate.config import AugmentConfig, HeadConfig, SetConfig  # noqa: E402
from nucleate.types import Sample  # noqa: E402


def sample(name: str = "a", group: str = "p") -> Sample:
    labels = np.zeros((40, 60), np.int32)
    labels[5:15, 5:15], labels[20:35, 30:45] = 1, 2
    return Sample(np.zeros((40, 60, 3), np.uint8), labels, name, group, mpp=0.25)


def area(left: int, kind: str = "fat") -> areas.Area:
    ring = ((left, 0), (left + 9, 0), (left + 9, 9), (left, 9))
    return areas.Area("tnbc", "TNBC", "a", 0.25, kind, (ring,))


def maps_with(value: float, false_at: int | None = None):
    """Return maps of the truth; one false nucleus is in them with `value`."""

    def maps_of(image):
        inside = (sample().labels > 0).astype(np.float32)
        if false_at is not None:
            inside[0:8, false_at : false_at + 8] = value
        return {"foreground": inside, "distance": inside}

    return maps_of


def test_what_is_found_in_an_area_is_false_at_the_settings_that_find_it():
    grid = ({**scoring.FIXED, "foreground": 0.3, "marker": 0.3}, scoring.FIXED)
    listed = {"a": [area(50)]}
    fold = scoring.judge_set([sample()], listed, maps_with(0.35, 50), grid)
    assert np.array(fold["false"]).sum(1).tolist() == [1, 0]
    assert fold["false"][0][areas.KINDS.index("fat")] == 1
    folds = {"tnbc": [{**fold, "slides": []}]}
    found = scoring.verdict(folds, listed["a"], 0)
    assert found.f == pytest.approx(1 / listed["a"][0].mm2)
    assert scoring.verdict(folds, listed["a"], 1).f == 0


def test_g_is_the_mean_over_sets_and_the_best_setting_is_common():
    def fold(rows):
        return {"images": [{"name": str(i), "group": str(i), "rows": r} for i, r in rows],
                "false": [[0] * len(areas.KINDS)] * 2}  # fmt: skip

    def row(c):
        return [c, 10, c, 10, 1, 0, 0, 0.8, 1.0]

    folds = {
        "tnbc": [fold([(0, [row(2), row(6)]), (1, [row(4), row(8)])])],
        "consep": [fold([(0, [row(9), row(6)])])],
    }
    assert scoring.best_setting(folds, 2) == 1
    found = scoring.verdict(folds, [], 1)
    assert found.g == pytest.approx((0.7 + 0.6) / 2)
    assert found.sets["tnbc"]["aji"][0] == pytest.approx(0.7)
    assert found.g_low <= found.g <= found.g_high


def test_a_perfect_prediction_scores_one_and_ignored_pixels_do_not_count():
    labels = sample().labels
    assert scoring.count(labels, labels, None).metrics() == pytest.approx(
        {"aji": 1, "aji_plus": 1, "pq": 1, "precision": 1, "recall": 1, "area_ratio": 1}
    )
    more = labels.copy()
    more[0:4, 50:54] = 3
    ignore = np.zeros(labels.shape, bool)
    ignore[0:6, 48:58] = True
    assert scoring.count(labels, more, None).metrics()["precision"] < 1
    assert scoring.count(labels, more, ignore).metrics()["precision"] == 1


def test_coarser_maps_give_nuclei_of_the_image_and_ink_is_left_out():
    """Twice as coarse: an area is counted in pixels of the image, and outlines are drawn there."""
    image = np.full((40, 60, 3), (110, 80, 150), np.uint8)
    image[20:, 30:] = 20, 90, 160  # blue ink over the second nucleus
    coarse = (sample().labels[::2, ::2] > 0).astype(np.float32)
    thresholds = {"foreground": 0.5, "marker": 0.5, "smooth": 0.0, "min_area": 90.0}
    found = scoring.nuclei_of(image, {"foreground": coarse, "distance": coarse}, thresholds)
    assert np.array_equal(np.unique(found), [0, 1, 2])
    assert (found > 0).sum() == pytest.approx((sample().labels > 0).sum(), rel=0.2)
    kept = scoring.nuclei_of(
        image, {"foreground": coarse, "distance": coarse}, {**thresholds, "ink": 0.5}
    )
    assert np.array_equal(kept > 0, found == 1)


def test_a_stroke_crosses_the_image_and_changes_nothing_beside_it():
    image = np.full((200, 300, 3), (220, 170, 200), np.uint8)
    for number in range(16):  # eight colours, opaque and see-through
        drawn, reached = strokes.inked(image, number)
        assert reached.any(0).all()
        assert not reached.all()
        assert np.array_equal(drawn[~reached], image[~reached])
        assert np.abs(drawn[reached].astype(int) - image[reached]).mean() > 20
        np.testing.assert_array_equal(drawn, strokes.inked(image, number)[0])


def test_nuclei_beside_a_stroke_keep_their_distance_and_are_found_or_not():
    labels = np.zeros((40, 80), np.int32)
    labels[:8, :8], labels[:8, 29:37], labels[20:28, 60:68] = 1, 2, 3
    reached = np.zeros(labels.shape, bool)
    reached[:, 18:22] = True
    kept = strokes.beside(labels, reached)  # 2 um are 8 pixels: 1 is 10 away, 2 is 8 away
    assert np.unique(kept).tolist() == [0, 1, 3]
    shifted = np.roll(labels, 4, axis=1)  # half of each: an IoU of one third
    assert (strokes.found_of(kept, labels), strokes.found_of(kept, shifted)) == (2, 0)


def test_each_oracle_fixes_its_own_error():
    truth = np.zeros((20, 60), np.int32)
    truth[5:15, 2:10], truth[5:15, 10:18], truth[5:15, 22:30], truth[5:15, 34:42] = 1, 2, 3, 4
    pred = np.zeros_like(truth)
    pred[5:15, 2:18] = 1  # merged
    pred[6:14, 23:29] = 2  # a rim
    pred[5:15, 50:58] = 3  # false; nucleus 4 is missed
    found = oracles.fixed(truth, pred)
    assert (found["missed"][5:15, 34:42] > 0).all()
    assert not (found["false"][:, 50:] > 0).any()
    assert (found["rims"][5:15, 22:30] > 0).all()
    assert len(np.unique(found["splitting"][5:15, 2:18])) == 2


def test_every_idea_is_a_recipe_once_its_keys_are_known():
    later = {"artefacts", "normalise", "lowres", "zoom_small"} - set(AugmentConfig.model_fields)
    later |= {"edge_px"} - set(HeadConfig.model_fields)
    later |= {"weight"} - set(SetConfig.model_fields)
    names = [idea.name for idea in plan.IDEAS]
    assert len(set(names)) == len(names)
    for idea in plan.IDEAS:
        waits = any(key in change for key in later for change in idea.changes)
        if waits or ("weight" in later and idea.balance != 1):
            continue
        for left_out in SETS:
            recipe = plan.recipe_of(idea, left_out, 1, None, dict.fromkeys(SETS, 1e7))
            taught = any(change.startswith("teacher.") for change in idea.changes)
            assert bool(recipe.teacher.models) == taught
            assert [s.path for s in recipe.data.sets] == [
                f"{name}.zip" for name in SETS if name != left_out
            ]


def test_results_are_kept_by_idea_and_dropped_when_the_plan_changes(tmp_path):
    idea = plan.Idea("base", "h", "p", seeds=(1,))
    job = store.jobs(tmp_path, (idea,))[0]
    fold = {"seed": 1, "set": job.left_out, "images": [{"name": "a", "group": "p", "rows": []}]}
    store.keep(tmp_path, job, fold)
    assert store.folds_of(tmp_path, idea) == {job.name: fold}
    assert job not in store.jobs(tmp_path, (idea,))
    changed = plan.Idea("base", "h", "p", ("train.batch=4",))
    assert store.folds_of(tmp_path, changed) == {}


def test_the_list_is_large_enough_valid_and_of_real_sources():
    listed = areas.load_areas()
    assert sum(a.mm2 for a in listed) >= 1
    assert len({(a.source, a.image) for a in listed}) >= 5
    assert {a.kind for a in listed} <= set(areas.KINDS)
    assert {a.set for a in listed} <= {*SETS, areas.SLIDES}
    for one in listed:
        assert "MoNuSegTestData" not in one.source
        assert "CMU-1-Small-Region" not in one.source
        assert all(len(ring) >= 3 for ring in one.rings)
        assert min(min(point) for ring in one.rings for point in ring) >= 0


@pytest.mark.data
def test_areas_lie_inside_their_images_and_off_every_nucleus(real_data):
    import cv2
    from benchmarks.generalise.sets import published

    listed = areas.load_areas()
    for name in SETS:
        by_image = areas.by_image(listed, name)
        for one in published(name, real_data):
            for lot in by_image.get(one.name, []):
                assert lot.box[2] <= one.image.shape[1]
                assert lot.box[3] <= one.image.shape[0]
                mask = areas.paint([lot], one.image.shape[:2], 1.0)
                free = (one.labels == 0).astype(np.uint8)
                assert cv2.distanceTransform(free, cv2.DIST_L2, 5)[mask > 0].min() >= 3
