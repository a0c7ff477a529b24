#!/usr/bin/env bash
# Train on DATA, check the accuracy, and sort the images of INBOX; for CI or cron:  bash ci_gate.sh DATA INBOX MINIMUM [OPTION...]
#
# Cleans and splits DATA and trains on it. Stops with exit code 1 unless the accuracy on the test set is at least MINIMUM.
# Then moves the images of INBOX to sorted/<class>, and those with a probability below 0.5 to sorted/unknown. Further options
# go to `imgclf train`. `imgclf predict --undo sorted` and `imgclf clean DATA --undo` move all files back.
set -euo pipefail
data=$1 inbox=$2 minimum=$3
shift 3

imgclf clean "$data" --quiet
imgclf split "$data" --quiet
run=$(imgclf train "$data" --quiet "$@")
imgclf evaluate --run "$run" --fail-under "accuracy=$minimum" --html report.html
imgclf predict "$inbox" --run "$run" --threshold 0.5 --move-to sorted --format '{label}\t{name}'
