#!/bin/sh
# Pull results with DVC, mark them as up to date, let Snakemake say what is left to do, and verify every number.
#
#   workflow/scripts/pull.sh [TARGET] [--config scale=... datasets=...]     # as you would call Snakemake to go on
set -eu
dvc pull

# A pull leaves time stamps in any order. All that was made from runs gets one, later than theirs. What it was made for
# stands in the names of the markers beside it, so nothing of another selection, configuration or code passes as new.
mkdir -p reports
pulled=$(mktemp)
find reports -type f -exec touch -r "$pulled" {} +
rm "$pulled"

snakemake --dry-run "$@"
for plan in reports/*/plan.json; do
  scale=$(basename "$(dirname "$plan")")
  python -m emorl verify --scale "$scale"
done
