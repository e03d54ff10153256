"""What the code computes beside what was released: all probes, and the runs that a change of numbers renames."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from emorl.data.settings import FolderSettings
from emorl.models import model_class
from emorl.pipeline import config
from emorl.pipeline.identity import Probe, identify
from emorl.pipeline.runs import PreparedData, Run, evaluation_probe, select_runs
from emorl.runtime.files import ROOT
from emorl.training.manifest import manifest_of


def every_probe() -> list[Probe]:
    """All probes that the artifacts of all scales need, each once."""
    found: dict[str, Probe] = {}
    for run, evaluation in _evaluated_runs():
        probes = [run.probe, run.data.probe]
        if evaluation != "training":
            probes += [run.inference_probe(evaluation), run.evaluated_on(evaluation).probe]
            probes.append(evaluation_probe(evaluation))
        found |= {probe.key: probe for probe in probes}
    for scale in map(config.load_scale, config.scales()):
        for name, settings in scale.datasets.items():
            if isinstance(settings, FolderSettings):  # what one has of one's own is never released
                continue
            probe = PreparedData(name, settings).probe
            found[probe.key] = probe
    return list(found.values())


def changes(probes: Iterable[Probe]) -> list[str]:
    """A sentence for each probe whose numbers are not the released ones."""
    found = []
    for probe in probes:
        identity = identify(probe)
        if identity.released is None:
            found.append(f"{probe.key} was not released")
        elif identity.difference:
            found.append(f"{probe.key}: {identity.difference}")
    return found


def renamings(runs: Iterable[Run]) -> list[str]:
    """What changed numbers mean for these runs, a sentence per model and data set: how many get another name, and what
    it costs to train those again that were trained under the old one."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.digest != run.released_digest:
            changed = run.identity.difference, run.data.identity.difference
            what = [f"{model_class(run.model).title} ({changed[0]})"] if changed[0] else []
            what += [f"the data set {run.dataset} ({changed[1]})"] if changed[1] else []
            groups[" and ".join(what)].append(run)
    return [_sentence(what, renamed) for what, renamed in groups.items()]


def _sentence(what: str, renamed: list[Run]) -> str:
    old = [manifest_of(ROOT / run.released_folder) for run in renamed if manifest_of(ROOT / run.folder) is None]
    trained = [manifest for manifest in old if manifest]
    hours = sum(manifest.wall_seconds for manifest in trained) / 3600
    text = f"the numbers of {what} have changed: {len(renamed)} runs get other names"
    return f"{text}, {len(trained)} were trained under the old ones ({hours:.2g} hours)" if trained else text


def _evaluated_runs() -> Iterator[tuple[Run, str]]:
    """One run of each model, data set and variant that an artifact of any scale shows, with the evaluation it needs."""
    artifacts = config.load_experiments().artifacts.values()
    for scale in map(config.load_scale, config.scales()):
        for series in [series for artifact in artifacts for series in artifact.series]:
            for model in series.models:
                there = [dataset for dataset in series.datasets if dataset in scale.blocks(model)]
                for variant in series.variants:
                    for run in select_runs(scale, [model], there, variant, [0], series.split):
                        yield run, series.evaluation
