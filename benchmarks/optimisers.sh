#!/usr/bin/env bash
# Recipes and optimisers on English books, 3 seeds: the tables "at the same optimiser" and "all in" of
# docs/results.md. Run it from the repository with the corpus folder's path; it goes on where it was
# stopped. The second comparison reads the runs of the first with another baseline.
set -eu
corpus=${1:?usage: benchmarks/optimisers.sh CORPUS_FOLDER RUN_FOLDER}
run=${2:?usage: benchmarks/optimisers.sh CORPUS_FOLDER RUN_FOLDER}
published=standard+train.optimizer=adamw+train.steps=1600
compare() {
  .venv/bin/unmask compare --preset tiny --run "$run" --recipes "$1" --seeds 3 --jobs 2 \
    --corpus.source "$corpus/classics.train.jsonl.xz" \
    --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer bpe:8192 \
    --train.steps 1000 --train.learning-rate 4e-3 --train.compile --train.precision bf16 \
    --validation.every 50 --validation.draws 2
}
compare "$published,standard,bell,fast"
cp "$run/comparison.json" "$run/all-in.json"
compare standard,bell,fast
