#!/bin/bash
#SBATCH --array 1-8
# Distribute the work on a large folder over a cluster. Each task processes one shard, independently of the others:
#
#     sbatch --wait examples/slurm_array.sh clean data && imgclf clean data
#     sbatch --wait examples/slurm_array.sh audit data && imgclf audit data --html found.html
#     sbatch --wait examples/slurm_array.sh predict photos --run best && imgclf predict --merge shard-*-of-8.jsonl --csv > all.csv
#
# Every node must see the folder. To process shards 3 and 5 of 8 again: SHARDS=8 sbatch --array 3,5 ...
set -euo pipefail
count=${SHARDS:-$SLURM_ARRAY_TASK_COUNT}
shard=$SLURM_ARRAY_TASK_ID/$count
if [ "$1" != predict ]; then
    exec imgclf "$@" --shard "$shard"
fi
output=shard-$SLURM_ARRAY_TASK_ID-of-$count.jsonl
status=0
imgclf "$@" --shard "$shard" --jsonl > "$output.tmp" || status=$?
mv "$output.tmp" "$output" # also after an error: --merge reports a file that ended early
exit "$status"
