"""Every shipped recipe loads and builds; those that stand for others train for two steps."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from nucleate import load_model, segment
from nucleate.config import Recipe, load_recipe
from nucleate.files import sha256
from nucleate.models.card import WEIGHTS, find_model, read_card, read_encoder_card, write_card
from nucleate.models.export import write_weights
from nucleate.models.families import build
from nucleate.postprocess import DECODERS
from nucleate.pretraining.pretrainer import make_pretext, pretrain_recipe
from nucleate.pretraining.recipe import PretrainRecipe, StudyRecipe
from nucleate.training.trainer import check_recipe, train_recipe
from nucleate.trees import dump_recipe, load_tree, parse_tree
from tests.conftest import oracle_card
from tests.data import coco, cryonuseg, folder, hovernet, monuseg, nuinsseg, tnbc
from tests.synthetic import tissue

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))
MAKERS = {
    "monuseg": monuseg.make, "cryonuseg": cryonuseg.make, "nuinsseg": nuinsseg.make,
    "folder": folder.make, "tnbc": tnbc.make, "consep": hovernet.consep,
    "coco": coco.make,
}  # fmt: skip
SMALL_DETECTOR = {"detections": 20, "proposals": [100, 50], "regions": 32}
# one of each family and of what differs most: loss, decoder, types, teacher, start, stain
TRAINED = {
    "consep-types", "cryonuseg-improved", "mtl-small-start", "mtl-monuseg-as-published",
    "resunet-monuseg-improved",
    "unet-small-cryonuseg-as-published",
    "fpn-monuseg-improved",
}  # fmt: skip


def _marked(paths, trained):
    """Return the paths as parameters: all but `trained` are for `pytest --slow`."""
    return [
        pytest.param(path, marks=() if path.stem in trained else pytest.mark.slow)
        for path in paths
    ]  # fmt: skip


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
    assert parse_tree(Recipe, yaml.safe_load(dump_recipe(recipe)), "again") == recipe
    check_recipe(recipe)


def _teacher(folder: Path) -> str:
    """Copy the bundled model, as if it knew no image: the generated ones bear real names."""
    shutil.copytree(find_model("mtl-small"), folder)
    write_card(folder, replace(read_card(folder), training_data=[]))
    return str(folder)


def _start(recipe: Recipe, folder: Path) -> str:
    """Write a model of the network of a recipe, which has seen no image."""
    network = build(recipe.model.family, list(recipe.maps), recipe.model.arguments)
    folder.mkdir()
    write_weights(folder / WEIGHTS, network.state_dict())
    card = oracle_card(
        name="start", family=recipe.model.family, arguments=recipe.model.arguments,
        heads=list(recipe.maps), mpp=recipe.data.mpp, licence="MIT",
        files={WEIGHTS: sha256(folder / WEIGHTS)},
    )  # fmt: skip
    write_card(folder, card)
    return str(folder)


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipe_builds_its_network(path):
    """As it stands (a detector with fewer boxes), and it draws what the recipe's heads name."""
    recipe = load_recipe(path)
    detects = recipe.model.family == "mask_rcnn"
    arguments = {**recipe.model.arguments, **(SMALL_DETECTOR if detects else {})}
    with torch.no_grad(), torch.device("cpu" if detects else "meta"):  # meta: sizes alone
        network = build(recipe.model.family, list(recipe.maps), arguments).eval()
        maps = network(torch.zeros(1, 3, 64, 64))
    assert sorted(maps) == sorted(DECODERS[recipe.decode.decoder].outputs or recipe.maps)


def test_every_family_of_a_recipe_is_trained():
    families = {load_recipe(path).model.family: path for path in RECIPES}
    trained = {load_recipe(path).model.family for path in RECIPES if path.stem in TRAINED}
    assert {path.stem for path in RECIPES} >= TRAINED
    # the page about detectors trains one; linknet differs from encoder_fpn by its decoder alone
    assert families.keys() == trained | {"mask_rcnn", "linknet"}


