#!/usr/bin/env bash
# Masked positions that come in late (docs/experiments/2026-11-26-late.md), on English books: what is learnt at equal steps,
# what a step costs, what a sample costs, and variants by a slow reference. Run it from the repository
# with the corpus folder's path; it goes on where it was stopped. "cost" and "samples" want a machine
# with nothing beside them.
set -eu
corpus=${1:?usage: benchmarks/late.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
runs=${2:?usage: benchmarks/late.sh CORPUS_FOLDER RUN_FOLDER [STAGE ...]}
shift 2
python=${PYTHON:-.venv/bin/python}
late=+model.late=
books=(--corpus.source "$corpus/classics.train.jsonl.xz"
  --corpus.valid-source "$corpus/classics.valid.jsonl.xz" --corpus.tokenizer)
bytes=(bytes --train.learning-rate 4e-3)

compare() { # FOLDER PRESET SEEDS RECIPES TOKENIZER [OPTIONS...]
  local folder=$1 preset=$2 seeds=$3 recipes=$4
  shift 4
  "$python" -m unmask compare --preset "$preset,laboratory" --run "$runs/$folder" --recipes "$recipes" \
    --seeds "$seeds" --jobs 2 --train.steps 600 --train.precision bf16 --train.save-every 600 \
    --train.keep 1 --validation.every 50 --validation.draws 2 "${books[@]}" "$@"
}

step() { # OPTIONS...
  "$python" benchmarks/step.py --against plain,naive --json "$@" >>"$runs/late-cost.jsonl"
}

variant() { # WHAT RECIPE
  "$python" benchmarks/late_variants.py "$1" train --preset nano --recipe "$2" \
    --run "$runs/variants/$2-$1" "${books[@]}" bpe:2048 --train.steps 300 --train.precision bf16 \
    --validation.every 100 --validation.draws 4
}

for stage in ${@:-bpe bytes tiny seeds cost samples variants}; do
  case $stage in
    bpe) compare late-bpe nano 1 "fast,fast${late}3,fast${late}2,fast${late}1,fast${late}4,narrow,narrow${late}3,narrow+model.shift=true,ar,fast${late}3+train.steps=834,fast${late}3+train.batch_size=44,fast${late}3+model.layers=7" bpe:8192 ;;
    bytes) compare late-bytes nano 1 "fast,fast${late}3,fast${late}2,fast${late}4,narrow,narrow${late}3,bell,bell${late}3,ar" "${bytes[@]}" ;;
    seeds) compare late-seeds nano 3 "fast,fast${late}3" bpe:8192 ;;
    tiny) compare late-tiny tiny 1 "fast,fast${late}3" bpe:8192 ;;
    cost)
      for precision in bf16 fp32; do
        step --preset nano --vocab 8192 --late 3 --rounds 7 --precision $precision
        step --preset tiny --vocab 8192 --late 3 --rounds 5 --precision $precision
        step --preset mini --vocab 8192 --batch 16 --late 6 --rounds 3 --precision $precision
        step --preset small --vocab 30522 --batch 8 --late 9 --rounds 3 --precision $precision
      done
      ;;
    samples)
      "$python" benchmarks/samplers.py "$runs/late-bpe/fast/seed-0" \
        "$runs/late-bpe/fast_model.late=3/seed-0" --num 4 --steps 64 >"$runs/late-samplers.md"
      ;;
    variants)
      for what in late=0 late={1,2,3},keys=predicting late=2,keys={all,last,none} \
        late=2,keys=predicting,own; do
        variant "$what" fast
      done
      for what in late=0 shift late=2,keys=self shift,late=2,keys={none,predicting,all}; do
        variant "$what" narrow
      done
      ;;
    *) echo "no stage $stage" >&2 && exit 2 ;;
  esac
done
