#!/usr/bin/env bash
# Measures what scripts/evidence/predict_step.py holds predictions against, on an idle machine with two cores:
#   scripts/evidence/predict_measure.sh cores|lab FOLDER RUN
# cores: one, two and four ranks on one host, so that four share two cores. lab: one rank a host, on one, two and four
# network namespaces with links of 200 Mbit/s; needs root. Each ten minutes, into FOLDER/<part>/RUN/r1, r2 and r4.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=${1:?cores or lab} folder=${2:?FOLDER}/$1/${3:?RUN, such as run1}
export BENCH=${BENCH:-.venv/bin/bench}
[ "$part" = cores ] || [ "$part" = lab ] || { echo "$part: cores or lab" >&2; exit 2; }

measure() { # measure RANKS BUDGET ARGUMENTS...: into r<RANKS>
  local ranks=$1 arguments=("${@:3}" --launches 1 --visits 6 --budget "$2" -o "$folder/r$1")
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
steps() { # steps SPLIT...: their cases, in `cases`
  cases=()
  for split in "$@"; do cases+=(--case "training_step/run[shape=small,batch=8,$split]"); done
}
steps num_microbatches=1,pp=1,tp=1 num_microbatches=2,pp=1,tp=1 num_microbatches=4,pp=1,tp=1 \
  num_microbatches=8,pp=1,tp=1
measure 1 90s compute training_step "${rates[@]}" "${cases[@]}"
steps num_microbatches=1,pp=1,tp=1 dp_mode=shard,num_microbatches=1,pp=1,tp=1 num_microbatches=4,pp=2,tp=1 \
  num_microbatches=1,pp=1,tp=2
measure 2 200s compute collective training_step "${rates[@]}" "${links[@]}" "${cases[@]}"
steps num_microbatches=1,pp=1,tp=1 dp_mode=shard,num_microbatches=1,pp=1,tp=1 num_microbatches=4,pp=2,tp=1 \
  num_microbatches=1,pp=1,tp=4 dp_mode=shard,num_microbatches=1,pp=1,tp=2 num_microbatches=2,pp=1,tp=1 \
  num_microbatches=4,pp=4,tp=1
measure 4 300s training_step "${cases[@]}"
