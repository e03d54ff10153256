"""Where a run is found in the pages of MLflow."""

import re
from pathlib import Path

from mlflow import MlflowClient

from emorl.tracking.store import sqlite_file, store_uri

LOCAL_PAGES = "http://127.0.0.1:5000"
"""Where `make ui` serves a local store."""


def run_pages(root: Path) -> dict[str, str]:
    """Address of each mirrored run's page, by its folder relative to the project; none where the store is away."""
    uri = store_uri(root)
    database = sqlite_file(uri)
    if database is not None and not database.exists():
        return {}
    try:
        client = MlflowClient(uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments, max_results=50_000)
    except Exception:  # whatever is wrong with a store, the report is made
        return {}
    pages = re.sub(r"://[^/@]*@", "://", uri).rstrip("/") if uri.startswith("http") else LOCAL_PAGES  # no passwords
    return {
        f"runs/{run.data.tags['identity']}": f"{pages}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        for run in runs
        if "identity" in run.data.tags
    }
