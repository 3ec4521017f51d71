"""The one place that reads this process's environment: what needs a variable is told it."""

from __future__ import annotations

import os
from collections.abc import Mapping


def environment_variables() -> Mapping[str, str]:
    """All variables of this process."""
    return os.environ
