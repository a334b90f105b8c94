#!/usr/bin/env bash
# The small experiments on English books (preset nano, a run takes 2 to 3 minutes on one core): the
# bell's centre and width for two tokenizers, the parts of the recipe, learning rates, fixed counts.
# Run it from the repository with the corpus folder's path; it goes on where it was stopped. Tables:
# .venv/bin/unmask report RUN_FOLDER/sweep-bpe --blocks odd --format table
set -eu
corpus=${1:?usage: benchmarks/sweeps.sh CORPUS_FOLDER RUN_FOLDER}
runs=${2:?usage: benchmarks/sweeps.sh CORPUS_FOLDER RUN_FOLDER}

compare() { # NAME TOKENIZER STEPS EVERY RECIPES RATE WARMUP
  .venv/bin/unmask compare --preset nano --run "$runs/$1" --recipes "$5" --seeds 1 --jobs 2 \
    --corpus.source "$corpus/classics.train.jsonl.xz" \
    --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer "$2" \
    --train.steps "$3" --validation.every "$4" --train.compile --train.precision bf16 \
    --train.learning-rate "$6" --train.warmup-steps "$7"
}

bells() { # MEAN:STD ... -> arms
  for bell in "$@"; do printf ',bell:mean=%s,std=%s' "${bell%:*}" "${bell#*:}"; done
}

narrow=bell:mean=0.5,std=0.1
adamw=train.optimizer=adamw
rate=train.learning_rate

compare sweep-bpe bpe:8192 600 60 "standard,flat,bell$(bells 0.4:0.2 0.3:0.2 0.6:0.2 \
  0.4:0.1 0.5:0.1 0.4:0.3 0.5:0.3 0.3:0.1 0.5:0.05 0.6:0.1)" 2e-3 100
compare sweep-bytes bytes 1000 100 "standard,flat,bell$(bells 0.4:0.2 0.3:0.2 0.2:0.2 \
  0.3:0.1 0.4:0.1 0.5:0.1 0.2:0.1 0.3:0.3 0.5:0.05 0.6:0.1)" 2e-3 100
compare rate-bpe bpe:8192 500 50 "standard+$adamw,standard+$adamw+$rate=1e-3,\
standard+$adamw+$rate=4e-3,$narrow,$narrow+$rate=1e-3,$narrow+$rate=4e-3,\
standard+$adamw+$rate=8e-3,$narrow+$adamw+$rate=4e-3,standard+$rate=4e-3,$narrow+$rate=8e-3" 2e-3 100
compare parts-bpe bpe:8192 500 50 "standard,standard:stratified=false,flat,flat:stratified=false,\
bell,bell:stratified=false,bell:weight=1/t,bell:weight=1/t,stratified=false" 2e-3 100
compare count-bpe bpe:8192 600 60 "narrow,narrow:masking=fixed-count" 2e-3 100
compare rate-muon bpe:8192 500 50 "narrow+$rate=4e-3,narrow+$rate=8e-3,narrow+$rate=16e-3,narrow+$rate=32e-3,\
standard+$rate=4e-3,standard+$rate=8e-3,standard+$rate=16e-3,narrow+$rate=8e-3+train.warmup_steps=20,\
narrow+$rate=8e-3+train.schedule=wsd+train.decay_fraction=0.5,\
narrow+$rate=16e-3+train.schedule=wsd+train.decay_fraction=0.5" 4e-3 100
compare rate-bytes bytes 800 100 "narrow+$rate=2e-3+train.warmup_steps=100,narrow+$rate=4e-3,\
narrow+$rate=8e-3,narrow+$rate=16e-3" 8e-3 20
