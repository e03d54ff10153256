"""The metrics that tables, figures and claims show: what each is called and how it is printed.

An evaluation's module computes them and leaves them under these names; a new one is written there and here. Evaluations
leave more numbers than are shown.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator


@dataclass(frozen=True)
class Metric:
    title: str
    """Heads a table's column, or a panel."""
    axis: str = ""
    """Names the axis of figures that show it."""
    factor: float = 1.0
    """By which it is multiplied where it is printed or drawn."""
    digits: int = 1
    """Of a table's numbers, after the decimal point."""
    repeats: str | None = None
    """What it rests on, of a number that every run repeats to the digit or, of times on one machine, far closer than
    any margin: claims about it are judged without a test."""


METRICS = {
    # Segmentation and reconstruction
    "fg_ari": Metric("FG-ARI x 100", "FG-ARI × 100", factor=100),
    "fg_ari_clevr10": Metric("FG-ARI x 100 on CLEVR10", "FG-ARI × 100 on CLEVR10", factor=100),
    "fg_ari_quantile": Metric("FG-ARI x 100 of the images up to this share", "FG-ARI × 100", factor=100),
    "fg_ari_over_images": Metric("Deviation over images", factor=100),
    "fg_ari_over_draws": Metric("Deviation over draws", factor=100, digits=2),
    "ari_with_background": Metric("ARI with background x 100", factor=100),
    "mean_best_overlap": Metric("mBO x 100", factor=100),
    "mean_iou": Metric("mIoU x 100", factor=100),
    "background_share": Metric("Share of the background in one slot", digits=2),
    "mse": Metric("MSE x 10000", r"MSE ($\times\,10^{-4}$)", factor=1e4),
    # Variational bound
    "kl": Metric("KL (nats)", "KL (nats per image)"),
    "kl_top": Metric("KL of the top layer (nats)"),
    "nll": Metric("NLL (nats)"),
    "elbo": Metric("ELBO (nats)", "ELBO (nats per image)"),
    "loss": Metric("Loss (nats)", "training loss (nats per image)"),
    "kl_from_initial": Metric("KL from q(z^0) (nats)"),
    **{
        f"update_norm_{i}": Metric(f"Norm of update {i}", r"L2 norm of $\delta\lambda^{(L,i)}$ (mean over slots)")
        for i in (1, 2, 3)
    },
    # Disentanglement
    "disentanglement": Metric("Disentanglement", digits=2),
    "completeness": Metric("Completeness", digits=2),
    "informativeness": Metric("Informativeness", digits=2),
    "informativeness_correct": Metric("with R²", digits=2),
    # Latent dimensions
    "active_share": Metric("Share of active dimensions", digits=2),
    "changed_outside": Metric("Share of pixels outside of the moved slot that change", digits=2),
    "changed_objects_first": Metric("Share of other objects' pixels that change with the first slot", digits=2),
    "ari_of_two_inferences": Metric("ARI of two inferences of an image x 100", factor=100),
    # Size and speed
    "parameters": Metric("Parameters", repeats="every run"),
    "forward_s": Metric("forward", "time (s)", repeats="the passes timed here, a median"),
    "training_s": Metric("forward + backward", "time (s)", repeats="the passes timed here, a median"),
    "forward_largest_batch": Metric("largest batch, forward", "images", repeats="every run"),
    "training_largest_batch": Metric("largest batch", "images", repeats="every run"),
}


def _known(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"must be a metric: {', '.join(METRICS)}")
    return name


MetricName = Annotated[str, AfterValidator(_known)]
