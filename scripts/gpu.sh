#!/usr/bin/env bash
# The tests and the benchmark that need a GPU, on a machine that has torch and no network.
#   scripts/gpu.sh fetch   on a machine with a package index: what the other lacks, into ./gpu-wheels
#   scripts/gpu.sh run     on the machine with the GPU: install that, run both
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
needed=(ml-dtypes onnx onnx-ir onnxruntime onnxscript pillow protobuf psutil pyarrow pydantic
  pydantic-core pytest pytest-timeout annotated-types typing-inspection typing-extensions iniconfig
  pluggy packaging pygments flatbuffers)
case ${1:-} in
  fetch)
    "$python" -m pip download --quiet --no-deps --only-binary :all: --constraint constraints.txt \
      --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
      --platform manylinux2014_x86_64 --dest gpu-wheels "${needed[@]}"
    du -sh gpu-wheels ;;
  run)
    "$python" -m venv --system-site-packages .gpu
    .gpu/bin/python -m pip install --quiet --no-index --no-deps gpu-wheels/*.whl
    .gpu/bin/python -m pytest --noconftest -q tests/workers/test_gpu.py
    .gpu/bin/python -m benchmarks.gpu ;;
  *) sed -n '2,4s/^# //p' "$0"; exit 2 ;;
esac
