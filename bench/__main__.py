"""The command `bench`, and `python -m bench`."""

from __future__ import annotations

from bench.core.process import stop_signals


def main() -> None:
    """The console script: what goes wrong in its own imports, before there is a command, is one line too."""
    stop_signals.listen()
    try:
        _call()
    except KeyboardInterrupt:
        raise SystemExit(_say_interrupted()) from None
    finally:
        stop_signals.ignore()  # an interpreter that ends runs code of torch, which prints a traceback


def _call() -> None:
    # Late: from the first moment on a signal is heard.
    from bench.core.crash import unforeseen
    from bench.core.crash.module_shadows import ShadowsNamed
    from bench.errors import BenchError

    try:
        with ShadowsNamed():
            from bench.cli import main as command
    except BenchError as error:
        raise SystemExit(_complain(str(error))) from None
    except ModuleNotFoundError as error:
        raise SystemExit(_complain(f"{error}; install what bench needs for this Python")) from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - beyond this Python ends with 1
        raise SystemExit(unforeseen.complain(error)) from None
    command()


def _complain(text: str) -> int:
    import sys

    sys.stderr.write(f"bench: error: {text}\n")
    return 2


def _say_interrupted() -> int:
    import sys

    code = stop_signals.handle()
    if sys.stderr is not None:
        sys.stderr.write("interrupted\n")
    return code


if __name__ == "__main__":
    main()
