#!/usr/bin/env bash
#SBATCH --job-name=lt-em-iter
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --dependency=singleton
#SBATCH --open-mode=append
#SBATCH --signal=B:USR2@300
#SBATCH --output=lt-em-iter-%j.log
#
# The next EM iteration of a run, whole, inside this one allocation: an E-step over all tasks,
# merge, training on all tasks, evaluation. The first one also prepares and warm-starts.
#
#   sbatch slurm/em_iter.sh                                       the demo, into runs/demo
#   RUN_DIR=runs/mine CONFIG=configs/mine.yaml sbatch slurm/em_iter.sh
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 slurm/em_iter.sh --config configs/mine.yaml
#
# Options on sbatch's command line override the header; arguments after the script go to
# lt_hpc.launch. The RUN_DIR of an existing run without CONFIG goes on with the run's own configuration.
# Preempted or out of time, it saves, goes back into the queue and continues.
# Submit it again at any time, also while it runs: each one waits for those before it (singleton: of
# the same job name; another run can have its own --job-name) and does the next iteration that is not done.
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"

python=${PYTHON:-.venv/bin/python}
[[ -x $python ]] || python=python3
arguments=(--cluster allocation --iters next)
if [[ -n ${CONFIG:-} ]]; then arguments+=(--config "$CONFIG"); fi
if [[ -n ${RUN_DIR:-} ]]; then arguments+=(--run-dir "$RUN_DIR"); fi
# A signal before the launcher can handle it must not kill it.
trap '' TERM USR1 USR2
# exec: the signal that --signal=B: sends to the batch shell reaches the launcher itself.
exec "$python" -m lt_hpc.launch "${arguments[@]}" "$@"
