#!/usr/bin/env bash
# Measures what results/evidence/mixed.md shows, on an idle machine with two cores:
#   scripts/evidence/mixed_measure.sh two|four|lab|ranks FOLDER
# two, four (a quarter of an hour each): ranks that sleep 75% and 80% of their time (busy=0.25, 0.2), so that all of
# them together keep less than one core busy. lab: four network namespaces, needs root. ranks: a healthy
# run and one with a slowed rank.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=${1:?two, four, lab or ranks} folder=${2:?FOLDER}
bench=${BENCH:-.venv/bin/bench}

data=hidden=128,num_heads=8,num_layers=2,sequence=128
tensor=hidden=256,num_layers=2,sequence=256
pipeline=hidden=128,num_heads=8,sequence=64

mixed() { # mixed BUSY UNITS_PIPELINE_AND_DATA UNITS_TENSOR: both speeds of all three
  for speed in "" ,speed=0.25; do
    cases+=(--case "heterogeneous/data[busy=$1,$data$speed,units=$2]")
    cases+=(--case "heterogeneous/tensor[busy=$1,$tensor$speed,units=$3]")
    cases+=(--case "heterogeneous/pipeline[busy=$1,$pipeline$speed,units=$2]")
  done
}

square="compute/matmul[shape=square,size=512]" cases=()
sums="collective/all_reduce[num_bytes=16777216]"
pairs="point_to_point/one_way[num_bytes=4194304]"
case $part in
  two)
    mixed 0.25 12 16
    "$bench" run compute heterogeneous --ranks 2 --launches 8 --visits 1 --budget 15m --case "$square" "${cases[@]}" \
      --label two -o "$folder" ;;
  four)
    mixed 0.2 16 32
    "$bench" run heterogeneous --ranks 4 --launches 5 --visits 1 --budget 17m "${cases[@]}" --label four -o "$folder" ;;
  lab)
    for slow in "" "--slow 3=250mbit"; do
      # shellcheck disable=SC2086
      BENCH=$bench scripts/lab --hosts 4 --rate 1gbit $slow -- collective point_to_point --preset smoke --budget 35s \
        --case "$sums" --case "$pairs" --label "lab${slow:+-slow-link}" -o "$folder"
    done ;;
  ranks)
    "$bench" run compute --ranks 2 --preset smoke --budget 12s --case "$square" --label healthy -o "$folder"
    "$bench" run compute --ranks 2 --preset smoke --budget 12s --case "$square" --slow 1=0.5 --label slowed -o "$folder" ;;
  *) echo "$part: two, four, lab or ranks" >&2; exit 2 ;;
esac
