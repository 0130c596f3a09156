import json

import numpy as np
import pytest

from nucleate.datasets.base import Entry
from nucleate.datasets.splits import Split, make_split, read_split, write_split
from nucleate.errors import ConfigError, InputError
from tests.errors import says


def _entries(groups, per_group=2):
    return [
        Entry(name=f"{g}-{i}", group=f"g{g}", read=lambda: None, organ=f"o{g % 3}")
        for g in range(groups)
        for i in range(per_group)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_split_never_cuts_a_group(seed):
    split = make_split(_entries(9), 0.3, seed)
    home = {}
    for part, names in split.parts.items():
        for name in names:
            assert home.setdefault(split.groups[name], part) == part
    assert len(split.parts["validation"]) >= 5
    assert len(split.parts["train"]) + len(split.parts["validation"]) == 18


def test_organs_are_spread_evenly():
    split = make_split(_entries(9), 0.33, 1)
    assert len({int(name.split("-")[0]) % 3 for name in split.parts["validation"]}) == 3


def test_same_seed_same_split_whatever_the_order():
    entries = _entries(9)
    assert make_split(entries, 0.3, 5).digest == make_split(entries[::-1], 0.3, 5).digest
    assert make_split(entries, 0.3, 5).digest != make_split(entries, 0.3, 6).digest


@pytest.mark.parametrize("share", [0, 1, -0.5])
def test_share_out_of_range(share):
    with pytest.raises(ConfigError, match="between 0 and 1"):
        make_split(_entries(4), share, 1)


def test_one_patient_cannot_be_split():
    with pytest.raises(ConfigError, match=says("two groups")):
        make_split(_entries(1), 0.5, 1)


def test_file_comes_back_and_shows_tampering(tmp_path):
    split = make_split(_entries(6), 0.3, 1)
    path = tmp_path / "split.json"
    write_split(path, split)
    assert read_split(path).digest == split.digest
    content = json.loads(path.read_text())
    content["parts"]["train"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says("hash")):
        read_split(path)


@pytest.mark.parametrize(
    ("parts", "groups", "said"),
    [
        ({"train": ("a",), "validation": ("b",)}, {"a": "p", "b": "p"}, "group 'p' in both"),
        ({"train": ("a",), "validation": ("a",)}, {"a": "p"}, "twice"),
        ({"train": ("a",)}, {}, "no group"),
        ({"training": ("a",)}, {"a": "p"}, "not one of them"),
    ],
)
def test_leaking_split_is_an_error(parts, groups, said):
    with pytest.raises(InputError, match=said):
        Split(parts, groups)


def entries_of(pairs):
    from nucleate.datasets.base import Entry

    return [Entry(name, group, lambda: None, organ) for name, group, organ in pairs]


PATIENTS = entries_of(
    (f"p{p:02d}_{i}", f"p{p:02d}", ("liver", "lung", "skin")[p % 3])
    for p in range(15)
    for i in range(1 + p % 3)
)


@pytest.mark.parametrize("scheme", ["kfold", "leave-one-organ-out", "leave-one-patient-out"])
def test_schemes_test_each_image_once_and_cut_no_group(scheme):
    from nucleate.datasets.schemes import SCHEMES, SchemeOptions

    splits = SCHEMES[scheme](PATIENTS, SchemeOptions())
    assert (
        len(splits) == {"kfold": 5, "leave-one-organ-out": 3, "leave-one-patient-out": 15}[scheme]
    )
    tested = sorted(name for s in splits.values() for name in s.parts["test"])
    assert tested == sorted(e.name for e in PATIENTS)
    for split in splits.values():
        assert sum(map(len, split.parts.values())) == len(PATIENTS)
        assert split.parts["train"]
        assert split.parts["validation"]
        assert SCHEMES[scheme](PATIENTS, SchemeOptions()).keys() == splits.keys()
    if scheme == "kfold":
        assert all({n.split("_")[0] for n in s.parts["test"]} for s in splits.values())
        organs = [{int(n[1:3]) % 3 for n in s.parts["test"]} for s in splits.values()]
        assert all(len(o) == 3 for o in organs)  # every organ in every fold


def test_nuinsseg_folds_are_those_of_scikit_learn():
    from sklearn.model_selection import KFold

    from nucleate.datasets.schemes import SchemeOptions, nuinsseg, shuffled_folds

    for count in (665, 17):
        theirs = KFold(5, shuffle=True, random_state=19).split(np.zeros(count))
        assert [test.tolist() for _, test in theirs] == shuffled_folds(count, 5, 19)
    tiles = entries_of((f"human_organ{i % 31}_{i:03d}", f"organ{i % 31}", "x") for i in range(665))
    folds = nuinsseg(tiles, SchemeOptions())
    assert [len(s.parts["test"]) for s in folds.values()] == [133] * 5
    assert "published" in folds["fold-1"].mixes
    with pytest.raises(ConfigError, match=says("665", "3")):
        nuinsseg(tiles[:3], SchemeOptions())


def test_s2_and_official():
    from nucleate.datasets.schemes import SCHEMES, SchemeOptions, histology_nucleiseg, official

    organs = (
        "Pleura", "Pancreas", "Skin", "Thymus", "AdrenalGland", "Larynx", "Testes", "Mediastinum",
        "ThyroidGland", "LymphNodes",
    )  # fmt: skip
    names = [f"Human_{organ}_{i:02d}" for organ in organs for i in (1, 2, 3)]
    cryo = entries_of((f"0:{n}", n, "x") for n in names)
    split = histology_nucleiseg(cryo, SchemeOptions())["histology-nucleiseg"]
    assert [len(split.parts[p]) for p in ("train", "validation")] == [22, 6]
    assert len(split.groups) == 28  # Histology-NucleiSeg's copy lacked two images
    assert "0:Human_Mediastinum_01" in split.parts["validation"]
    tested = SCHEMES["histology-nucleiseg-tested"](cryo, SchemeOptions(validation=0.2))[
        "histology-nucleiseg-tested"
    ]
    assert set(tested.parts["test"]) == set(split.parts["validation"])
    assert {*tested.parts["train"], *tested.parts["validation"]} == set(split.parts["train"])
    assert len(tested.parts["validation"]) == 5
    with pytest.raises(ConfigError, match="CryoNuSeg"):
        histology_nucleiseg(cryo[:-1], SchemeOptions())
    parts = entries_of((f"{p}/a{i}", f"{p}{i}", None) for p in ("Train", "Test") for i in range(5))
    assert official(parts, SchemeOptions())["official"].parts["test"] == tuple(
        f"Test/a{i}" for i in range(5)
    )
    folds = entries_of((f"fold{f}_{i}", f"fold{f}", None) for f in (1, 2, 3) for i in range(4))
    assert sorted(official(folds, SchemeOptions())) == ["fold1", "fold2", "fold3"]
    with pytest.raises(ConfigError, match=says("official test")):
        official(PATIENTS, SchemeOptions())


def test_schemes_refuse_what_cannot_be():
    from nucleate.datasets.schemes import SchemeOptions, kfold, leave_one_organ_out

    with pytest.raises(ConfigError, match=says("2 to 15")):
        kfold(PATIENTS, SchemeOptions(folds=16))
    with pytest.raises(ConfigError, match=says("no organ")):
        leave_one_organ_out(entries_of([("a", "a", None)]), SchemeOptions())
    with pytest.raises(InputError, match="several organs"):
        leave_one_organ_out(entries_of([("a", "p", "liver"), ("b", "p", "lung")]), SchemeOptions())


def test_a_split_file_cannot_lie_about_groups(tmp_path):
    """The file states that each image is a separate patient; the reader has better."""
    from nucleate.config import DataConfig
    from nucleate.datasets.loading import collect
    from tests.data import tnbc

    tnbc.make(tmp_path / "t")
    names = ("0:01_1", "0:01_2", "0:02_1")
    lying = Split({"train": names[1:], "validation": names[:1]}, {n: n for n in names})
    write_split(tmp_path / "s.json", lying)
    config = DataConfig.model_validate({"sets": [{"name": "tnbc", "path": "t"}], "split": "s.json"})
    with pytest.raises(InputError, match=says("'TNBC-01'", "train", "validation")):
        collect(config, tmp_path)


@pytest.mark.data
def test_the_images_of_s2_have_the_components_that_it_counted(real_data):
    """142, 102, … are the numbers in the notebook: the same images, labels and way to count."""
    from nucleate.datasets.loading import list_entries
    from nucleate.evaluation.score import component_count

    counted = {
        "Human_Larynx_03": 142, "Human_AdrenalGland_02": 102, "Human_Pleura_02": 144,
        "Human_Testes_01": 150, "Human_AdrenalGland_03": 97, "Human_Mediastinum_01": 313,
    }  # fmt: skip
    entries = list_entries("cryonuseg", real_data / "CryoNuSeg", {})
    found = {e.name: component_count(e.read().labels) for e in entries if e.name in counted}
    assert found == counted
