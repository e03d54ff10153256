"""The learning rate as a function of the training step."""

from emorl.training.settings import TrainingSettings


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Linear warm-up from 0, times a smooth exponential decay; `step` counts from 0.

    The decay begins with the end of the warm-up (EfficientMORL as released) or with the first step (Slot Attention).
    """
    warmup = min(1.0, step / settings.warmup_steps) if settings.warmup_steps else 1.0
    begin = settings.warmup_steps if settings.decay_from == "warmup" else 0
    return settings.learning_rate * warmup * settings.decay_rate ** (max(0, step - begin) / settings.decay_steps)
