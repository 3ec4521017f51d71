"""Differences between the versions of torch that the product runs on.

Importing this module does not import torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def known_arguments(call: Callable[..., Any], **named: Any) -> dict[str, Any]:
    """The named arguments that this torch's callable has; an older one without them already does what they ask for."""
    parameters = inspect.signature(call).parameters
    return {name: value for name, value in named.items() if name in parameters}
