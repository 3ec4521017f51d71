"""The one place that reads this process's environment: the code that needs a variable gets it as an argument."""

from __future__ import annotations

import os
from collections.abc import Mapping

_MARKER = "BENCH_OWN_VARIABLES"
"""Names of the variables that `bench` set itself, so that processes it starts do not take them for the user's."""

HELD_FILE = "BENCH_HELD_FILE"
"""Orders of `bench ab` to a launch: the result file that it holds for both."""


def environment_variables() -> Mapping[str, str]:
    """All variables of this process."""
    return os.environ


def take_variable(name: str) -> str | None:
    """The value of a variable that is meant for this process alone; those that it starts do not have it."""
    return os.environ.pop(name, None)


def unset_defaults(defaults: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The variables to add to an environment so that each of `defaults` has a value; the user's stay as they are."""
    added = {name: value for name, value in defaults.items() if name not in environ}
    return added | {_MARKER: ",".join(sorted(own_names(environ) | added.keys()))} if added else {}


def own_names(environ: Mapping[str, str]) -> frozenset[str]:
    """Names of the variables that `bench` set itself in an environment."""
    return frozenset(filter(None, environ.get(_MARKER, "").split(",")))


def quiet_torch() -> None:
    """Keep torch's C++ warnings off stderr, unless the user set its log level; call it before torch is imported.

    A warning about another rank's connection comes with C++ stack frames, and reads like a crash of this rank. So does
    an error, which torch raises as well.
    """
    os.environ.update(unset_defaults({"TORCH_CPP_LOG_LEVEL": "FATAL"}, os.environ))
