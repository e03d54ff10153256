#!/bin/bash
# Trains runs side by side on a machine that has a GPU for some minutes, and PyTorch but neither Snakemake nor a network.
#
#   bash benchmarks/gpu/train_runs.sh <<<"small multi_dsprites emorl base 0"     a line per run: SCALE DATASET MODEL VARIANT SEED
#
# It works in a clone of REPOSITORY (git clone --bare --depth 1 file://$PWD .repository), so that the runs know their
# commit, with the prepared data that lie in DATA as NAME.h5.gz. After BUDGET seconds the runs that are left save and
# stop. OUT gets an archive per data set, to be unpacked in the checkout: `emorl train` goes on there, or finds that all is
# done. Ends with 1 if a run failed.
#
# BUDGET=400 OUT=gpu_out REPOSITORY=.repository DATA=.data PYTHON=python3. Packages that it lacks are taken from .whl/ as by
# gpu_check.sh, and typer with what it needs.
set -u
started=$(date +%s) OUT=$(realpath -m "${OUT:-gpu_out}") PYTHON=${PYTHON:-python3}
case $PYTHON in */*) PYTHON=$(realpath -s "$PYTHON") ;; esac
cd "$(dirname "$0")/../.." || exit 1
WORK=${WORK:-$(mktemp -d /tmp/train_runs.XXXXXX)} BUDGET=${BUDGET:-400}
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
mkdir -p "$OUT" "$WORK"

git clone -q "${REPOSITORY:-.repository}" "$WORK/clone" && mkdir -p "$WORK/clone/data/prepared" || exit 1
for packed in "${DATA:-.data}"/*.h5.gz; do
  gunzip -c "$packed" >"$WORK/clone/data/prepared/$(basename "$packed" .gz)" &
done
if ! "$PYTHON" -c 'import pydantic, google_crc32c, zlib_ng, typer' 2>/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --target "$WORK/site" .whl/*.whl ||
    { echo "error: pydantic, google-crc32c, zlib-ng or typer is missing, and no wheels in .whl/"; exit 1; }
  export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
fi
wait
command -v nvidia-cuda-mps-control >/dev/null && nvidia-cuda-mps-control -d && # the runs' kernels side by side
  trap 'echo quit | nvidia-cuda-mps-control' EXIT
cd "$WORK/clone" || exit 1

mapfile -t runs
export EMORL_GPU_SHARED_BY=${#runs[@]}
trainings=()
for run in "${runs[@]}"; do
  read -r scale dataset model variant seed <<<"$run"
  mkdir -p "logs/$dataset"
  "$PYTHON" -m emorl train --scale "$scale" --dataset "$dataset" --model "$model" --variant "$variant" --seed "$seed" \
    >"logs/$dataset/$scale-$model-$variant-$seed.log" 2>&1 &
  trainings+=($!)
done
while [ -n "$(jobs -rp)" ] && [ $(($(date +%s) - started)) -lt "$BUDGET" ]; do sleep 1; done
[ -n "$(jobs -rp)" ] && kill -TERM $(jobs -rp)
status=0
for training in "${trainings[@]}"; do
  wait "$training"
  case $? in 0 | 75) ;; *) status=1 ;; esac # 75: saved
done
for dataset in $(ls logs); do
  tar czf "$OUT/$dataset.tgz" "logs/$dataset" $(ls -d "runs/$dataset" 2>/dev/null) || status=1
done
tail -qn 1 logs/*/*.log
exit $status
