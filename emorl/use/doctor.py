"""Why slots do not bind: what the metrics of a run and a few held-out images show, in words.

Each finding has the number that it rests on and the setting to try first. A finding is a symptom, not a proof; the
thresholds are ours, wide of what runs that bind show.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from emorl.data.settings import AnyDataSettings, DataSettings, FolderSettings
from emorl.data.store import load_images, load_split
from emorl.models.parts.likelihoods import nll_floor
from emorl.pipeline.runs import PreparedData
from emorl.runtime.errors import UserError
from emorl.runtime.files import ROOT
from emorl.training.manifest import RunRecord, manifest_of
from emorl.training.metrics import METRICS
from emorl.use.trained import load

IMAGES = 16
"""Held-out images that are taken apart."""

KEEPS_ALL = 0.95
"""Share of the pixels that one slot has, in the mean over images."""
UNDECIDED = 1.5
"""Times 1/K that the largest mask has of a pixel, in the mean."""
SHARED, BACKGROUND = 0.2, 0.3
"""Share of the background that a slot has to have a part in it; least share of the image that counts as one."""
COLLAPSED_KL = 1.0
"""Nats per image."""
MET = 0.95
"""Share of the logged steps at which GECO's target was met."""
SPENT_RATE = 0.02
"""Of the highest learning rate, with this share of the steps or more still to come when it was reached: LATE."""
LATE = 0.1
ALIKE = 1e-4
"""Variance of a pixel over images, of values in [0, 1]."""
EXPLAINED = 0.9
"""Share of the images' variance that reconstructions leave."""


@dataclass(frozen=True)
class Finding:
    sentence: str
    """What is seen, with its number."""
    remedy: str
    """The setting to try first."""


@dataclass(frozen=True)
class Observed:
    """A few held-out images taken apart."""

    images: np.ndarray
    """(N, 3, H, W) in [0, 1]."""
    reconstruction: np.ndarray
    """(N, 3, H, W)."""
    masks: np.ndarray
    """(N, K, H, W)."""


def examine(folder: Path) -> tuple[list[Finding], list[str]]:
    """What is found in a run's folder, and remarks on what could not be looked at. Raises UserError where there is no
    run."""
    if not (folder / RunRecord.FILE).is_file():
        raise UserError(f"{folder}: there is no run; it has no {RunRecord.FILE}")
    record = RunRecord.read(folder / RunRecord.FILE)
    remarks: list[str] = []
    lines = _metrics(folder)
    if not lines:
        remarks.append("it has no metrics yet")
    manifest = manifest_of(folder)
    found = list(of_training(lines, record.config, record.steps))
    if manifest is not None and manifest.status == "failed":
        why = f"the run failed: {manifest.error}"
        found.insert(0, Finding(why, "training.learning_rate: a third; then training.clip_norm"))
    settings: DataSettings | FolderSettings = TypeAdapter(AnyDataSettings).validate_python(record.config["data"])
    prepared = ROOT / PreparedData(record.dataset, settings).path
    if not prepared.exists():
        return found, [*remarks, f"{prepared.relative_to(ROOT)} is not there: no image was looked at"]
    found += of_images(load_images(prepared, "train")[:500])
    try:
        observed = _observe(folder, prepared)
    except UserError as error:
        return found, [*remarks, f"no image was taken apart: {error}"]
    return found + list(of_decompositions(observed, record.config["model"])), remarks


def of_training(lines: Sequence[Mapping[str, float]], config: Mapping[str, Any], steps: int) -> Iterator[Finding]:
    """What the lines of metrics.jsonl show, given the run's configuration."""
    model, training = config["model"], config["training"]
    yield from _geco(lines, model)
    if lines and "kl" in lines[-1] and lines[-1]["kl"] < COLLAPSED_KL:
        yield Finding(
            f"the KL has collapsed: {lines[-1]['kl']:.3g} nats per image, so that the latents tell nothing",
            "model.sigma: half of it, which weights the likelihood four times",
        )
    shares = np.array([line["learning_rate"] for line in lines]) / training["learning_rate"]
    spent = (shares < SPENT_RATE) & (shares < np.maximum.accumulate(shares))  # and no longer in the warm-up
    if spent.any() and (step := lines[spent.argmax()]["step"]) < (1 - LATE) * steps:
        share = shares[spent.argmax()]
        yield Finding(
            f"the learning rate is past its decay: {share:.1%} of its highest at step {step:g} of {steps}",
            f"training.decay_steps: {2 * training['decay_steps']}, or fewer training.steps",
        )


