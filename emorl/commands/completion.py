"""Names that the shell completes: read from files, as importing what they stand for would take seconds."""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
PARAMS = PACKAGE.parent / "params"
NOT_SCALES = ("experiments", "claims", "released")


def scales(incomplete: str) -> list[str]:
    return _starting([path.stem for path in PARAMS.glob("*.yaml") if path.stem not in NOT_SCALES], incomplete)


def models(incomplete: str) -> list[str]:
    names = [path.stem for path in (PACKAGE / "models").glob("*.py")]
    return _starting([name for name in names if name not in ("__init__", "interface")], incomplete)


def data_sets(incomplete: str) -> list[str]:
    files = (PACKAGE / "data").glob("*.py")
    return _starting([path.stem for path in files if "\nDATA_SET = " in path.read_text(encoding="utf-8")], incomplete)


def variants(incomplete: str) -> list[str]:
    return _starting(_experiments("variants"), incomplete)


def artifacts(incomplete: str) -> list[str]:
    return _starting(_experiments("artifacts"), incomplete)


def targets(incomplete: str) -> list[str]:
    return _starting([*_experiments("artifacts"), "claims", "all"], incomplete)


def _experiments(key: str) -> list[str]:
    import yaml

    return list(yaml.load((PARAMS / "experiments.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)[key])


def _starting(names: list[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
