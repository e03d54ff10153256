"""Addresses of runs in MLflow's pages, from a real store."""

from mlflow import MlflowClient

from emorl.tracking.layout import run_pages


def test_a_mirrored_run_has_an_address(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run_pages(tmp_path) == {}  # and no store was made
    assert not list(tmp_path.iterdir())
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("emorl-tetrominoes-test")
    identity = "tetrominoes/emorl/base-5b8e1f6b69/seed0"
    run = client.create_run(experiment, tags={"identity": identity})
    client.create_run(experiment)  # somebody else's
    address = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run.info.run_id}"
    assert run_pages(tmp_path) == {f"runs/{identity}": address}


def test_a_store_that_is_away_gives_no_addresses(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert run_pages(tmp_path) == {}