@pytest.mark.parametrize("path", _marked(RECIPES, TRAINED), ids=lambda p: p.stem)
def test_recipe_trains_for_two_steps(path, tmp_path):
    """As it stands but for the size of images, crops and widths."""
    recipe = load_recipe(path)
    tree = recipe.model_dump(mode="json")
    for number, entry in enumerate(tree["data"]["sets"]):
        more = {k: v for k, v in entry["options"].items() if k == "types"}
        MAKERS[entry["name"]](tmp_path / f"{number}", **more)
        entry["path"] = str(number)
        entry["options"] = {k: v for k, v in entry["options"].items() if k != "group"}
        if entry["name"] == "coco":
            entry["options"]["mpp"] = recipe.data.mpp
    tree["data"] |= {"root": ".", "scheme": None}  # a generated tree has other names
    tree["train"] |= {
        "steps": 2, "validate_every": 1, "batch": 2, "crop_px": 64, "workers": 0, "threads": 1,
        "warmup_steps": 0, "device": "cpu", "keep": "last",
    }  # fmt: skip
    tree["decode"]["tune"] = False
    widths = tree["model"]["arguments"].get("widths")
    if widths:
        tree["model"]["arguments"]["widths"] = [max(w // 8, 8) for w in widths]
    if recipe.model.family == "encoder_fpn":  # efficientnet-b3 takes a minute, and is built above
        tree["model"]["arguments"] |= {"encoder": "resnet18"}
    if recipe.model.family == "mask_rcnn":
        tree["model"]["arguments"] |= {"encoder": "resnet18", **SMALL_DETECTOR}
    if tree["init"]["from"]:  # runs of other recipes are not here: models that stand for them
        tree["init"]["from"] = _start(parse_tree(Recipe, tree, path.name), tmp_path / "start")
    if tree["init"]["imagenet"] != "never":
        tree["init"]["imagenet"] = "never"  # nothing is downloaded in a test
    tree["teacher"]["models"] = [
        _teacher(tmp_path / f"teacher-{number}") for number in range(len(recipe.teacher.models))
    ]
    small = parse_tree(Recipe, tree, path.name)
    model = load_model(train_recipe(small, tmp_path, tmp_path / "run"))
    assert (model.card.family, model.card.heads) == (recipe.model.family, list(recipe.maps))
    assert ("maps of" in model.card.notes) == bool(recipe.teacher.models)
    assert len(segment(tissue(64, 64, 4)[0], model, mpp=recipe.data.mpp)) >= 0


PRETRAIN = sorted((Path(__file__).parents[2] / "recipes" / "pretrain").glob("*.yaml"))
PRETEXTS = [path for path in PRETRAIN if not path.stem.startswith(("study-", "finetune-"))]
STUDIES = [path for path in PRETRAIN if path.stem.startswith("study-")]


@pytest.mark.parametrize("path", PRETEXTS, ids=lambda p: p.stem)
def test_pretext_recipe_is_complete_and_builds(path):
    recipe = load_tree(PretrainRecipe, path)
    assert recipe.name == path.stem
    assert recipe.about
    assert recipe.licence != "unstated"
    assert path.read_text().startswith("# ")
    assert make_pretext(recipe).network.encoder_state()


TRAINED_PRETEXTS: set[str] = set()  # pages and test_pretrain.py train some


@pytest.mark.parametrize("path", _marked(PRETEXTS, TRAINED_PRETEXTS), ids=lambda p: p.stem)
def test_pretext_recipe_trains_for_two_steps(path, tmp_path):
    recipe = load_tree(PretrainRecipe, path)
    tree = recipe.model_dump(mode="json")
    (tmp_path / "unlabelled").mkdir()
    window = make_pretext(recipe).window_px
    for i in range(3):
        image = tissue(window, window, window**2 // 900, seed=i)[0]
        Image.fromarray(image).save(tmp_path / "unlabelled" / f"{i}.png")
    tree["data"] |= {
        "root": ".", "sets": [], "folders": [{"path": "unlabelled", "mpp": 0.25}], "tissue": 0,
        "validation": 0.3,
    }  # fmt: skip
    tree["train"] |= {
        "steps": 2, "validate_every": 1, "batch": 2, "workers": 0, "threads": 1, "device": "cpu",
        "warmup_steps": 0,
    }  # fmt: skip
    tree |= {"examples": 2, "init": {"imagenet": "never"}}
    run = pretrain_recipe(parse_tree(PretrainRecipe, tree, path.name), tmp_path, tmp_path / "run")
    assert read_encoder_card(run / "encoder").task == recipe.pretext.task


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_study_recipe_fits_together(path):
    """What it starts from is an encoder of the very network that it trains."""
    study = load_tree(StudyRecipe, path)
    training = load_recipe(path.parent / study.finetune)
    check_recipe(training)
    assert (training.train.keep, training.decode.tune) == ("last", False)
    network = build(training.model.family, list(training.maps), training.model.arguments)
    for start in study.starts.values():
        if start.pretext is not None:
            pretext = load_tree(PretrainRecipe, path.parent / start.pretext)
            arrays = make_pretext(pretext).network.encoder_state()
            assert network.encoder_state().keys() <= arrays.keys()
            shapes = {name: array.shape for name, array in network.state_dict().items()}
            assert {n: a.shape for n, a in arrays.items()}.items() <= shapes.items()
            assert pretext.data.mpp == training.data.mpp
