"""Communication that a GPU's side streams hold, and the times at which the rank's own stream waits for it.

FSDP2 launches its collectives on streams of its own and waits for them there, which holds up nothing; later the stream
of the computation waits for an event of theirs, and only that is time in which the rank waits. Torch has two
places for it (torch/cuda/streams.py): `Stream.record_event` and `Stream.wait_event`, which `Stream.wait_stream` calls
too. Importing this module imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch

Handed = TypeVar("Handed")
"""Handle of a communication that was handed to its backend."""


def current_stream() -> int:
    """CUDA's handle of this thread's current stream."""
    return int(torch.cuda.current_stream().cuda_stream)


@dataclass
class SideStreams(Generic[Handed]):
    """The last communication of each stream but `own`, on which the rank computes, and the events that stand for it."""

    own: int = field(default_factory=current_stream)
    _last: dict[int, Handed] = field(default_factory=dict)
    _of_event: dict[int, tuple[object, Handed]] = field(default_factory=dict)
    """Events are kept, so that no other has the address of one meanwhile."""

    def took(self, handed: Handed) -> bool:
        """Return True if a side stream waits for it now, which is then remembered."""
        stream = current_stream()
        if stream != self.own:
            self._last[stream] = handed
        return stream != self.own

    def record_event(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`Stream.record_event`; the event stands for what its stream has taken on last."""

        def wrapped(stream: torch.cuda.Stream, *arguments: Any, **named: Any) -> Any:
            event = call(stream, *arguments, **named)
            self._of_event.pop(id(event), None)
            if stream.cuda_stream in self._last:
                self._of_event[id(event)] = event, self._last[stream.cuda_stream]
            return event

        return wrapped

    def wait_event(
        self, call: Callable[..., Any], mark: Callable[[], object], stood_still: Callable[[Handed, object], None]
    ) -> Callable[..., Any]:
        """`Stream.wait_event`; if the own stream waits for a communication, `stood_still` gets it and the start.

        Only the first wait for an event counts: work that is done when another wait follows takes no time.
        """

        def wrapped(stream: torch.cuda.Stream, event: Any, *arguments: Any, **named: Any) -> Any:
            _, handed = self._of_event.pop(id(event), (None, None)) if self._is_own(stream) else (None, None)
            start = None if handed is None else mark()
            result = call(stream, event, *arguments, **named)
            if handed is not None:
                stood_still(handed, start)
            return result

        return wrapped

    def _is_own(self, stream: torch.cuda.Stream) -> bool:
        """Marks are made on the current stream, so that it has to be that one which waits."""
        return stream.cuda_stream == self.own == current_stream()
