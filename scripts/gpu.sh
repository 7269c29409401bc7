#!/usr/bin/env bash
# The tests and the benchmark that need a GPU, on a machine that has torch and no network.
#   scripts/gpu.sh fetch [PACKAGE...]   on a machine with a package index: what the other lacks, into
#                                       ./gpu-wheels; all but torch and numpy, unless some are named
#   scripts/gpu.sh run                  on the machine with the GPU: install that, run both
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
needed=(ml-dtypes onnx onnx-ir onnxruntime onnxscript pillow protobuf psutil pyarrow pydantic
  pydantic-core pytest pytest-timeout annotated-types typing-inspection typing-extensions iniconfig
  pluggy packaging pygments flatbuffers)
case ${1:-} in
  fetch)
    shift
    [ $# -gt 0 ] && needed=("$@")
    "$python" -m pip download --quiet --no-deps --only-binary :all: --constraint constraints.txt \
      --python-version 3.12 --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
      --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --dest gpu-wheels \
      "${needed[@]}"
    du -sh gpu-wheels ;;
  run)
    # A virtual environment sees the system's packages, not those of the environment that made it.
    "$python" -m venv --without-pip .gpu
    packages=$(.gpu/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")
    "$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))" >"$packages/torch.pth"
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target "$packages" \
      gpu-wheels/*.whl
    failed=0
    .gpu/bin/python -m pytest --noconftest -q -m gpu tests/workers/test_gpu.py || failed=1
    .gpu/bin/python -m benchmarks.gpu || failed=1
    exit $failed ;;
  *) sed -n '2,5s/^# //p' "$0"; exit 2 ;;
esac
