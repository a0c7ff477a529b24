#!/bin/bash
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 1
# Train on several machines under Slurm. All workers share each batch, and the chief writes the run:
#
#     sbatch --gpus-per-node 4 examples/slurm.sh data --run-dir runs/first --batch-size 256
#
# All arguments of the script go to `imgclf train`. Run `imgclf split data` first. Every node must see the data and run folders.
# If a node was lost, run the script again with `--resume runs/first` as its only arguments.
set -euo pipefail
port=${PORT:-2222}
WORKERS=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed "s/.*/\"&:$port\"/" | paste -sd,)
export WORKERS
# shellcheck disable=SC2016  # each task fills in its own number
exec srun bash -c '
    export TF_CONFIG="{\"cluster\": {\"worker\": [$WORKERS]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    exec imgclf train "$@"' worker "$@"
