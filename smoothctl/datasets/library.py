"""The library `datasets`, quiet: no progress bars, and its errors are one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from smoothctl.errors import DataError

__all__ = ["quietly", "said"]


@contextmanager
def quietly(name: str, hint: str) -> Iterator[Any]:
    """Yields the module `datasets` without its progress bars and its log.

    Args:
        name: the dataset, for messages.
        hint: what to do where it cannot be reached.

    Raises:
        DataError: it is not installed; or whatever it raises, as one sentence.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{name} is read by the package datasets ({error}): run pip install datasets."
        ) from error
    shown, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield datasets
    except DataError:
        raise
    except (ConnectionError, FileNotFoundError, OSError) as error:
        raise DataError(
            f"The dataset {name} could not be reached ({said(error)}): {hint}."
        ) from error
    except Exception as error:
        raise DataError(f"The dataset {name} cannot be loaded ({said(error)}).") from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not shown:
            datasets.enable_progress_bars()


def said(error: Exception) -> str:
    """Returns the type and the first line of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300].rstrip('.: ')}"
