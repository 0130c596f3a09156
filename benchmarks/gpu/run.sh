#!/usr/bin/env bash
# Check and measure nucleate on a GPU within a time budget; nothing is downloaded.
#
#     benchmarks/gpu/run.sh OUT [--device cuda] [--seconds 400]
#     benchmarks/gpu/run.sh OUT --parts generalise [--ideas base,zoom]   the judge, packed before by
#                                          benchmarks/generalise/pack.py --wheels
#
# Runs on a bare machine with Python, PyTorch, torchvision, lightning, numba, OpenCV, pyarrow, onnx
# and onnxruntime. What else nucleate needs comes as wheels in .gpu/wheels (benchmarks/gpu/pack.py).
# Writes OUT/gpu.json (kept as docs/results/gpu-NUMBER.json) and OUT/gpu.log.
set -euo pipefail
out=${1:?usage: benchmarks/gpu/run.sh OUT [--device cuda] [--seconds 400]}
shift
start=$(date +%s)
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT

missing() {
    "$python" - <<'PY'
import importlib.util as util
# shapely, pydantic: compiled for one version of Python, so a wheel is used only where they are missing
need = ["annotated_types", "defusedxml", "faster_coco_eval", "lap", "openslide", "openslide_bin", "pydantic",
        "pydantic_core", "roifile", "segmentation_models_pytorch", "shapely", "typing_inspection"]
print(" ".join(name for name in need if util.find_spec(name) is None))
PY
}

lacking=$(missing)
if [ -n "$lacking" ]; then
    echo "unpacking wheels, for: $lacking"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --root-user-action ignore --target "$site" .gpu/wheels/*.whl
fi
export PYTHONPATH="$PWD/src:$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
"$python" benchmarks/gpu/run.py "$out" --started "$start" "$@" 2>&1 | tee "$out/gpu.log"
