"""Where the command begins: the `smoothctl` script and `python -m smoothctl`."""

import signal

__all__ = ["main"]


def main() -> None:
    """Runs the command line; Ctrl-C while that is being imported ends it without a word."""
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


if __name__ == "__main__":
    main()
