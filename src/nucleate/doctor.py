"""Diagnosis of an installation: what is installed, works, or is missing."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path

from nucleate._version import __version__
from nucleate.errors import NucleateError, install, optional
from nucleate.models.card import BUNDLED, DEFAULT_MODEL, bundled_models, read_card

_EXTRAS = {
    "data": ("matplotlib", "scipy", "jinja2"),
    "train": (
        "torch",
        "torchvision",
        "segmentation_models_pytorch",
        "lightning",
        "tensorboard",
        "onnx",
    ),
    "cluster": ("dask", "distributed", "dask_jobqueue", "fsspec", "s3fs"),
    "export": ("zarr", "spatialdata", "geopandas", "anndata"),
    "view": ("fastapi", "uvicorn"),
}


def diagnose() -> tuple[list[str], bool]:
    """Return a description of this installation, line by line, and whether segmenting works."""
    lines = [
        f"nucleate {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"installed at {Path(__file__).parent}",
        "",
        "engines:",
    ]
    healthy, engine_lines = _engines()
    lines += engine_lines
    lines += ["", "bundled models:"]
    for name in bundled_models():
        card = read_card(BUNDLED / name)
        size = sum(f.stat().st_size for f in (BUNDLED / name).iterdir()) / 1e6
        lines.append(f"  {name}: {card.mpp:g} um/px, {size:.1f} MB, weights {card.licence}")
    lines += ["", "extras:"]
    for extra, modules in _EXTRAS.items():
        missing = [m for m in modules if find_spec(m) is None]
        state = (
            "installed"
            if not missing
            else (f"lacks {', '.join(missing)}: {install(extra, missing[0])}")
        )
        lines.append(f"  {extra}: {state}")
    lines += ["", *_sizes()]
    return lines, healthy


def _engines() -> tuple[bool, list[str]]:
    """Run the bundled model on a blank image with every installed engine."""
    import numpy as np

    from nucleate.inference.loading import load_model
    from nucleate.inference.segment import segment

    lines = []
    healthy = False
    blank = np.full((64, 64, 3), 255, np.uint8)
    try:
        model = load_model(DEFAULT_MODEL, device="cpu", backend="openvino")
        found = len(segment(blank, model, mpp=model.card.mpp))
        lines.append(f"  openvino: works ({model.backend.about}; {found} nuclei on white)")
        healthy = True
    except (NucleateError, ImportError, RuntimeError) as error:
        lines.append(f"  openvino: does not work: {error}")
    if find_spec("torch") is None:
        lines.append("  torch: not installed (needed for training and for GPUs)")
        return healthy, lines
    try:
        torch = optional("torch", "train")
        model = load_model(DEFAULT_MODEL, device="cpu", backend="torch")
        segment(blank, model, mpp=model.card.mpp)
        where = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
        lines.append(f"  torch: works ({model.backend.about}; {where})")
    except (NucleateError, ImportError, RuntimeError) as error:
        lines.append(f"  torch: does not work: {error}")
    return healthy, lines


def _sizes(largest: int = 8) -> list[str]:
    """Return the largest installed distributions and the size of the whole environment."""
    sizes = {d.metadata["Name"]: _size(d) for d in distributions(path=_site_packages())}
    total = sum(sizes.values())
    lines = [f"size of the environment: {total / 1e6:.0f} MB; the biggest parts:"]
    for name, size in sorted(sizes.items(), key=lambda item: -item[1])[:largest]:
        try:
            number = version(name)
        except PackageNotFoundError:
            number = "?"
        lines.append(f"  {size / 1e6:6.0f} MB  {name} {number}")
    return lines


def _site_packages() -> list[str]:
    """Return the folders of this environment that contain installed packages."""
    return [p for p in dict.fromkeys(sys.path) if p.endswith(("site-packages", "dist-packages"))]


def _size(distribution: Distribution) -> int:
    """Return the size in bytes of all files of a distribution."""
    total = 0
    for file in distribution.files or []:
        try:
            total += Path(str(file.locate())).stat().st_size
        except OSError:
            continue
    return total
