"""The command `bench`, and `python -m bench`."""

from __future__ import annotations

from bench.core.crash import unforeseen
from bench.core.crash.module_shadows import ShadowsNamed
from bench.errors import BenchError


def main() -> None:
    """The console script: what goes wrong in its own imports, before there is a command, is one line too."""
    try:
        with ShadowsNamed():
            from bench.cli import main as command
    except BenchError as error:
        raise SystemExit(_complain(str(error))) from None
    except ModuleNotFoundError as error:
        raise SystemExit(_complain(f"{error}; install what bench needs for this Python")) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BaseException as error:  # noqa: BLE001 - beyond this Python ends with 1
        raise SystemExit(unforeseen.complain(error)) from None
    command()


def _complain(text: str) -> int:
    import sys

    sys.stderr.write(f"bench: error: {text}\n")
    return 2


if __name__ == "__main__":
    main()
