"""Backends made of backends."""

from dataclasses import replace

import numpy as np
import pytest

from nucleate import load_model
from nucleate.errors import ModelError
from nucleate.inference.backends import Model
from nucleate.inference.ensembles import EightViews, ensemble, with_tta
from tests.conftest import OracleBackend, oracle_card, painted
from tests.errors import says
from tests.synthetic import tissue


class Leaning:
    """Answers with the column number: what turning undoes must come back where it was."""

    about = "leaning"

    def __call__(self, batch):
        columns = np.arange(batch.shape[2], dtype=np.float32)
        return {"foreground": np.broadcast_to(columns, batch.shape[:3]).copy()}


def test_detectors_are_not_averaged():
    model = Model(oracle_card(heads=["instances"], decoder="mask_nms"), OracleBackend())
    with pytest.raises(ModelError, match=says("--tta", "averaged")):
        with_tta(model)
    with pytest.raises(ModelError, match=says("folds", "averaged")):
        ensemble([model, model], "folds")


def test_a_backend_without_direction_is_not_changed():
    labels = np.arange(2 * 6 * 9).reshape(2, 6, 9)
    batch = np.stack([painted(one) for one in labels])
    np.testing.assert_allclose(EightViews(OracleBackend())(batch)["foreground"], labels)


def test_eight_views_have_no_direction():
    maps = EightViews(Leaning())(np.zeros((1, 5, 5, 3), np.uint8))["foreground"][0]
    np.testing.assert_allclose(maps, 2.0)  # the mean of a column number and its mirror image


def test_the_bundled_model_agrees_with_itself_when_turned():
    model = with_tta(load_model())
    image = tissue(64, 96, 10, seed=5)[0]
    straight = model.backend(image[None])["foreground"][0]
    turned = model.backend(np.ascontiguousarray(np.rot90(image))[None])["foreground"][0]
    np.testing.assert_allclose(np.rot90(straight), turned, atol=1e-4)
    assert "mean of 8 views" in model.backend.about


def test_models_that_differ_are_not_averaged(oracle):
    one = oracle
    other = Model(replace(one.card, name="other", mpp=0.5), OracleBackend())
    with pytest.raises(ModelError, match=says("both", "mpp", "oracle, other")):
        ensemble([one, other], "both")
    small = Model(replace(one.card, tile_px=1024), OracleBackend())
    both = ensemble([one, small], "both")
    assert (both.card.name, both.card.halo_px, both.card.tile_px) == ("both", 64, 1024)
