#!/bin/sh
# Pull a scale's results with DVC, let Snakemake say what is left to do, and verify every number.
#
#   workflow/scripts/pull.sh SCALE TARGET [datasets=... models=... seeds=...]     # as Snakemake's --config has them
set -eu
scale=$1 target=$2
shift 2
for saved in data/prepared runs "reports/$scale"; do
  [ -e "$saved.dvc" ] || { echo "error: $saved.dvc is not there: nothing of scale $scale has been saved here" >&2; exit 1; }
done
dvc pull data/prepared runs "reports/$scale"
snakemake --dry-run "$target" --config "scale=$scale" "$@"
python -m emorl verify --scale "$scale"
