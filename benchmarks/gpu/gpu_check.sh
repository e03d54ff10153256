#!/bin/bash
# What a GPU says of this project, in one command and within BUDGET seconds: numbers, CUDA graphs, times, a training.
#
#   bash benchmarks/gpu/gpu_check.sh          results go to OUT (gpu_out/)
#
# BUDGET=450   seconds for all of it         PARTS="data checks times train"   which parts
# TINY=1       tiny sizes (set by itself where there is no GPU)                SCENES=60000   of the replica to train on
# PYTHON=python3. Packages that it lacks are taken from .whl/ in the checkout, if that is there.
set -u
export OUT=${OUT:-$PWD/gpu_out} STARTED=$(date +%s)
cd "$(dirname "$0")/../.." || exit 1
export WORK=${WORK:-$(mktemp -d /tmp/gpu_check.XXXXXX)} BUDGET=${BUDGET:-450}
threads=$(nproc)
[ "$threads" -gt 4 ] && threads=4
[ "${TINY:-0}" = 1 ] && threads=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$threads}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 KINETO_LOG_LEVEL=99
export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$WORK/inductor}
PYTHON=${PYTHON:-python3} PARTS=${PARTS:-data checks times train}
mkdir -p "$OUT" "$WORK"

if ! "$PYTHON" -c 'import pydantic, google_crc32c, zlib_ng' 2>/dev/null; then
  "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$WORK/site" .whl/*.whl ||
    { echo "error: pydantic, google-crc32c or zlib-ng is missing, and no wheels in .whl/"; exit 1; }
  export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHONPATH="$PWD:$PWD/tests/models${PYTHONPATH:+:$PYTHONPATH}"

left() { echo $((BUDGET - $(date +%s) + STARTED)); }
part() { # name, most seconds it may take
  local most=$2 rest
  rest=$(left)
  [ "$rest" -lt "$most" ] && most=$rest
  [ "$most" -lt 5 ] && { echo "== $1: no time left"; return; }
  echo "== $1 (up to $most s, $(left) s left)"
  LIMIT=$most timeout --signal=TERM --kill-after=10 "$((most + 5))" "$PYTHON" -m "benchmarks.gpu.$1" 2>&1 | tee "$OUT/$1.log"
}

nvidia-smi --query-gpu=name,uuid,driver_version,memory.total,mig.mode.current --format=csv,noheader 2>/dev/null ||
  echo "no nvidia-smi"
"$PYTHON" -c 'import sys, torch
print("python", sys.version.split()[0], "torch", torch.__version__, "cuda", torch.version.cuda, torch.cuda.is_available())'
case $PARTS in *data*) (nice "$PYTHON" -m benchmarks.gpu.data >"$OUT/data.log" 2>&1 &) ;; esac
case $PARTS in *checks*) part checks "${CHECKS:-140}" ;; esac
case $PARTS in *times*) part times "${TIMES:-140}" ;; esac
case $PARTS in *train*) part train "$(left)" ;; esac
echo "== done after $(($(date +%s) - STARTED)) s; results in $OUT"
grep -h '^FAIL' "$OUT"/*.log 2>/dev/null || echo "no FAIL line"
