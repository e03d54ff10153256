"""MLflow's pages: whom they answer, where the reports' links lead, all curves of a system, what git has recorded."""

import re
import shutil
import socket
from urllib.parse import parse_qs

import pytest
from folders import all_runs, find_run, finish, make_run, stored_points, uri_of

from emorl.runtime.errors import UserError
from emorl.runtime.files import write_text
from emorl.tracking.folders import recorded_folders, run_folders
from emorl.tracking.store import MlflowClient
from emorl.tracking.sync import sync
from emorl.tracking.ui import address_of, move_pages, pages, ui_command
from emorl.training.manifest import RunRecord


@pytest.fixture
def database(monkeypatch):
    """A store that need not be there for its pages' command to be made."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user@host/runs")


def options(*arguments, **keywords):
    command = ui_command(*arguments, **keywords)
    return dict(zip(command[4::2], command[5::2], strict=True))


def test_others_are_answered_when_they_are_named(database, tmp_path):
    alone = options(tmp_path)
    assert alone["--allowed-hosts"] == "localhost,localhost:*,127.0.0.1,127.0.0.1:*"
    assert "*," not in alone["--cors-allowed-origins"].replace(":*,", "")
    named = options(tmp_path, allowed_hosts=["hub.example.org"])
    assert named["--allowed-hosts"].endswith(",hub.example.org,hub.example.org:*")
    assert "https://hub.example.org" in named["--cors-allowed-origins"].split(",")
    everywhere = options(tmp_path, host="0.0.0.0", allowed_hosts=["*"])
    assert {socket.gethostname(), "*"} < set(everywhere["--allowed-hosts"].split(","))
    assert address_of("0.0.0.0", 7000) == f"http://{socket.gethostname()}:7000"


def test_a_port_or_host_that_cannot_be_had_is_named(database, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} of 127\.0\.0\.1 is taken: .* --port"):
            ui_command(tmp_path, port=port)
    assert ui_command(tmp_path, port=port)
    with pytest.raises(UserError, match=r"--host 192\.0\.2\.1: this machine has no such address"):
        ui_command(tmp_path, host="192.0.2.1")


def test_links_follow_the_pages(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    report, recorded = (tmp_path / "reports" / name / "index.html" for name in ("demo", "recorded/small"))
    text = 'a "http://127.0.0.1:5000/#/experiments/1/runs/2" b http://127.0.0.1:5000 c'
    write_text(report, text)
    write_text(recorded, text)
    move_pages(tmp_path, "http://127.0.0.1:6001")
    assert pages(tmp_path) == "http://127.0.0.1:6001"
    assert report.read_text() == text.replace("5000/#", "6001/#")
    move_pages(tmp_path, "http://127.0.0.1:5000")
    assert report.read_text() == recorded.read_text() == text


def test_one_link_leads_to_the_curves_of_all_seeds_of_a_system(tmp_path):
    seeds = [make_run(tmp_path, seed=seed) for seed in range(3)]
    assert not sync([*seeds, make_run(tmp_path, dataset="clevr6")], tmp_path)
    (parent,) = [run for run in all_runs(tmp_path) if "seed" not in run.data.tags]
    link = re.search(r"\]\(#/experiments/(\d+)/runs\?(\S+)\)", parent.data.tags["mlflow.note.content"])
    assert link[1] == parent.info.experiment_id
    search = {key: value for key, (value,) in parse_qs(link[2], strict_parsing=True).items()}
    assert search["compareRunsMode"] == "CHART"
    order = f"{search['orderByKey']} {'ASC' if search['orderByAsc'] == 'true' else 'DESC'}"
    found = MlflowClient(uri_of(tmp_path)).search_runs([link[1]], search["searchFilter"], order_by=[order])
    assert [run.data.tags["seed"] for run in found] == ["0", "1", "2"]


def test_what_git_has_recorded_is_shown_unless_it_is_here(tmp_path):
    here, *elsewhere = [make_run(tmp_path, seed=seed) for seed in range(3)]
    finished, in_progress = elsewhere
    finish(finished)
    (finished / RunRecord.FILE).unlink()  # git keeps the manifest alone
    recorded = tmp_path / "reports/recorded"
    identity = in_progress.relative_to(tmp_path / "runs")
    shutil.copytree(finished, recorded / "small" / finished.relative_to(tmp_path))
    shutil.copytree(in_progress, recorded / "in_progress" / identity)
    shutil.copytree(finished, recorded / "in_progress" / finished.relative_to(tmp_path / "runs"))  # until all are
    shutil.copytree(finished, recorded / "demo" / finished.relative_to(tmp_path))
    shutil.copytree(here, recorded / "in_progress" / here.relative_to(tmp_path / "runs"))
    for run_dir in elsewhere:
        shutil.rmtree(run_dir)

    folders = recorded_folders(tmp_path)
    assert {folder.name for folder in folders} == {"seed1", "seed2"}
    assert not sync([*run_folders(tmp_path), *folders], tmp_path)
    runs = [find_run(tmp_path, run_dir) for run_dir in (here, finished, in_progress)]
    assert [run.info.status for run in runs] == ["KILLED", "FINISHED", "KILLED"]
    assert "recorded" not in runs[0].data.tags
    assert runs[1].data.tags["recorded"] == "reports/recorded/small/runs/tetrominoes/emorl/base-0a1b/seed1"
    assert runs[2].data.tags["recorded"] == f"reports/recorded/in_progress/{identity}"

    points = stored_points(tmp_path, in_progress)
    shutil.copytree(recorded / "in_progress" / identity, in_progress)  # and it goes on here
    assert {folder.name for folder in recorded_folders(tmp_path)} == {"seed1"}
    assert not sync([in_progress], tmp_path)
    assert stored_points(tmp_path, in_progress) == points
    assert sum(points.values()) == 15
