#!/usr/bin/env bash
# Adapt, evaluate, check the metrics, export to ONNX and predict in one go, stopping at the first failure.
#
#   recipes/pipeline.sh RUN ARTIFACT PICTURES [options of `equicli adapt`]
#   recipes/pipeline.sh runs/mine mine.onnx incoming/ --model vit_base --group c4 data/
#
# ARTIFACT is FILE.onnx, FILE.pt2 or FILE.safetensors; predictions of PICTURES are written beside it, as FILE.csv.
# LEAST_AVG_ACC: the mean accuracy over all turns, as a share, below which nothing is exported; 0.5 unless it is set.
set -euo pipefail

: "${3:?usage: pipeline.sh RUN ARTIFACT PICTURES [options of equicli adapt]}"
run=$1 artifact=$2 pictures=$3
shift 3
predictions=${artifact%.*}.csv
for file in "$artifact" "$predictions"; do # rather now than after training
    if [[ -e $file || -L $file ]]; then
        echo "pipeline.sh: $file exists; name another ARTIFACT, or remove it." >&2
        exit 2
    fi
done

equicli adapt --quiet --output "$run" "$@" >/dev/null
equicli evaluate "$run" --quiet --json >"$run/evaluation.json"
python3 - "$run/evaluation.json" "${LEAST_AVG_ACC:-0.5}" <<'PYTHON'
import json, sys

adapted, least = json.load(open(sys.argv[1]))["adapted"], float(sys.argv[2])
if adapted["avg_acc"] < least:
    sys.exit(f"pipeline.sh: avg_acc {adapted['avg_acc']:.3f} is below {least}; nothing is exported.")
PYTHON
equicli export "$run" --output "$artifact" --quiet
equicli predict "$run" "$pictures" --output "$predictions" --quiet
