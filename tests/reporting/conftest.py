import pytest

from emorl.pipeline import config
from emorl.reporting.claims import load_claims


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Reads claims from texts of YAML."""
    monkeypatch.setattr(config, "ROOT", tmp_path)

    def read(*texts):
        path = tmp_path / "params" / "claims.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(texts))
        return load_claims(path)

    return read
