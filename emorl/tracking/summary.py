"""Mean and spread over seeds of their scores, as metrics of the parent run."""

from collections import defaultdict

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Run, ViewType

from emorl.tracking.layout import PARENT, find_runs

SCORES = ("test/", "validation/")


def summarise_seeds(client: MlflowClient, experiment: str, identity: str) -> None:
    """Log `X_mean` and `X_sd` (n - 1) of every score X of the seeds in the store, and `n`, the seeds that have it.

    Seeds that failed have no scores and are counted in `test/failed`. Two projects with one store may have created
    the parent at the same moment; then one takes in the other's seeds.
    """
    parent, *doubles = find_runs(client, experiment, identity)
    for double in doubles:
        for seed in _seeds(client, experiment, double):
            client.set_tag(seed.info.run_id, PARENT, parent.info.run_id, synchronous=True)
        client.delete_run(double.info.run_id)
    seeds = _seeds(client, experiment, parent)
    shown = {key: str(value) for key, value in parent.data.metrics.items()}  # as text, NaN is NaN
    changed = [metric for metric in _statistics(seeds) if shown.get(metric.key) != str(metric.value)]
    client.log_batch(parent.info.run_id, metrics=changed, synchronous=True)
    end = max((seed.info.end_time or 0 for seed in seeds), default=0) or parent.info.start_time
    if parent.info.end_time != end:
        client.set_terminated(parent.info.run_id, end_time=end)


def _seeds(client: MlflowClient, experiment: str, parent: Run) -> list[Run]:
    found = client.search_runs(
        [experiment], f"tags.`{PARENT}` = '{parent.info.run_id}'", ViewType.ACTIVE_ONLY, max_results=1000
    )
    return list(found)


def _statistics(seeds: list[Run]) -> list[Metric]:
    scores: dict[str, list[Metric]] = defaultdict(list)
    for seed in seeds:
        for metric in seed.data.to_proto().metrics:
            if metric.key.startswith(SCORES):
                scores[metric.key].append(metric)
    values: dict[str, float] = {}
    for key, metrics in sorted(scores.items()):
        of_seeds = [metric.value for metric in metrics]
        values |= {f"{key}_mean": float(np.mean(of_seeds)), f"{key.rpartition('/')[0]}/n": len(of_seeds)}
        if len(of_seeds) > 1:
            values[f"{key}_sd"] = float(np.std(of_seeds, ddof=1))
    values["test/failed"] = sum(seed.info.status == "FAILED" for seed in seeds)
    last = [metric for metrics in scores.values() for metric in metrics]
    when, step = max((m.timestamp for m in last), default=0), max((m.step for m in last), default=0)
    return [Metric(key, value, when, step) for key, value in values.items()]
