"""An unforeseen error: one line, the traceback in a file, and an exit code that no gate has.

Python itself would print the traceback and end with 1, which means that a gate failed. Only modules of Python are
imported here, and only once there is an error: this has to work if nothing else does.
"""

from __future__ import annotations

import os
import sys

from bench.core import exit_codes
from bench.errors import BenchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from types import TracebackType

PRINT_VARIABLE = "BENCH_TRACEBACK"
"""Environment variable that has the traceback printed as well."""
MAX_TEXT = 300
"""Characters of an error's own words in the line."""
MAX_TRACEBACK = 200_000
OWN_THREADS = "bench-"
"""How the names of bench's own threads begin; those of suites and libraries are not bench's mistake."""
_FOLDERS = ("PWD", "OLDPWD")
"""Variables of shells whose names look like a password's."""
_OWN_MISTAKE = "a mistake in bench itself, please report it"
_NO_MEMORY = "the memory did not suffice: give bench more, or less to do"
_MACHINE_WORDS = r"cuda|nccl|gloo|hip\b|cudnn|cublas|driver|c10d|tcpstore|processgroup|connection|broken pipe|socket"
"""In the texts of torch's errors that devices, networks and dead peers cause."""
_thread_errors: list[BaseException] = []


class UnforeseenError(BenchError):
    """One line on an unforeseen error, whose traceback is kept already."""


class UnforeseenTold:
    """A block in which such an error becomes an UnforeseenError, so that it goes the way of all others.

    Errors of some kinds stay what they are: they have a meaning for those who called.
    """

    def __init__(self, *kept: type[BaseException]) -> None:
        self._kept: tuple[type[BaseException], ...] = (BenchError, KeyboardInterrupt, GeneratorExit, *kept)

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, self._kept):
            raise UnforeseenError(describe(error)) from error


def code_of(error: object, otherwise: int) -> int:
    """The exit code of an error, or of its text, which may come from another rank: `otherwise` for foreseen ones."""
    if isinstance(error, UnforeseenError):
        return exit_codes.UNFORESEEN
    return exit_codes.UNFORESEEN if any(text in str(error) for text in (_OWN_MISTAKE, _NO_MEMORY)) else otherwise


def is_of_machine(error: BaseException) -> bool:
    """True if a device, the network or the death of a peer caused a rank's error, by its kind or torch's words."""
    import re

    if not isinstance(error, RuntimeError):
        return isinstance(error, OSError)
    is_torchs = type(error).__module__.partition(".")[0] == "torch"
    return is_torchs or re.search(_MACHINE_WORDS, str(error).lower()) is not None


def complain(error: BaseException, who: str = "") -> int:
    """Say an unforeseen error in one line on stderr, and return its exit code."""
    _write(f"bench: error: {who}{error if isinstance(error, UnforeseenError) else describe(error)}\n")
    return exit_codes.UNFORESEEN


def describe(error: BaseException) -> str:
    """One line: the error, whose mistake it is, and where its traceback lies, which is written here."""
    try:
        text = _traceback(error)
        if os.environ.get(PRINT_VARIABLE):
            _write(text)
        return f"{name_error(error)}; {_blame(error)}; {_keep(text)}"
    except MemoryError:
        return f"{type(error).__name__}; {_blame(error)}; no memory is left for its traceback"


def name_error(error: BaseException) -> str:
    """Type and first words of an error, without secrets and control characters."""
    try:
        words = str(error)
    except Exception:  # noqa: BLE001 - a stranger's error may fail even at this
        words = "(it cannot say why)"
    from bench.core.cell_text import clean

    text = clean(" ".join(without_secrets(words, os.environ).split()))
    text = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def watch_threads() -> None:
    """Say errors of bench's own threads in one line too; others stay as Python shows them."""
    import threading

    def say(ended: threading.ExceptHookArgs) -> None:
        if ended.thread is None or not ended.thread.name.startswith(OWN_THREADS) or ended.exc_value is None:
            threading.__excepthook__(ended)
            return
        _thread_errors.append(ended.exc_value)
        complain(ended.exc_value, f"thread {ended.thread.name}: ")

    threading.excepthook = say


def final_code(code: int) -> int:
    """The exit code of a process; one that would be a success is none if a thread of bench died of its own mistake."""
    return exit_codes.UNFORESEEN if code == exit_codes.OK and _thread_errors else code


def without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """The text without what looks like a secret, and without the values of variables that are named like one.

    An error may name a URL or a header that it was about.
    """
    from bench.core.masking.placeholders import MASKED
    from bench.core.masking.secret_forms import mask_secrets
    from bench.core.masking.secret_names import is_secret_name

    named = {name: value for name, value in environ.items() if len(value) >= 6 and is_secret_name(name)}
    values = {value for name, value in named.items() if name not in _FOLDERS}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, MASKED)
    return mask_secrets(text)


def _blame(error: BaseException) -> str:
    return _NO_MEMORY if isinstance(error, MemoryError) else _OWN_MISTAKE


def _traceback(error: BaseException) -> str:
    import platform
    import traceback

    version = getattr(sys.modules["bench"], "__version__", "of unknown version")
    text = without_secrets("".join(traceback.format_exception(error)), os.environ)
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters are left out ...\n{text[-half:]}"
    return f"bench {version}, Python {platform.python_version()}, {platform.system()}\n{text}"


def _keep(text: str) -> str:
    """Write the traceback to a new file that only its owner may read; where it is, or why it was printed instead."""
    import tempfile

    try:
        # Not `bench-...`: that is what runs call their temporary folders, which are swept.
        handle, path = tempfile.mkstemp(prefix="traceback-of-bench-", suffix=".txt")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            os.unlink(path)  # noqa: PTH108 - a half of it would pass for the whole
            raise
    except OSError as error:
        if not os.environ.get(PRINT_VARIABLE):
            _write(text)
        return f"its traceback is above, since no file could be written ({error.strerror or error})"
    return f"traceback: {path}"


def _write(text: str) -> None:
    """Write to stderr as far as there is one that takes it."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
