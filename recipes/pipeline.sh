#!/usr/bin/env bash
# Adapt, evaluate and export in one go, stopping at the first failure.
#
#   recipes/pipeline.sh RUN ARTIFACT [options of `equicli adapt`]
#   recipes/pipeline.sh runs/mine mine.safetensors --model vit_base --group c4 data/
set -euo pipefail

: "${2:?usage: pipeline.sh RUN ARTIFACT [options of equicli adapt]}"
run=$1 artifact=$2
shift 2
if [[ -e $artifact || -L $artifact ]]; then # rather now than after training
    echo "pipeline.sh: $artifact exists; name another ARTIFACT, or remove it." >&2
    exit 2
fi

equicli adapt --quiet --output "$run" "$@" >/dev/null
equicli evaluate "$run" --quiet --json >"$run/evaluation.json"
equicli export "$run" --output "$artifact" --quiet
