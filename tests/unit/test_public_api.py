"""What the package promises: its public names, a light import, no torch without need."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import nucleate
from tests.errors import says

SURFACE = Path(__file__).parent / "api_surface.json"


def test_no_public_name_changes_unnoticed():
    assert sorted(nucleate.__all__) == json.loads(SURFACE.read_text())


@pytest.mark.parametrize("name", sorted(nucleate.__all__))
def test_every_public_name_is_there_and_documented(name):
    thing = getattr(nucleate, name)
    assert name == "__version__" or thing.__doc__


def test_unknown_name():
    with pytest.raises(AttributeError, match=says("attribute", "'segmnt'")):
        _ = nucleate.segmnt


def _modules_after(code):
    script = f"import sys; {code}; print('\\n'.join(sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        ).stdout.split()
    )


def test_importing_the_package_imports_nothing_heavy():
    loaded = _modules_after("import nucleate")
    assert not loaded & {"numpy", "torch", "cv2", "openvino", "numba", "pyarrow", "pydantic"}


def test_segmenting_needs_no_torch():
    code = (
        "import numpy as np; from nucleate import segment; "
        "segment(np.full((32, 32, 3), 255, np.uint8), mpp=0.25)"
    )
    loaded = _modules_after(code)
    assert not loaded & {"torch", "lightning", "matplotlib", "skimage"}
