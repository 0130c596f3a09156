import pytest
import yaml

from nucleate.config import load_recipe
from nucleate.errors import ConfigError, InputError
from nucleate.training.trainer import check_recipe


def _write(tmp_path, **changes):
    content = {
        "name": "x",
        "data": {"sets": [{"name": "folder", "path": "."}]},
        "model": {"family": "mtl"},
        "heads": {"foreground": {"loss": {"bce": 1}}},
        "train": {"steps": 10, "validate_every": 5},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content | changes))
    return tmp_path / "r.yaml"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.stepps=3", "no key 'train.stepps'.*Did you mean 'steps'"),
        ("augment.elastik_px=3", "Did you mean 'elastic_px'"),
        ("modell={}", "Did you mean 'model'"),
        ("data.sets.0.pth=x", "Did you mean 'path'"),
        ("train.steps=0", "train.steps = 0"),
        ("train.steps=7", "multiple of validate_every"),
        ("train.precision=fp8", "train.precision"),
        ("nonsense", "key=value"),
        ("train.lr=[", "not valid YAML"),
        ("data.sets.7.path=x", "nothing at '7'"),
        ("data.sets.².path=x", "nothing at"),
        ("train.steps.x=1", "nothing at"),
        ("name=2020-99-99", "not valid YAML"),
        ("train.lr=.inf", "train.lr"),
        ("augment.elastic_px=.nan", "augment.elastic_px"),
        ("seed=-1", "seed"),
    ],
)
def test_wrong_change_names_the_nearest_key(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        load_recipe(_write(tmp_path), [change])


def test_change_is_applied(tmp_path):
    recipe = load_recipe(_write(tmp_path), ["train.lr=0.5", "data.sets.0.path=y", "seed=9"])
    assert (recipe.train.lr, recipe.data.sets[0].path, recipe.seed) == (0.5, "y", 9)


@pytest.mark.parametrize(
    ("text", "said", "kind"),
    [
        ("a: [", "not valid YAML", ConfigError),
        ("- 1", "mapping", ConfigError),
        ("{}", "is missing", ConfigError),
        (None, "no such file", InputError),
    ],
)
def test_file_that_is_no_recipe(tmp_path, text, said, kind):
    if text is not None:
        (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(kind, match=said):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["heads={fourground: {loss: {bce: 1}}}"], "no head named 'fourground'"),
        (["heads.foreground.loss={bces: 1}"], "no loss named 'bces'"),
        (["model.family=mlt"], "no model family named 'mlt'"),
        (["model.arguments={width: 3}"], "Did you mean 'widths'"),
        (["model.arguments={stem: 3}"], "stem must be 1, 2 or 4"),
        (["decode.thresholds={forground: 1}"], "Did you mean 'foreground'"),
        (["model.arguments={dilations: [0]}"], "dilation at least 1"),
        (["model.arguments={attention_heads: 0}"], "at least 1"),
        (["decode.thresholds={smooth: -1}"], "must be at least 0"),
        (["decode.halo_px=900"], "no core"),
        ([], "needs the head 'distance'"),
    ],
)
def test_recipe_that_contradicts_itself(tmp_path, changes, said):
    if changes:
        changes = ["heads.distance={loss: {mse: 1}}", *changes]
        changes.sort(key=lambda c: not c.startswith("heads={"))
        if changes[0].startswith("heads={"):
            changes = changes[:1]
    with pytest.raises(ConfigError, match=said):
        check_recipe(load_recipe(_write(tmp_path), changes))
