#!/usr/bin/env bash
# Measures what scripts/evidence/predict_step.py holds predictions against, on an idle machine with two cores:
#   scripts/evidence/predict_measure.sh cores|asleep|lab FOLDER
# cores: ranks as they are, so that four of them share two cores. asleep: every rank computes at a fifth of its speed and
# sleeps the rest (--slow), so that four of them behave as four devices. lab: the same on four hosts, network namespaces
# with links of 200 Mbit/s; needs root. Each: 5 to 8 minutes, into FOLDER/<part>/r1, r2 and r4.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=${1:?cores, asleep or lab} folder=${2:?FOLDER}/$1
export BENCH=${BENCH:-.venv/bin/bench}

case $part in
  cores) speed= ;;
  asleep|lab) speed=0.2 ;;
  *) echo "$part: cores, asleep or lab" >&2; exit 2 ;;
esac

measure() { # measure RANKS BUDGET ARGUMENTS...: into r<RANKS>
  local ranks=$1 budget=$2 slow=() rank
  shift 2
  for ((rank = 0; rank < ranks; rank++)); do [ -z "$speed" ] || slow+=(--slow "$rank=$speed"); done
  local arguments=("$@" "${slow[@]}" --launches 1 --budget "$budget" -o "$folder/r$ranks")
  if [ "$part" = lab ] && [ "$ranks" -gt 1 ]; then
    scripts/lab --hosts "$ranks" --rate 200mbit -- "${arguments[@]}"
  else
    "$BENCH" run "${arguments[@]}" --ranks "$ranks"
  fi
}

rates=()
for size in 256 512 1024; do rates+=(--case "compute/matmul[shape=square,size=$size]"); done
for shape in qkv mlp_up mlp_down; do rates+=(--case "compute/matmul[shape=$shape,size=256,tokens=512]"); done
for op in copy triad; do rates+=(--case "compute/$op[num_bytes=67108864]"); done
links=()
for op in all_reduce all_gather reduce_scatter broadcast; do
  for size in 65536 1048576 16777216; do links+=(--case "collective/$op[num_bytes=$size]"); done
done
step=shape=small,batch=8
steps=()
for split in num_microbatches=1,pp=1,tp=1 dp_mode=shard,num_microbatches=1,pp=1,tp=1 num_microbatches=4,pp=2,tp=1 \
  num_microbatches=1,pp=1,tp=4 dp_mode=shard,num_microbatches=1,pp=1,tp=2 num_microbatches=4,pp=1,tp=1; do
  steps+=(--case "training_step/run[$step,$split]")
done
measure 1 80s compute training_step "${rates[@]}" --case "training_step/run[$step,num_microbatches=1,pp=1,tp=1]"
measure 2 150s compute collective "${rates[@]}" "${links[@]}"
measure 4 240s training_step "${steps[@]}"
