"""How long a fit will take, from a few steps of it that are thrown away."""

import time
from statistics import median

from smoothctl.distributed.agreement import Agreement
from smoothctl.distributed.devices import accelerator_for
from smoothctl.distributed.processes import ALONE
from smoothctl.distributed.signals import Received
from smoothctl.distributed.threads import suited_threads
from smoothctl.training.batches import BatchSchedule
from smoothctl.training.fit import objective_of
from smoothctl.training.schedule import learning_rate
from smoothctl.training.settings import FitPlan
from smoothctl.training.step import Learner

__all__ = ["seconds_a_step"]

_STEPS, _LONG_ENOUGH = 3, 10.0


def seconds_a_step(plan: FitPlan) -> float:
    """Returns the seconds of a step of a fit, by the clock, of this process alone.

    Nothing is written. The first step, in which memory is taken, does not count.

    Args:
        plan: what would be fitted to what.
    """
    accelerator = accelerator_for(plan.settings.device, plan.config.precision)
    objective = objective_of(plan)
    size = sum(each.numel() for each in objective.parameters())
    agreement = Agreement(ALONE, Received(launched=False))
    with suited_threads(size, lambda _: None):
        batches = BatchSchedule(plan, False, ALONE, accelerator.device)
        learner = Learner(objective.to(accelerator.device), batches, accelerator)
        taken = []
        for step in range(1 + _STEPS):
            before = time.perf_counter()
            rate = learning_rate(step, plan.config.training)
            learner.step(step, rate, agreement)
            taken.append(time.perf_counter() - before)
            if sum(taken) > _LONG_ENOUGH:
                break
    return median(taken[1:] or taken)
