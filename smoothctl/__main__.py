"""Where the command begins: the `smoothctl` script and `python -m smoothctl`."""

import os
import signal
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line; Ctrl-C while that is being imported ends it without a word."""
    _fill_streams()
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from smoothctl.cli import main as run

    signal.signal(signal.SIGINT, handler)
    from smoothctl.distributed.processes import end

    try:
        run()
    except SystemExit as ended:
        end(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise
    end(0)


def _fill_streams() -> None:
    """Opens the null device where stdin, stdout or stderr is closed, lest a file take its number.

    A closed stdout stays one that cannot be written; on a closed stderr there is nobody to tell.
    """
    for number, how in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, how), True)  # the lowest number that is free
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8")


if __name__ == "__main__":
    main()
