"""Out of memory: fewer rows in a micro-batch, and more micro-batches."""

from accelerate.utils.memory import should_reduce_batch_size

from smoothctl.distributed.processes import Processes
from smoothctl.errors import TrainingError

__all__ = ["fewer_rows"]


def fewer_rows(error: RuntimeError, rows: int, accumulate: int, processes: Processes) -> int:
    """Returns half the rows of a micro-batch, where an error says that memory has run out.

    Of several processes each would have to halve at once, so there it is an error.

    Args:
        error: raised by the work on a micro-batch; another one is raised again.
        rows: of the micro-batch.
        accumulate: the parts that a step is split into, for the message.
        processes: those that share a step.

    Raises:
        TrainingError: one row does not fit, or another process shares the step.
    """
    if not should_reduce_batch_size(error):
        raise error
    if processes.count > 1:
        raise TrainingError(
            f"{processes.name} is out of memory with {rows} examples in a micro-batch: "
            f"`training.accumulate={2 * accumulate}` takes half as many, for the same steps."
        ) from error
    if rows == 1:
        raise TrainingError(
            "Out of memory with a single example: take a smaller model or another device."
        ) from error
    return rows // 2
