"""Every shipped recipe loads, and trains for two steps on a generated tree of its data."""

from pathlib import Path

import pytest

from nucleate import load_model, segment
from nucleate.config import load_recipe, parse_recipe
from nucleate.train import check_recipe, train_recipe
from tests.data import cryonuseg, folder, hovernet, monuseg, nuinsseg, tnbc
from tests.synthetic import tissue

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
MAKERS = {
    "monuseg": monuseg.make, "cryonuseg": cryonuseg.make, "nuinsseg": nuinsseg.make,
    "folder": folder.make, "tnbc": tnbc.make, "consep": hovernet.consep,
}  # fmt: skip


def test_there_is_a_pair_of_everything():
    names = {path.stem for path in RECIPES}
    published = {name for name in names if name.endswith("-as-published")}
    assert len(published) >= 7
    assert {name.replace("as-published", "improved") for name in published} <= names


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_is_complete_and_consistent(path):
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.about
    assert recipe.licence != "unstated"
    assert path.read_text().startswith("# ")
    check_recipe(recipe)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_trains_for_two_steps(path, tmp_path):
    """As it stands but for the size of pictures, crops and widths."""
    recipe = load_recipe(path)
    tree = recipe.model_dump(mode="json")
    for number, entry in enumerate(tree["data"]["sets"]):
        more = {k: v for k, v in entry["options"].items() if k == "types"}
        MAKERS[entry["name"]](tmp_path / f"{number}", **more)
        entry["path"] = str(number)
        entry["options"] = {k: v for k, v in entry["options"].items() if k != "group"}
    tree["data"] |= {"root": ".", "scheme": None}  # a generated tree has other names
    tree["train"] |= {
        "steps": 2, "validate_every": 1, "batch": 2, "crop_px": 64, "workers": 0, "threads": 1,
        "warmup_steps": 0, "device": "cpu", "keep": "last",
    }  # fmt: skip
    tree["decode"]["tune"] = False
    widths = tree["model"]["arguments"].get("widths")
    if widths:
        tree["model"]["arguments"]["widths"] = [max(w // 8, 8) for w in widths]
    if tree["init"]["from"]:  # the bundled model has the widths of the recipe
        tree["model"]["arguments"]["widths"] = widths
    if tree["init"]["imagenet"] != "never":
        tree["init"]["imagenet"] = "never"  # nothing is downloaded in a test
    small = parse_recipe(tree, path.name)
    model = load_model(train_recipe(small, tmp_path, tmp_path / "run"))
    assert (model.card.family, model.card.heads) == (recipe.model.family, list(recipe.maps))
    assert len(segment(tissue(64, 64, 4)[0], model, mpp=recipe.data.mpp)) >= 0
