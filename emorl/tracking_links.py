"""Where a run is found in the pages of MLflow."""

import os
import re
from pathlib import Path

import emorl.tracking  # noqa: F401  # sets MLflow's environment before it is imported

from mlflow import MlflowClient  # isort: skip

LOCAL_PAGES = "http://127.0.0.1:5000"
"""Where `make ui` serves a local store."""


def run_pages(root: Path) -> dict[str, str]:
    """Address of each mirrored run's page, by its folder relative to the project; none where the store is away."""
    server = os.environ.get("MLFLOW_TRACKING_URI")
    database = root / "mlflow.db"
    if not server and not database.exists():
        return {}
    try:
        client = MlflowClient(server or f"sqlite:///{database.resolve()}")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = client.search_runs(experiments, max_results=50_000)
    except Exception:  # whatever is wrong with a store, the report is made
        return {}
    is_server = server is not None and server.startswith("http")
    pages = re.sub(r"://[^/@]*@", "://", server).rstrip("/") if is_server else LOCAL_PAGES  # no passwords
    return {
        f"runs/{run.data.tags['identity']}": f"{pages}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
        for run in runs
        if "identity" in run.data.tags
    }
