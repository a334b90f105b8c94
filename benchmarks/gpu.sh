#!/usr/bin/env bash
# Everything that is measured on a GPU, within ten minutes: benchmarks/gpu.sh OUT
#   OUT/step.json   tokens a second, utilisation and memory of a step at `small` (batch 512 x 128, bf16,
#                   compiled), against the naive step and the step as published
#   OUT/compare/    standard, bell and fast at `small`, for as many steps as six minutes allow
# TOY=1 runs the same at a toy size on any machine, to see that it works. PYTHON names the interpreter.
set -euo pipefail
out=${1:?usage: benchmarks/gpu.sh OUT}
python=${PYTHON:-.venv/bin/python}
here=$(dirname "$0")
mkdir -p "$out"

if [ -n "${TOY:-}" ]; then
  "$python" "$here/gpu.py" --preset nano --vocab 300 --batch 4 --length 32 --seconds 1 --eager --out "$out/step.json"
  size=(--preset nano --minutes 0.1 --train.batch-size 8 --corpus.block-size 32 --validation.blocks 16)
else
  "$python" "$here/gpu.py" --preset small --vocab 30522 --batch 512 --length 128 --seconds 60 --out "$out/step.json"
  # AdamW's learning rate of the preset, one seed, the runs one after another.
  size=(--preset small --minutes 6 --train.batch-size 512 --corpus.block-size 128 --corpus.tokenizer bpe:8192
        --train.compile --train.optimizer adamw --validation.blocks 256)
fi
"$python" -m unmask compare --run "$out/compare" --recipes standard,bell,fast --jobs 1 "${size[@]}"