def _geco(lines: Sequence[Mapping[str, float]], model: Mapping[str, Any]) -> Iterator[Finding]:
    geco = model.get("geco")
    if geco is None or "target" not in geco:
        return
    floor = nll_floor(model["sigma"], 1)
    if geco["target"] < floor:
        yield Finding(
            f"GECO's target is below what the likelihood can reach: {geco['target']:.4g}, where the floor is "
            f"{floor:.4g} per pixel and channel",
            f"model.geco.target: {floor + 0.02:.3g}",
        )
    acting = [line for line in lines if line["step"] > geco["warm_start"] and "geco_constraint" in line]
    met = float(np.mean([line["geco_constraint"] > 0 for line in acting])) if acting else 0.0
    if met >= MET:
        yield Finding(
            f"GECO's target is met already: at {met:.0%} of the logged steps, so that it asks for nothing",
            "model.geco.target: lower, to just above the NLL that the run ends with",
        )


def of_images(images: np.ndarray) -> Iterator[Finding]:
    """What training images (N, H, W, 3) uint8 show."""
    variance = float((images / 255).var(0).mean())
    if variance < ALIKE:
        yield Finding(
            f"the images are all alike: a pixel's variance over {len(images)} of them is {variance:.2g}",
            "the pictures themselves, and what datasets.NAME.crop leaves of them",
        )


def of_decompositions(observed: Observed, model: Mapping[str, Any]) -> Iterator[Finding]:
    """What a few decompositions show, given the model's settings."""
    longer = "training.steps: twice as many"
    likelihood = f"model.sigma: {model['sigma'] / 2:g}, half of it" if "sigma" in model else longer
    apart = "model.xavier_gain: 1, so that slots differ from the start" if model.get("xavier_gain", 1) < 1 else longer
    masks, K = observed.masks, observed.masks.shape[1]
    owners = masks.argmax(1)
    shares = (owners[:, None] == np.arange(K)[:, None, None]).mean((2, 3))  # (N, K)
    left = float(((observed.reconstruction - observed.images) ** 2).mean() / max(_variance(observed.images), 1e-12))
    if left > EXPLAINED:
        yield Finding(
            f"reconstructions show no more than each image's mean colour: {left:.0%} of the variance is left",
            "training.steps: more; then training.learning_rate: twice it",
        )
    sure = float(masks.max(1).mean())
    if sure < UNDECIDED / K:
        yield Finding(
            f"no slot decides: the largest mask has {sure:.2f} of a pixel, where {K} equal ones have {1 / K:.2f}",
            apart,
        )
    elif (most := float(shares.max(1).mean())) > KEEPS_ALL:
        yield Finding(f"one slot keeps everything: {most:.0%} of the pixels, in the mean over images", likelihood)
    else:
        yield from _shared_background(observed, owners)


def _shared_background(observed: Observed, owners: np.ndarray) -> Iterator[Finding]:
    """The background is taken to be the colour that is most frequent in an image."""
    parts = []
    for image, owner in zip(observed.images, owners, strict=True):
        coarse = (image.clip(0, 1) * 7).round().astype(int)
        codes = coarse[0] * 64 + coarse[1] * 8 + coarse[2]
        background = codes == np.bincount(codes.ravel()).argmax()
        if background.mean() >= BACKGROUND:
            counts = np.bincount(owner[background]) / background.sum()
            parts.append(int((counts >= SHARED).sum()))
    if parts and np.mean(parts) >= 2:
        yield Finding(
            f"slots share the background: {np.mean(parts):.1f} of them have a fifth of it or more, in the mean",
            "model.K: the most objects and one, no more; then a longer training",
        )


def _variance(images: np.ndarray) -> float:
    """About each image's mean colour."""
    return float(images.var((2, 3)).mean())


def _metrics(folder: Path) -> list[dict[str, float]]:
    path = folder / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _observe(folder: Path, prepared: Path) -> Observed:
    model, pixels = load(folder), load_split(prepared, "test").images[:IMAGES]
    found = [model.segment_square(image, seed=0) for image in pixels]
    return Observed(
        images=pixels.transpose(0, 3, 1, 2) / 255,
        reconstruction=np.concatenate([one.reconstruction.cpu().numpy() for one in found]),
        masks=np.concatenate([one.masks.cpu().numpy() for one in found]),
    )
