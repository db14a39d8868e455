"""Learning rates as a pure function of the step."""

import math

from smoothctl.runs.config import TrainingConfig

__all__ = ["learning_rate"]


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Returns the learning rate of a step (counted from 0): linear warm-up, then the decay.

    A fit that goes on for more steps than it was begun with has, from there on, the rates of one of
    that many steps: a cosine that had come to its end rises to where the longer one is.
    """
    warmup = training.warmup_steps
    warm = min(1.0, (step + 1) / warmup) if warmup else 1.0
    after = max(0, step - warmup)
    length = max(1, training.steps - warmup)
    factor = {
        "constant": 1.0,
        "cosine": 0.5 * (1 + math.cos(math.pi * min(1.0, after / length))),
        "exponential": training.decay_rate**after,
    }[training.decay]
    return training.learning_rate * warm * factor
