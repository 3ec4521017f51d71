"""The one place that reads this process's environment: the code that needs a variable gets it as an argument."""

from __future__ import annotations

import os
from collections.abc import Mapping


def environment_variables() -> Mapping[str, str]:
    """All variables of this process."""
    return os.environ
