"""Write environment.yml, the conda form of requirements.lock: the same versions for GPU users and clusters.

Run by `make lock`; a test fails when the two files drift apart.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

HEADER = """\
# Generated from requirements.lock by `make lock`; do not edit.
# conda env create -f environment.yml && conda activate emorl
# On Linux with an NVIDIA GPU pip takes PyTorch's CUDA build of the pinned version.
name: emorl
channels:
  - conda-forge
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def conda_environment(lock: str) -> str:
    pins = [line for line in lock.splitlines() if line and not line.startswith("#")]
    return HEADER + "".join(f"      - {pin}\n" for pin in pins)


if __name__ == "__main__":
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (ROOT / "environment.yml").write_text(conda_environment(lock), encoding="utf-8")
