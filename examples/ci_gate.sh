#!/usr/bin/env bash
# From a folder of photos to a gate and a sorted inbox, as a script for CI or cron:  bash ci_gate.sh DATA INBOX LEAST [OPTION...]
#
# Cleans and splits DATA, trains on it, stops with exit code 1 unless the accuracy on the test set is at least LEAST, and
# then sorts the photos of INBOX into sorted/<class>, those it is not sure of into sorted/unknown. Further options go to
# `imgclf train`. `imgclf predict --undo sorted` and `imgclf clean DATA --undo` take all moves back.
set -euo pipefail
data=$1 inbox=$2 least=$3
shift 3

imgclf clean "$data" --quiet
imgclf split "$data" --quiet
run=$(imgclf train "$data" --quiet "$@")
imgclf evaluate --run "$run" --fail-under "accuracy=$least" --html report.html
imgclf predict "$inbox" --run "$run" --threshold 0.5 --move-to sorted --format '{label}\t{name}'
