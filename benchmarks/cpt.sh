#!/usr/bin/env bash
# A causal model becomes a masked one (docs/experiments/2026-11-27-smollm2.md): SmolLM2-135M on English
# books by several recipes from the same start, and a task of four choices before and after. Run it
# from the repository with the corpus folder's path; it goes on where it was stopped. The table is
# left as RUN_FOLDER/cpt-table.md, the task's results as RUN_FOLDER/cpt-task-*.json.
set -eu
corpus=${1:?usage: benchmarks/cpt.sh CORPUS_FOLDER RUN_FOLDER}
runs=${2:?usage: benchmarks/cpt.sh CORPUS_FOLDER RUN_FOLDER}
python=${PYTHON:-.venv/bin/python}
books=(--corpus.source "$runs/cpt.train.jsonl" --corpus.valid-source "$corpus/classics.valid.jsonl.xz"
  --corpus.block-size 128)
mkdir -p "$runs"
# the beginning is enough: packing all of it would take longer than the training
[ -e "$runs/cpt.train.jsonl" ] ||
  (xz -dc "$corpus/classics.train.jsonl.xz" || true) | head -c 12000000 | sed '$d' >"$runs/cpt.train.jsonl"
"$python" benchmarks/cpt_task.py "$corpus/classics.valid.jsonl.xz" "$runs/cpt-tasks" --num 120

"$python" -m unmask compare --init smollm2 --run "$runs/cpt-120" \
  --recipes 'standard,bell,bell:next-token=1@0/0@0.5,ar' --jobs "${JOBS:-1}" "${books[@]}" \
  --train.steps 120 --train.batch-size 8 --train.learning-rate 1e-4 --train.warmup-steps 10 \
  --train.precision bf16 --train.save-every 120 --train.keep 1 \
  --validation.every 20 --validation.blocks 64 --validation.draws 2
"$python" -m unmask report "$runs/cpt-120" --format table >"$runs/cpt-table.md"

# Before: a step at a learning rate that changes no weight.
for recipe in bell ar; do
  before=$runs/cpt-before-$recipe
  [ -e "$before/checkpoints" ] ||
    "$python" -m unmask train --init smollm2 --recipe $recipe --run "$before" "${books[@]}" \
      --train.steps 1 --train.batch-size 1 --train.learning-rate 1e-30 \
      --validation.blocks 64 --validation.draws 2
done
for run in "$runs"/cpt-before-* "$runs"/cpt-120/*/seed-0; do
  name=${run#"$runs/"} && result="$runs/cpt-task-${name//\//_}.json"
  [ -e "$result" ] || "$python" -m unmask evaluate tasks "$run" what_comes_next \
    --include-path "$runs/cpt-tasks" --draws 4 --batch-size 16 --json >"$result.part"
  [ -e "$result" ] || mv "$result.part" "$result"
done
