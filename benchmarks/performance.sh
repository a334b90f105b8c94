#!/usr/bin/env bash
# Every measurement behind docs/experiments/2026-11-25-performance.md, as JSON lines in a folder: twenty minutes or so on 2 quiet
# cores. It goes on where it was stopped. Then: .venv/bin/python benchmarks/performance_tables.py FOLDER
set -eu
folder=${1:?usage: benchmarks/performance.sh FOLDER}
python=${PYTHON:-.venv/bin/python}
here=$(dirname "$0")
mkdir -p "$folder"

measure() { # NAME SCRIPT OPTIONS...
  local name=$1 script=$2
  shift 2
  [ -s "$folder/$name.jsonl" ] && return
  echo "$(date +%T) $name: $script $*"
  "$python" "$here/$script" "$@" >"$folder/.$name.part"
  mv "$folder/.$name.part" "$folder/$name.jsonl"
}

all=naive,bert,modernbert
for precision in fp32 bf16; do
  for threads in 1 2; do # what precision and threads gain, nothing but speed
    measure "threads-$precision-$threads" step.py --json --only speed --preset nano --vocab 260 \
      --rounds 15 --precision "$precision" --threads "$threads"
  done
  measure "step-nano-$precision" step.py --json --preset nano --vocab 260 --rounds 15 \
    --precision "$precision"
  measure "step-tiny-8192-$precision" step.py --json --preset tiny --vocab 8192 --rounds 7 \
    --precision "$precision"
  measure "step-tiny-30000-$precision" step.py --json --preset tiny --vocab 30000 --rounds 7 \
    --precision "$precision"
  measure "step-mini-$precision" step.py --json --preset mini --optimizer muon --vocab 8192 --batch 16 \
    --rounds 5 --precision "$precision"
  measure "step-small-$precision" step.py --json --preset small --optimizer muon --vocab 30522 --batch 8 \
    --rounds 3 --precision "$precision"
  for batch in 16 32; do
    measure "memory-small-$precision-$batch" step.py --json --only memory --preset small \
      --vocab 30522 --batch "$batch" --precision "$precision"
    measure "recompute-small-$precision-$batch" step.py --json --only memory --preset small \
      --vocab 30522 --batch "$batch" --precision "$precision" --recompute
  done
  measure "micro-small-$precision" step.py --json --only memory --preset small --vocab 30522 \
    --batch 32 --accumulation 4 --precision "$precision"
done
measure against-fp32 step.py --json --only speed --preset tiny --vocab 30000 --rounds 7 \
  --against "$all"
measure against-bf16-compiled step.py --json --only speed --preset tiny --vocab 30000 --rounds 7 \
  --against "$all" --precision bf16 --compile
measure compile-tiny-8192 step.py --json --only speed --preset tiny --vocab 8192 --rounds 7 \
  --precision bf16 --compile
measure recompute-speed step.py --json --only speed --preset mini --vocab 8192 --batch 16 \
  --rounds 5 --precision bf16 --recompute
measure muon muon.py --presets nano,tiny,mini
measure attention attention.py --json
