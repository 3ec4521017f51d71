#!/usr/bin/env bash
# One result from several nodes under Slurm, one task a GPU; from the checkout, on a file system that all nodes see:
#     sbatch scripts/slurm.sh [OPTIONS of `bench run`]
#     sbatch --nodes=4 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm.sh --preset full
# Such a run is one launch: submit it three times, and give the files to `bench compare` together.
# Tried with Slurm 22.05 of two node daemons on one machine, on CPU. Not tried: several machines, GPUs.
#SBATCH --job-name=bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --output=bench-%j.log
set -euo pipefail
# Slurm runs a copy of this file from its spool folder, so the checkout is where sbatch was called.
cd -- "${SLURM_SUBMIT_DIR:?call this with sbatch, from the checkout}"
# Once, before the tasks start: two hundred of them need not wait for each other's set-up. A module's torch is kept
# with PYTHON (sbatch hands it on).
python="$(bash scripts/setup)"
# No --gpus-per-task: it would hide a task's neighbours from NCCL. Each task takes the GPU of its number on the node.
# One task that ends badly ends all: the others would wait for it.
exec srun --kill-on-bad-exit=1 "$python" -P -m bench run --launcher slurm "$@"
