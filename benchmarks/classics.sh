#!/usr/bin/env bash
# bell against standard on English books, 3 seeds: the table in docs/results.md.
# Run it from the repository with the corpus folder's path; it goes on where it was stopped.
set -eu
corpus=${1:?usage: benchmarks/classics.sh CORPUS_FOLDER RUN_FOLDER}
run=${2:?usage: benchmarks/classics.sh CORPUS_FOLDER RUN_FOLDER}
.venv/bin/unmask compare --preset tiny --run "$run" --recipes standard,bell --seeds 3 --jobs 2 \
  --corpus.source "$corpus/classics.train.jsonl.xz" \
  --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer bpe:8192 \
  --train.steps 800 --validation.every 80 --train.precision fp32
