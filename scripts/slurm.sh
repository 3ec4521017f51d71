#!/usr/bin/env bash
# One result from several nodes under Slurm, one task per GPU. Call it in the checkout, on a file system that all nodes
# see:
#     sbatch scripts/slurm.sh [OPTIONS of `bench run`]
#     sbatch --nodes=4 --gpus-per-node=4 --ntasks-per-node=4 scripts/slurm.sh --preset full
#     BENCH_NODES=4 sbatch --nodes=5 scripts/slurm.sh     # the fifth node is there in case that one is lost
# The result is slurm-JOB.jsonl in the folder of -o (default: results). A job that is requeued finishes this file.
# If a node is lost, its name is printed. If as many nodes are left as the run needs, they finish the file, and the file
# says which nodes took part.
# Tried with Slurm 22.05 of four node daemons on one machine, on CPU. Not tried: several machines, GPUs.
#SBATCH --job-name=bench
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=01:00:00
#SBATCH --output=bench-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --no-kill
set -euo pipefail
# Slurm runs a copy of this file from its spool folder, so the checkout is where sbatch was called.
cd -- "${SLURM_SUBMIT_DIR:?call this with sbatch, from the checkout}"
say() { echo "slurm.sh: $*" >&2; }

folder=results new=() again=()
while [[ $# -gt 0 ]]; do
    case $1 in
        -o | --output) folder=${2:?-o FOLDER} && shift ;;
        --output=*) folder=${1#*=} ;;
        # What may change while a run is finished. The rest is in the plan, which --resume takes from the file.
        --device | --against | --join-timeout) new+=("$1" "${2:?$1}") again+=("$1" "$2") && shift ;;
        --device=* | --against=* | --join-timeout=* | --allow-unlike | --busy | --profile) new+=("$1") again+=("$1") ;;
        *) new+=("$1") ;;
    esac
    shift
done
file=$folder/slurm-$SLURM_JOB_ID.jsonl

answers() { # answers NODE: asked for a task, since Slurm itself learns of a node's death after minutes
    timeout 30 srun --overlap --quiet --nodes=1 --ntasks=1 --nodelist="$1" true &>/dev/null
}

part() { # part NODE...: those that answer are in `here` afterwards, the others in `lost`
    local node pid=()
    here=() lost=()
    for node in "$@"; do answers "$node" & pid+=($!); done
    for node in "$@"; do
        if wait "${pid[0]}"; then here+=("$node"); else lost+=("$node"); fi
        pid=("${pid[@]:1}")
    done
}

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
needed=${BENCH_NODES:-${#nodes[@]}}
if ! [[ $needed =~ ^[1-9][0-9]*$ && $needed -le ${#nodes[@]} ]]; then
    say "BENCH_NODES=$needed: this job has ${#nodes[@]} nodes"
    exit 2
fi
# Once, before the tasks start: two hundred of them need not wait for each other's set-up. A module's torch is kept
# with PYTHON (sbatch hands it on).
python="$(bash scripts/setup)"
while true; do
    if [[ -s $file ]]; then options=(--resume "$file" "${again[@]}"); else options=(--save-as "$file" "${new[@]}"); fi
    used=("${nodes[@]:0:needed}") code=0
    # No --gpus-per-task: it would hide a task's neighbours from NCCL. Each task takes the GPU of its number on the node.
    # 30 s after the first task has ended all end: time for rank 0 to report, and the others wait no longer.
    # --overlap: Slurm goes on counting what a lost node's step had.
    srun --kill-on-bad-exit=0 --wait=30 --overlap --nodes="$needed" --ntasks=$((needed * ${SLURM_NTASKS_PER_NODE:-1})) \
        --nodelist="$(IFS=, && echo "${used[*]}")" \
        "$python" -P -m bench run --launcher slurm "${options[@]}" || code=$?
    state=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)
    [[ $code != 0 && $state == RUNNING ]] || exit "$code"  # not RUNNING: cancelled, or out of time
    part "${used[@]}"
    [[ ${#lost[@]} != 0 ]] || exit "$code"
    nodes=("${here[@]}" "${nodes[@]:needed}")
    if [[ ${#nodes[@]} -lt $needed ]]; then
        say "lost ${lost[*]}; ${#nodes[@]} of the $needed nodes that the run needs are left. Measured so far: $file"
        exit 3
    fi
    say "lost ${lost[*]}; ${nodes[*]:0:needed} go on"
    again+=(--allow-unlike)  # another node takes part
done
