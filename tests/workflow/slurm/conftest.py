"""One private Slurm for the tests of this folder."""

import pytest
from private_slurm import missing_programs, private_slurm


@pytest.fixture(scope="session")
def slurm():
    if missing := missing_programs():
        pytest.skip(f"needs Slurm: no {', '.join(missing)} (Debian: apt install slurm-wlm munge)")
    with private_slurm() as slurm:
        yield slurm
