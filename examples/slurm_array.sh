#!/bin/bash
#SBATCH --array 1-8
# Spread the work on a large folder over a cluster; each task does one share and knows nothing of the others:
#
#     sbatch --wait examples/slurm_array.sh clean data && imgclf clean data
#     sbatch --wait examples/slurm_array.sh audit data && imgclf audit data --html found.html
#     sbatch --wait examples/slurm_array.sh predict photos --run best && imgclf predict --merge part-*-of-8.jsonl --csv > all.csv
#
# The folder must be where every node sees it. To do shares 3 and 5 of 8 once more: SHARES=8 sbatch --array 3,5 ...
set -euo pipefail
count=${SHARES:-$SLURM_ARRAY_TASK_COUNT}
share=$SLURM_ARRAY_TASK_ID/$count
if [ "$1" != predict ]; then
    exec imgclf "$@" --shard "$share"
fi
part=part-$SLURM_ARRAY_TASK_ID-of-$count.jsonl
status=0
imgclf "$@" --shard "$share" --jsonl > "$part.tmp" || status=$?
mv "$part.tmp" "$part" # --merge says so when it did not come to its end
exit "$status"
