#!/usr/bin/env bash
# The accelerators' laboratory on English books (nano's network): every recipe with seed 0 on BPE-8192
# and on bytes, then the leaders with seeds 1 and 2. Run it from the repository with the corpus
# folder's path; it goes on where it was stopped. The tables of docs/laboratory.md are left as
# RUN_FOLDER/<stage>.md.
set -eu
corpus=${1:?usage: benchmarks/laboratory.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
runs=${2:?usage: benchmarks/laboratory.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
shift 2
python=${PYTHON:-.venv/bin/python}

published() { echo "standard+train.optimizer=adamw+train.learning_rate=$1+train.warmup_steps=100+train.steps=$2"; }

# iid is left out (docs/results.md has it); variants of the warm-up are in.
every=standard,flat,bell,fast,bell-weighted,bell:auto,window,bandwidth,clipped,p-pots,adaptive
every+=,mirror,puma,bell-pairs,bell-spans,bell-scattered,bell-puma,bell-anneal,bell-after-ar
every+=,bell-after-ar:ar_warmup=0.4,bell-after-ar:paired=true,bell-after-ar:anneal=0.2,ar

# What the first table suggested: scattered masks, and they with the warm-up.
scattered=bell-after-ar:masking=scattered
combined=fast,bell-scattered,bell-scattered:masking=alternating,bell-scattered:std=0.05
combined+=,bell-after-ar,$scattered,$scattered,ar_warmup=0.4,$scattered,anneal=0.2

leaders=standard,fast,bell-scattered,$scattered,ar

# On bytes, without what was far behind on BPE and what varies one recipe.
others=standard,flat,bell,fast,bell:auto,window,bandwidth,clipped,p-pots,adaptive,mirror,puma
others+=,bell-pairs,bell-spans,bell-scattered,bell-anneal,bell-after-ar,$scattered,ar

compare() { # NAME TOKENIZER STEPS RATE SEEDS RECIPES
  "$python" -m unmask.cli compare --preset laboratory --run "$runs/$1" --recipes "$6" --seeds "$5" --jobs 2 \
    --corpus.source "$corpus/classics.train.jsonl.xz" \
    --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer "$2" \
    --train.steps "$3" --train.learning-rate "$4" --train.compile --train.precision bf16 \
    --train.save-every 200 --train.keep 9 --validation.every 50 --validation.draws 2
  "$python" benchmarks/halves.py "$runs/$1" --groups >"$runs/$stage.md"
}

for stage in ${@:-bpe combined-bpe bytes leaders-bpe leaders-bytes}; do
  case $stage in
    bpe) compare laboratory-bpe bpe:8192 600 8e-3 1 "$(published 4e-3 2000),$every" ;;
    combined-bpe) compare laboratory-bpe bpe:8192 600 8e-3 1 "$(published 4e-3 2000),$combined" ;;
    bytes) compare laboratory-bytes bytes 600 4e-3 1 "$(published 4e-3 2000),$others" ;;
    leaders-bpe) compare laboratory-bpe bpe:8192 600 8e-3 3 "$(published 4e-3 2000),$leaders" ;;
    leaders-bytes) compare laboratory-bytes bytes 600 4e-3 3 "$(published 4e-3 2000),$leaders" ;;
    *) echo "no stage $1" >&2 && exit 2 ;;
  esac
done
