#!/usr/bin/env bash
# The accelerators' laboratory on English books (nano's network): every recipe with seed 0 on BPE-8192
# and on bytes, then the leaders with seeds 1 and 2. Run it from the repository with the corpus
# folder's path; it goes on where it was stopped. Tables: benchmarks/halves.py FOLDER.
set -eu
corpus=${1:?usage: benchmarks/laboratory.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
runs=${2:?usage: benchmarks/laboratory.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
shift 2
unmask=${UNMASK:-.venv/bin/unmask}

published() { echo "standard+train.optimizer=adamw+train.learning_rate=$1+train.warmup_steps=100+train.steps=$2"; }

# iid is left out; of the variants of recipes, those that METHOD's leads and the issue name.
every=standard,flat,bell,fast,bell-weighted,bell:auto,window,bandwidth,clipped,p-pots,adaptive
every+=,mirror,puma,bell-pairs,bell-spans,bell-scattered,bell-puma,bell-anneal,bell-after-ar
every+=,bell-after-ar:ar_warmup=0.4,bell-after-ar:paired=true,bell-after-ar:anneal=0.2,ar

compare() { # NAME TOKENIZER STEPS RATE SEEDS RECIPES
  "$unmask" compare --preset laboratory --run "$runs/$1" --recipes "$6" --seeds "$5" --jobs 2 \
    --corpus.source "$corpus/classics.train.jsonl.xz" \
    --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer "$2" \
    --train.steps "$3" --train.learning-rate "$4" --train.compile --train.precision bf16 \
    --train.save-every 200 --train.keep 9 --validation.every 50 --validation.draws 2
}

stage() {
  case $1 in
    bpe) compare laboratory-bpe bpe:8192 600 8e-3 1 "$(published 4e-3 2000),$every" ;;
    bytes) compare laboratory-bytes bytes 800 4e-3 1 "$(published 4e-3 2000),$every" ;;
    leaders-bpe) compare laboratory-bpe bpe:8192 600 8e-3 3 "$(published 4e-3 2000),$leaders" ;;
    leaders-bytes) compare laboratory-bytes bytes 800 4e-3 3 "$(published 4e-3 2000),$leaders" ;;
    *) echo "no stage $1" >&2 && return 2 ;;
  esac
}
leaders=standard,fast,bell-after-ar,bell-after-ar:ar_warmup=0.4,ar

for name in "${@:-bpe bytes leaders-bpe leaders-bytes}"; do
  for one in $name; do stage "$one"; done
done
