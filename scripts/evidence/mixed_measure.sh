#!/usr/bin/env bash
# Measures what results/evidence/mixed.md shows, in parts of at most 90 s, on an idle machine with two cores:
#   scripts/evidence/mixed_measure.sh two|four|lab|ranks FOLDER
# two: two busy ranks on two cores. four: four ranks that sleep 60% of their time (busy=0.4). lab: four network
# namespaces, needs root. ranks: a healthy run and one with a slowed rank.
set -euo pipefail
cd "$(dirname "$0")/../.."
part=${1:?two, four, lab or ranks} folder=${2:?FOLDER}
bench=${BENCH:-.venv/bin/bench}

data=hidden=128,num_heads=8,num_layers=2,sequence=256
tensor=hidden=256,num_layers=2,sequence=512
pipeline=hidden=128,num_heads=8,sequence=128

mixed() { # mixed UNITS_PIPELINE_AND_DATA UNITS_TENSOR PREFIX: both speeds of all three
  for speed in "" ,speed=0.25; do
    cases+=(--case "heterogeneous/data[$3$data$speed,units=$1]")
    cases+=(--case "heterogeneous/tensor[$3$tensor$speed,units=$2]")
    cases+=(--case "heterogeneous/pipeline[$3$pipeline$speed,units=$1]")
  done
}

square="compute/matmul[shape=square,size=512]" cases=()
sums="collective/all_reduce[num_bytes=16777216]"
pairs="point_to_point/one_way[num_bytes=4194304]"
case $part in
  two)
    mixed 12 16 ""
    "$bench" run compute heterogeneous --ranks 2 --launches 1 --visits 2 --budget 60s --case "$square" "${cases[@]}" \
      --label two -o "$folder" ;;
  four)
    mixed 16 32 busy=0.4,
    "$bench" run heterogeneous --ranks 4 --launches 1 --visits 2 --budget 70s "${cases[@]}" --label four -o "$folder" ;;
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
