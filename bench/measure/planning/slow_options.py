"""`--slow` and `--slow-link`: which ranks are to be slower than they are, and by how much."""

from __future__ import annotations

from collections.abc import Sequence

from bench.errors import BenchError

Speeds = tuple[tuple[int, float], ...]
"""(rank, share of its speed)."""


def parse(option: str, texts: Sequence[str], world_size: int) -> Speeds:
    """`1=0.5,3=0.25` to pairs. Raises BenchError for what is no rank of the run, or no share of a speed."""
    speeds: dict[int, float] = {}
    for text in (part.strip() for given in texts for part in given.split(",")):
        rank_text, equals, speed_text = text.partition("=")
        if not equals or not rank_text.strip().isdecimal():
            raise BenchError(f"{option} {text}: RANK=SPEED, such as {world_size - 1}=0.5 for half as fast")
        rank, speed = int(rank_text), _speed(option, text, speed_text)
        if rank >= world_size:
            raise BenchError(f"{option} {text}: the run has {world_size} ranks, 0 to {world_size - 1}")
        if rank in speeds:
            raise BenchError(f"{option} {text}: rank {rank} is given twice")
        speeds[rank] = speed
    return tuple(sorted(speeds.items()))


def _speed(option: str, text: str, speed_text: str) -> float:
    try:
        speed = float(speed_text)
    except ValueError:
        speed = 0.0
    if not 0.0 < speed < 1.0:
        raise BenchError(f"{option} {text}: a speed lies between 0 and 1; a rank can only be made slower than it is")
    return speed
