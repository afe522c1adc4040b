#!/usr/bin/env bash
# Whether this machine's GPU trains and samples as documented: bash tools/gpu_check.sh [--json FILE]
set -euo pipefail
cd "$(dirname "$0")/.."
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
exec "$python" -m tools.gpu_check "$@"
