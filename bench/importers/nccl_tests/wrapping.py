"""Lines before the table that a mail or a page wrapped: the set-up, and the list of devices.

A rest that is not joined would change facts: `NVIDIA` is not `NVIDIA H100 80GB HBM3`, and a set-up that ends before
`graph: 10` is one without a graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.importers.source.noise import noise

Device = tuple[int, str, str]
_WORDS_OF_SETUP = r"(?:nThread|nGpus|minBytes|maxBytes|step|warmup|iters|agg|validation|graph|unalign)\b"
_REST_OF_SETUP = re.compile(rf"(?:\d+(?:\((?:factor|bytes)\))?(?:\s|$))?(?:\s*{_WORDS_OF_SETUP}|$)")
_BEGINS_DEVICE = re.compile(r"#\s*Rank\s+\d+\b")
_NAME = re.compile(r"\w[\w .()/\[\]-]*")
"""Part of a device's name; a warning mostly has a colon."""
_MAX_WORDS = 6
"""Words of the rest of a device's name."""
_MIN_RESTS = 2
"""Rests of names that make a wrapped list; a single one may be any line of a log."""


@dataclass
class WrappedHead:
    """The line before the current one, if the current one may be its rest."""

    line: int = 0
    text: str = ""
    rests: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Number of a device in the list -> the line after its own, and that line's text."""
    lengths: dict[int, int] = field(default_factory=dict)
    """Number of a device in the list -> characters of its line."""

    def keep(self, index: int, text: str) -> None:
        """Note a line that may go on in the next one."""
        self.line, self.text = index, text

    def joined_setup(self, index: int, text: str) -> str | None:
        """The set-up with this line as its rest; None if it is none."""
        if index != self.line + 1 or "nThread" not in self.text or not text or not _REST_OF_SETUP.match(text):
            return None
        self.keep(index, f"{self.text} {text}")
        return self.text

    def joined_device(self, index: int, text: str) -> str | None:
        """The line of a device with this line as its rest; None if the line before begins none."""
        if index != self.line + 1 or _BEGINS_DEVICE.match(self.text) is None or text.startswith("#"):
            return None
        return f"{self.text} {text}"

    def begins_device(self, index: int, text: str) -> bool:
        """True, and the line is kept, if it begins the line of a device."""
        if _BEGINS_DEVICE.match(text) is None:
            return False
        self.keep(index, text)
        return True

    def take_rest_of_name(self, index: int, text: str, number: int) -> None:
        """Note a line that may be the rest of a device's name: the one after the line of device `number`."""
        is_name = _NAME.fullmatch(text) is not None and len(text.split()) <= _MAX_WORDS
        if index == self.line + 1 and number in self.lengths and is_name and noise(text) is None:
            self.rests[number] = (index, text)

    def with_rests(self, devices: Sequence[Device]) -> list[Device]:
        """The devices with the rests of their names; as they are unless the list as a whole was wrapped."""
        width = max(self.lengths.values(), default=0)
        joined = [
            replace_name(device, f"{device[2]} {self.rests[number][1]}") if number in self.rests else device
            for number, device in enumerate(devices)
        ]
        whole = {device[2] for number, device in enumerate(devices) if number not in self.rests}
        kinds = {(devices[number][2], text) for number, (_, text) in self.rests.items()}
        is_one = len(kinds) == len({name for name, _ in kinds})
        is_wrapped = (
            is_one
            and len(self.rests) >= _MIN_RESTS
            and all(
                self.lengths[number] + 1 + len(text.split()[0]) > width and (not whole or joined[number][2] in whole)
                for number, (_, text) in self.rests.items()
            )
        )
        return joined if is_wrapped else list(devices)


def replace_name(device: Device, name: str) -> Device:
    """The device under another name."""
    return (device[0], device[1], name)
