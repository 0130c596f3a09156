import json

import pytest

from nucleate.datasets.entry import Entry
from nucleate.datasets.splits import Split, make_split, read_split, write_split
from nucleate.errors import ConfigError, InputError


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
    with pytest.raises(ConfigError, match="at least two groups"):
        make_split(_entries(1), 0.5, 1)


def test_file_comes_back_and_shows_tampering(tmp_path):
    split = make_split(_entries(6), 0.3, 1)
    path = tmp_path / "split.json"
    write_split(path, split)
    assert read_split(path).digest == split.digest
    content = json.loads(path.read_text())
    content["parts"]["train"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="hash does not fit"):
        read_split(path)


@pytest.mark.parametrize(
    ("parts", "groups", "said"),
    [
        ({"train": ("a",), "validation": ("b",)}, {"a": "p", "b": "p"}, "group 'p' into"),
        ({"train": ("a",), "validation": ("a",)}, {"a": "p"}, "twice"),
        ({"train": ("a",)}, {}, "no group"),
        ({"training": ("a",)}, {"a": "p"}, "is none"),
    ],
)
def test_leaking_split_is_an_error(parts, groups, said):
    with pytest.raises(InputError, match=said):
        Split(parts, groups)
