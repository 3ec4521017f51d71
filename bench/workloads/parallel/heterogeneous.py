"""Speeds of the ranks in the suite of mixed ranks: by their devices, by `--slow`, or emulated by the case."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.suite import Params, Skip

if TYPE_CHECKING:
    from bench.measure.engine.emulation import RankSpeed
    from bench.measure.engine.rank import RankContext


@dataclass(frozen=True)
class Mix:
    """Shares and speeds of the ranks in each variant."""

    uniform: tuple[int, ...]
    mixed: tuple[int, ...]
    uniform_pace: RankSpeed | None
    mixed_pace: RankSpeed | None
    notes: tuple[str, ...]


def make_mix(params: Params, rank: RankContext) -> Mix:
    """Make the mix from the ranks' devices, or an emulated one. Collective: every rank sends its device."""
    from bench.measure.engine import control, emulation

    own_speed = rank.pace.compute_speed if rank.pace is not None else 1.0
    rows = control.all_gather_json(rank, {"speed": own_speed, "device": _device_name(rank)})
    every = tuple(range(rank.world_size))
    busy, speed = float(params["busy"]), float(params["speed"])

    link = rank.pace.link_speed if rank.pace is not None else 1.0

    def pace(share: float) -> RankSpeed | None:
        # A slow link of the run's is slow in all variants.
        return emulation.make_rank_speed(rank.device, share, link) if min(share, link) < 1.0 else None

    devices = Counter(row["device"] for row in rows)
    if len(devices) > 1:
        return _real_mix([row["device"] for row in rows], devices, pace(1.0))
    slow = {index: row["speed"] for index, row in enumerate(rows) if row["speed"] < 1.0}
    if not slow and speed >= 1.0:
        raise Skip("speed=1 on equal ranks: nothing to mix; set speed below 1, or take --slow RANK=SPEED")
    if not slow:
        slow = {rank.world_size - 1: speed}
        notes: tuple[str, ...] = (
            f"emulated: rank {rank.world_size - 1} computes at {speed:g} of its speed in even and balanced",
        )
    else:
        notes = ("even and balanced with the ranks slowed by --slow, uniform without; speed= is not used",)
    if busy < 1.0:
        notes += (f"emulated: all ranks compute at {busy:g} of their speed and sleep the rest, in all variants",)
    return Mix(every, every, pace(busy), pace(busy * slow.get(rank.index, 1.0)), notes)


def _real_mix(kinds: list[str], devices: Counter[str], run_speed: RankSpeed | None) -> Mix:
    """Mix equally many ranks of one kind with half of them replaced by others. `run_speed` slows only a slow link."""
    (first, count), *_ = devices.most_common()
    ones = [index for index, kind in enumerate(kinds) if kind == first]
    others = [index for index, kind in enumerate(kinds) if kind != first]
    replaced = min(len(others), count // 2)
    if count < 2 or not replaced:
        raise Skip(f"{count} of the most frequent kind ({first}): a uniform team needs two of a kind")
    size = min(count, 2 * replaced)
    mixed = tuple(sorted(ones[: size - size // 2] + others[: size // 2]))
    note = f"nothing is emulated: uniform is {size} x {first}, mixed has {size // 2} of other kinds"
    return Mix(tuple(ones[:size]), mixed, run_speed, run_speed, (note,))


def _device_name(rank: RankContext) -> str:
    if rank.device.type == "cpu":
        from bench.measure.system.host import cpu_model

        return str(cpu_model())
    import torch

    return str(torch.cuda.get_device_name(rank.device))
