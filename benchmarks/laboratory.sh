#!/usr/bin/env bash
# The accelerators' laboratory on English books (nano's network): every recipe with seed 0 on BPE-8192
# and on bytes, the leaders with three seeds, and whether the winner survives another corpus and other
# learning rates. Run it from the repository with the corpus folder's path; it goes on where it was
# stopped. The tables of docs/experiments/2026-11-25-laboratory.md are left as RUN_FOLDER/<stage>.md.
set -eu
corpus=${1:?usage: benchmarks/laboratory.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
runs=${2:?usage: benchmarks/laboratory.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
shift 2
python=${PYTHON:-.venv/bin/python}
rate=train.learning_rate
published=standard+train.optimizer=adamw+$rate=4e-3+train.warmup_steps=100+train.steps=2000

# iid is left out (docs/experiments/2026-11-25-results.md has it); variants of the warm-up are in.
every=$published,standard,flat,bell,narrow,bell-weighted,bell:auto,window,bandwidth,clipped,p-pots
every+=,adaptive,mirror,puma,narrow-pairs,narrow-spans,narrow-scattered,narrow-puma,narrow-anneal,narrow-after-ar
every+=,narrow-after-ar:next-token=1@0.4/0@0.4,narrow-after-ar:paired=true,narrow-after-ar:uniform=0@0.8/1@1,ar

# What the first table suggested: scattered masks, and they with the warm-up (which is fast now).
combined=$published,narrow,narrow-scattered,narrow-scattered:neighbours=-0.9,narrow-scattered:std=0.05
combined+=,narrow-after-ar,fast,fast:next-token=1@0.4/0@0.4,fast:uniform=0@0.8/1@1

# On bytes, without what was far behind on BPE and what varies one recipe.
others=$published,standard,flat,bell,narrow,bell:auto,window,bandwidth,clipped,p-pots,adaptive,mirror
others+=,puma,narrow-pairs,narrow-spans,narrow-scattered,narrow-anneal,narrow-after-ar,fast,ar

compare() { # FOLDER SEEDS RECIPES OPTIONS...
  local folder=$1 seeds=$2 recipes=$3
  shift 3
  "$python" -m unmask compare --preset laboratory --run "$runs/$folder" --recipes "$recipes" \
    --seeds "$seeds" --jobs 2 --train.steps 600 --train.compile --train.precision bf16 \
    --train.save-every 200 --train.keep 9 --validation.every 50 --validation.draws 2 "$@"
  "$python" -m unmask report "$runs/$folder" --blocks odd --format table >"$runs/$stage.md"
}

books=(--corpus.source "$corpus/classics.train.jsonl.xz"
  --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer)
bpe=("${books[@]}" bpe:8192)
bytes=("${books[@]}" bytes --train.learning-rate 4e-3)

# The second wave: what may be added to the network, the optimiser and the shares, each alone.
m=model. t=train.
wave=standard+${t}optimizer=adamw+$rate=4e-3+${t}warmup_steps=100+${t}steps=1600
leaders=$wave,fast,fast+${m}convolution=2+${t}optimizer=normuon
wave+=,standard,fast,fast+${m}convolution=2,fast+${t}optimizer=normuon
wave+=,fast+${m}convolution=2+${t}optimizer=normuon,fast+${m}value_embedding=true
wave+=,fast+${t}optimizer=soap+$rate=3e-3,fast+${m}loops=2,fast+${m}zero_outputs=true
wave+=,fast+${m}activation=relu2,fast+${t}embedding_rate=3,fast:next-token=1@0/0@0.6
wave+=,narrow+${m}convolution=2,ar,ar+${m}convolution=2+${t}optimizer=normuon

# All that gained by itself, each of its parts left out, and the twin with the same network.
zero=+${m}zero_outputs=true value=+${m}value_embedding=true
near=+${m}convolution=2 nor=+${t}optimizer=normuon
all=$zero$value$near$nor
parts=fast$zero,fast$all,fast$value$near$nor,fast$zero$near$nor,fast$zero$value$nor,fast$zero$value$near
parts+=,ar,ar$zero,ar$all,standard,standard$zero

# What the second wave had left out, each alone.
alone=fast+${m}loops=2,fast+${m}self_conditioning=true,fast+${m}activation=relu2
alone+=,fast+${t}embedding_rate=3,fast:next-token=1@0/0@0.6

for stage in ${@:-bpe combined-bpe bytes leaders-bpe leaders-bytes other-corpus other-rates \
  second-wave second-wave-seeds together together-seeds \
  together-elsewhere convergence}; do
  case $stage in
    bpe) compare laboratory-bpe 1 "$every" "${bpe[@]}" ;;
    combined-bpe) compare laboratory-bpe 1 "$combined" "${bpe[@]}" ;;
    bytes) compare laboratory-bytes 1 "$others" "${bytes[@]}" ;;
    leaders-bpe) compare laboratory-bpe 3 standard,narrow,narrow-scattered,fast,ar "${bpe[@]}" ;;
    leaders-bytes) compare laboratory-bytes 3 standard,narrow,fast,ar "${bytes[@]}" ;;
    other-corpus) compare other-corpus 1 standard,narrow,fast --corpus.tokenizer bpe:2048 ;;
    other-rates)
      compare other-rates 1 \
        "standard+$rate=4e-3,fast+$rate=4e-3,standard+$rate=16e-3,fast+$rate=16e-3" "${bpe[@]}"
      ;;
    second-wave | second-wave-seeds | together | together-seeds)
      second=("${books[@]}" bpe:2048 --train.steps 400 --train.precision fp32 --train.no-compile
        --train.save-every 300 --validation.every 25)
      case $stage in
        second-wave) compare second-wave 1 "$wave" "${second[@]}" ;;
        together) compare together 1 "${wave%%,*},fast,$parts" "${second[@]}" ;;
        together-seeds) compare together 3 "${wave%%,*},fast,fast$all,fast$zero" "${second[@]}" ;;
        *) compare second-wave 3 "$leaders" "${second[@]}" ;;
      esac
      ;;
    together-elsewhere) # another vocabulary, and bytes
      here=(--train.precision bf16 --train.no-compile --train.save-every 600)
      compare together-bpe 3 "fast,fast$zero,fast$all" "${bpe[@]}" "${here[@]}"
      compare together-bytes 1 "fast,fast$zero,fast$all,ar" "${bytes[@]}" "${here[@]}"
      compare alone-bpe 1 "fast,fast$zero,$alone,ar" "${bpe[@]}" "${here[@]}"
      compare standard-bpe 3 "standard,standard$zero" "${bpe[@]}" "${here[@]}"
      ;;
    # To convergence: 0.2 million parameters on bytes, 20,000 steps of 16 x 128.
    convergence)
      compare convergence 1 "standard,fast,fast:standard=0@0.7/1@1" "${books[@]}" bytes \
        --model.layers 3 --model.width 64 --model.heads 2 --train.batch-size 16 \
        --train.steps 20000 --train.learning-rate 4e-3 --train.schedule wsd \
        --train.precision fp32 --train.save-every 2000 --train.keep 2 --validation.every 1000 \
        --validation.blocks 512 --validation.draws 4
      ;;
    *) echo "no stage $stage" >&2 && exit 2 ;;
  esac
done
