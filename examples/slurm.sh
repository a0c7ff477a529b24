#!/bin/bash
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 1
# Train on several machines under Slurm; the batch is shared by all, and the chief writes the run:
#
#     sbatch --gpus-per-node 4 examples/slurm.sh data --run-dir runs/first --batch-size 256
#
# Everything after the script's name goes to `imgclf train`. The data folder needs its split (`imgclf split data`), and the data
# and run folders must be where every node sees them. After a node was lost: the same with `--resume runs/first` alone.
set -euo pipefail
port=${PORT:-2222}
WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export WORKERS
# shellcheck disable=SC2016  # each task fills in its own number
exec srun bash -c '
    export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    exec imgclf train "$@"' worker "$@"
