#!/usr/bin/env bash
# From nothing to a finished demo: environment, install, three EM iterations, a report.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh
exec .venv/bin/python -m lt_hpc.launch --cluster local --iters 3 --config configs/demo.yaml --run-dir runs/demo "$@"
