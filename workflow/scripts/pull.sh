#!/bin/sh
# Pull results with DVC, let Snakemake say what is left to do, and verify every number.
#
#   workflow/scripts/pull.sh [TARGET] [--config scale=... datasets=...]     # as you would call Snakemake to go on
set -eu
dvc pull
snakemake --dry-run "$@"
for report in reports/*.dvc; do
  python -m emorl verify --scale "$(basename "$report" .dvc)"
done
