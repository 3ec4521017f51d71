"""Which algorithm, protocol and channels NCCL chose for a case, as plain columns of its row and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXT_COLUMNS = ("nccl_algorithm", "nccl_protocol")


def columns(nccl: list[dict[str, Any]] | None) -> dict[str, Any]:
    """A case's choices as three plain columns; where one call makes several they are joined by `+`.

    `nccl_channels` is missing where they differ.
    """
    chosen = nccl or []
    counts = {choice.get("channels") for choice in chosen}
    return {
        "nccl_algorithm": _joined(choice.get("algorithm") for choice in chosen),
        "nccl_protocol": _joined(choice.get("protocol") for choice in chosen),
        "nccl_channels": next(iter(counts)) if len(counts) == 1 else None,
    }


def _joined(names: Any) -> str | None:
    return "+".join(dict.fromkeys(name for name in names if name)) or None


def shown(row: Mapping[str, Any]) -> str | None:
    """The columns in a few words, such as `Ring LL128 x8`."""
    channels = row.get("nccl_channels")
    words = [row.get("nccl_algorithm"), row.get("nccl_protocol"), None if channels is None else f"x{channels}"]
    return " ".join(word for word in words if word) or None
