"""Learning rates as a pure function of the step."""

import math

from smoothctl.stages import TrainingConfig

__all__ = ["learning_rate"]


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Returns the learning rate of a step (counted from 0): linear warm-up, then the decay."""
    warm = min(1.0, (step + 1) / training.warmup) if training.warmup else 1.0
    after = max(0, step - training.warmup)
    length = max(1, training.steps - training.warmup)
    factor = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, after / length))),
        "exponential": training.decay_rate**after,
    }[training.decay]
    return training.learning_rate * warm * factor
