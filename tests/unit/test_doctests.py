"""Every example in a docstring is run, on the installed package."""

import doctest
import importlib
import pkgutil

import pytest

import nucleate

MODULES = sorted(
    m.name for m in pkgutil.walk_packages(nucleate.__path__, "nucleate.")
    if not m.name.endswith("__main__")
)  # fmt: skip
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), optionflags=OPTIONS).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(
        bool(test.examples) for n in MODULES for test in finder.find(importlib.import_module(n))
    )
    assert count >= 45
