"""Values that follow the training step: the learning rate and the refinement curriculum."""


def learning_rate(step: int, peak: float, warmup_steps: int, decay_rate: float, decay_steps: int) -> float:
    """Linear warm-up from 0, then a smooth exponential decay that counts from the end of the warm-up.

    EfficientMORL's schedule as released; `step` counts from 0.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    return peak * decay_rate ** ((step - warmup_steps) / decay_steps)


def refinement_steps(step: int, curriculum: dict[int, int]) -> int:
    """I at this training step: the value of the last entry whose start is not after `step` (paper section 4.1)."""
    return curriculum[max(start for start in curriculum if start <= step)]
