#!/usr/bin/env bash
# The longest comparison, on English books, 3 seeds: the tables "all in" and "at the same optimiser"
# of docs/experiments/2026-11-25-results.md, and what other texts and the judge say of the kept checkpoints. Run it from the
# repository with the corpus folder's path; it goes on where it was stopped. The first comparison
# evaluates the first seed's checkpoints, the second one adds seeds and the published recipe; the
# tables are left as RUN_FOLDER.<table>.md.
set -eu
corpus=${1:?usage: benchmarks/longest.sh CORPUS_FOLDER RUN_FOLDER}
run=${2:?usage: benchmarks/longest.sh CORPUS_FOLDER RUN_FOLDER}
adamw=train.optimizer=adamw+train.learning_rate=4e-3+train.warmup_steps=100
published=standard+$adamw+train.steps=3000
arms=standard,bell,narrow,fast,ar+train.steps=800
compare() {
  .venv/bin/unmask compare --preset tiny --run "$run" --jobs 2 \
    --corpus.source "$corpus/classics.train.jsonl.xz" \
    --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer bpe:8192 \
    --train.steps 1500 --train.learning-rate 8e-3 --train.warmup-steps 20 --train.compile \
    --train.precision bf16 --train.save-every 250 --train.keep 20 \
    --validation.every 100 --validation.draws 2 "$@"
}
compare --recipes "$arms" --seeds 1 --evaluate --quality.judge smollm2 --quality.num 16 \
  --quality.budget 40000 \
  --quality.corpora "$corpus/zeroshot/wikitext2-test.txt" "$corpus/zeroshot/shakespeare.txt"
compare --recipes "$published,$arms" --seeds 3
report() { .venv/bin/unmask report "$run" --blocks odd --format table "$@"; }
report >"$run.all-in.md"
report --baseline standard >"$run.same-optimiser.md"
