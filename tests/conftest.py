"""Shared fixtures: a tiny prepared data set and the test scale's runs, made once per test process."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("DVC_NO_ANALYTICS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from pathlib import Path

import pytest
import torch

from emorl.data import data_set
from emorl.data.prepare import prepare
from emorl.data.raw import fetch
from emorl.data.store import load_split
from emorl.pipeline import config

torch.set_num_threads(1)

SLOW_FOLDERS = ("tracking", "workflow")
SLOW_FIXTURES = {"chrome"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as slow whatever runs workflows, fills MLflow's stores or opens a browser; a test may also mark itself."""
    for item in items:
        folder = item.path.relative_to(Path(__file__).parent).parts[0]
        if folder in SLOW_FOLDERS or SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A prepared Tetrominoes replica: 12-pixel images, 64 for training, 16 for testing, 8 for validation."""
    folder = tmp_path_factory.mktemp("data")
    settings = config.load_scale("test").datasets["tetrominoes"]
    description = data_set("tetrominoes")
    fetch(description, settings, folder / "raw.tfrecords")
    prepare(description, settings, folder / "raw.tfrecords", folder / "prepared.h5")
    return folder / "prepared.h5"


@pytest.fixture(scope="session")
def replica_images(prepared):
    """Four of its images, (4, 3, 12, 12) in [0, 1]: few enough to overfit."""
    images = torch.from_numpy(load_split(prepared, "test").images[:4])
    return images.permute(0, 3, 1, 2).float() / 255
