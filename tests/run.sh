#!/usr/bin/env bash
# One command from a fresh machine to a tested project:  bash tests/run.sh [arguments for pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source examples/setup.sh
environment=${IMGCLF_VENV:-.venv}
make_environment "$environment" -e '.[dev]'
offer_chromium "$environment"
# Two at a time: most of a test's time is a process that starts, on one core. In the order of conftest.py, long files first.
# Python's development mode warns of files, sockets and databases that nobody closed; warnings are errors here. Its checks of
# memory are skipped: they slow TensorFlow by a tenth.
PYTHONDEVMODE=1 PYTHONMALLOC=pymalloc "$environment/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
