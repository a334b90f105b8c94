#!/usr/bin/env bash
#SBATCH --job-name=unmask
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
# sbatch configs/slurm.sh configs/lm1b-wrapped.yaml /shared/runs/a [OPTIONS...]
# Five minutes before the limit Slurm sends SIGTERM: the run saves itself. Submitted again, it goes on.
set -eu
config=$1 run=$2
shift 2
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
if [ -f "$run/config.yaml" ]; then what=(--resume); else what=(--config "$config"); fi
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
  --rdzv-backend c10d --rdzv-endpoint "$first:29500" --rdzv-id "$SLURM_JOB_ID" \
  -m unmask -- train --run "$run" "${what[@]}" "$@"
