"""Where what can be made again is kept."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """Returns $SMOOTHCTL_CACHE, else $XDG_CACHE_HOME/smoothctl, else ~/.cache/smoothctl.

    Raises:
        RuntimeError: neither is set, and the user has no home.
    """
    own, shared = os.environ.get("SMOOTHCTL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else Path(shared or Path.home() / ".cache") / "smoothctl"
