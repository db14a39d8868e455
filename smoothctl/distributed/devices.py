"""What Accelerate owns: device, precision and how a model is spread over processes."""

import os
from collections.abc import Callable

from accelerate import Accelerator, DistributedType
from accelerate.utils import patch_environment
from torch import Tensor

from smoothctl.distributed.processes import check_launch, started
from smoothctl.errors import TrainingError

__all__ = ["accelerator_for", "check_strategy", "prepared"]

_SHARDING = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}
"""What the launcher sets for a model that is cut into pieces -> its name."""


def check_strategy() -> None:
    """Checks that the launcher asks for whole models: one in each process.

    Raises:
        TrainingError: it asks for a model in pieces.
    """
    for variable, name in _SHARDING.items():
        if os.environ.get(variable, "").lower() in ("1", "true", "yes"):
            raise TrainingError(
                f"The launcher asks for {name}, which cuts a model into pieces; smoothctl's models "
                "fit on one device, and each process has a whole one: launch with --multi_gpu."
            )


def accelerator_for(device: str, precision: str) -> Accelerator:
    """Returns the Accelerator that owns device, precision and processes.

    Args:
        device: "auto" (what Accelerate finds) or "cpu".
        precision: number format of the fit: bf16 is mixed precision.

    Raises:
        TrainingError: the launcher started several processes that do not see each other, or this
            process has computed on another device or in another precision before.
    """
    mixed = "bf16" if precision == "bf16" else "no"
    alone = {"LOCAL_RANK": "-1"} if started() == 1 else {}  # whoever has set it is no launcher
    with patch_environment(**alone):
        try:
            accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
        except ValueError as error:
            if "already been initialized" not in str(error):
                raise
            raise TrainingError(
                f"This process has fitted on another device or in another precision, and can do so "
                f"in one way only: fit with device={device}, precision={precision} in a new one."
            ) from error
    check_launch(accelerator.num_processes)
    return accelerator


def prepared(model: Callable[..., Tensor], accelerator: Accelerator) -> Callable[..., Tensor]:
    """Returns a model as it is called in training: spread over processes, in mixed precision.

    What needs neither is returned as it is. Accelerate would do the same, but imports sharded
    tensors and symbolic algebra to find that out, which takes longer than a short fit.

    Args:
        model: on the accelerator's device.
        accelerator: device, precision and processes.
    """
    alone = accelerator.distributed_type is DistributedType.NO
    if alone and accelerator.mixed_precision == "no":
        return model
    wrapped: Callable[..., Tensor] = accelerator.prepare(model)
    return wrapped
