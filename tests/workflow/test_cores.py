"""How many jobs run at once where a control group has a share of the machine."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "workflow/scripts/cores.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cores", FILE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.mark.parametrize(("own", "files", "quota"), [
    ("0::/a/b\n", {"a/cpu.max": "250000 100000", "a/b/cpu.max": "max 100000", "cpu.max": "max 100000"}, 2.5),
    ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
    ("4:memory:/a\n3:cpu,cpuacct:/docker/0a\n0::/\n",
     {"cpu,cpuacct/cpu.cfs_quota_us": "150000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1.5),
    ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
    ("", {}, 64),
])  # fmt: skip
def test_the_smallest_quota_counts(script, tmp_path, monkeypatch, own, files, quota):
    monkeypatch.setattr(script.os, "cpu_count", lambda: 64)
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(content)
    assert min(script.quotas(tmp_path / "own", tmp_path / "mount")) == quota


def test_at_least_one_and_no_more_than_there_are(script, monkeypatch, capsys):
    monkeypatch.setattr(script.os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    for quota in (64, 2.9, 0.5):
        monkeypatch.setattr(script, "quotas", lambda quota=quota: [quota])
        script.main()
    assert capsys.readouterr().out.split() == ["3", "2", "1"]
