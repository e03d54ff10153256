"""A copy of the package that tests edit, and the names that its code would give, asked for in forked processes."""

import fnmatch
import multiprocessing
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("emorl", "slot_attention", "slot_mlp", "iodine", "monet", "genesis", "genesis_s")


class Overlay:
    """emorl/ and params/ in a folder of their own, with what its probes have found so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "emorl", folder / "emorl", ignore=shutil.ignore_patterns("__pycache__", "released.json"))
        shutil.copytree(ROOT / "params", folder / "params")
        self.names = self.names_now()

    @contextmanager
    def edited(self, *edits: tuple[str, str, str]) -> Iterator[None]:
        """Each edit replaces a text that stands once in a file of emorl/, or adds to the file's end if it is empty."""
        before = {file: file.read_text() for file in {self.folder / "emorl" / name for name, _, _ in edits}}
        try:
            for name, old, new in edits:
                file = self.folder / "emorl" / name
                text = file.read_text()
                assert not old or text.count(old) == 1, f"{name} has {text.count(old)} times: {old}"
                file.write_text(text.replace(old, new) if old else text + new)
            yield
        finally:
            for file, text in before.items():
                file.write_text(text)

    @contextmanager
    def moved(self, old: str, new: str) -> Iterator[None]:
        """A module of emorl/ gets another name, in all that imports it as well."""
        package, backup = self.folder / "emorl", self.folder / "before"
        shutil.copytree(package, backup)
        try:
            (package / old).rename(package / new)
            before, after = (f"emorl.{name.removesuffix('.py').replace('/', '.')}" for name in (old, new))
            for file in package.rglob("*.py"):
                text = file.read_text()
                package_before, _, name_before = before.rpartition(".")
                package_after, _, name_after = after.rpartition(".")
                text = text.replace(f"from {before} import", f"from {after} import")
                text = text.replace(
                    f"from {package_before} import {name_before}\n",
                    f"from {package_after} import {name_after} as {name_before}\n",
                )
                file.write_text(text)
            yield
        finally:
            shutil.rmtree(package)
            backup.rename(package)

    def names_now(self) -> dict[str, str]:
        """The digest of probes of the test scale, by "kind/subject", from a process that has imported nothing of the
        package yet. Probes whose code is as it was are not run."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_send_names, args=(self.folder, theirs))
        child.start()
        theirs.close()
        found = ours.recv()
        child.join()
        if isinstance(found, str):
            raise AssertionError(found)
        return found

    def changed(self) -> set[str]:
        now = self.names_now()
        return {name for name in now if now[name] != self.names[name]}

    def expand(self, *patterns: str) -> set[str]:
        """The names that match one of the patterns, each of which must match something."""
        found = {pattern: set(fnmatch.filter(self.names, pattern)) for pattern in patterns}
        assert all(found.values()), found
        return set().union(*found.values())


def _send_names(folder: Path, pipe: Connection) -> None:
    for module in [name for name in sys.modules if name.split(".")[0] == "emorl"]:
        del sys.modules[module]
    sys.path.insert(0, str(folder))
    try:
        pipe.send(_names())
    except BaseException as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _names() -> dict[str, str]:
    from emorl.evaluation import evaluation_names
    from emorl.pipeline import config, runs
    from emorl.pipeline.identity import identify

    scale = config.load_scale("test")
    found = {}
    for model in MODELS:
        for dataset in ("tetrominoes", "multi_dsprites") if model == "emorl" else ("tetrominoes",):
            (run,) = runs.select_runs(scale, [model], [dataset], "base", [0])
            name = f"{model}-{dataset}" if dataset != "tetrominoes" else model
            found[f"training/{name}"] = identify(run.probe).digest
            for evaluation in ("decomposition", "refinement", "layers") if model == "emorl" else ("decomposition",):
                probe = run.inference_probe(evaluation)
                found[f"{probe.kind}/{name}"] = identify(probe).digest
    for evaluation in evaluation_names():
        found[f"evaluation/{evaluation}"] = identify(runs.evaluation_probe(evaluation)).digest
    for dataset, source in (
        ("tetrominoes", "replica"), ("tetrominoes", "published"), ("tetrominoes", "processed"),
        ("multi_dsprites", "replica"), ("multi_dsprites_textured", "replica"),
        ("clevr6", "replica"), ("clevr6", "published"),
    ):  # fmt: skip
        settings = scale.datasets[dataset].model_copy(update={"source": source})
        found[f"data/{dataset}-{source}"] = identify(runs.PreparedData(dataset, settings).probe).digest
    return found
