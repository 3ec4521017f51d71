"""Training traces made by hand, in the columns that `bench explain` reads: data-parallel replicas of a 1F1B pipeline.

The times come from recursions of their own, not from the product's graph: a trace has no gap that its operations do not
explain, so running it again has to give the recorded step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

FORWARD, BACKWARD, TRANSFER, SCATTER, CLIP, OPTIMIZER = 0.010, 0.020, 0.001, 0.004, 0.0005, 0.002


def always(seconds: float) -> Callable[..., float]:
    return lambda **_: seconds


FORWARDS, BACKWARDS, TRANSFERS = always(FORWARD), always(BACKWARD), always(TRANSFER)


@dataclass(frozen=True)
class Job:
    """Durations as functions of step, replica (data-parallel rank), stage and microbatch; in seconds."""

    num_replicas: int = 2
    num_stages: int = 4
    num_microbatches: int = 4
    num_steps: int = 1
    forward: Callable[..., float] = FORWARDS
    backward: Callable[..., float] = BACKWARDS
    transfer: Callable[..., float] = TRANSFERS
    """Also of `kind`, `forward` or `backward`; the stage is the receiver's."""

    def step_seconds(self, step: int = 0) -> float:
        return max(row["start_ts"] + row["duration"] for row in self.rows(step))

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([row for step in range(self.num_steps) for row in self.rows(step)])

    def rows(self, step: int) -> list[dict[str, Any]]:
        rows = [row for replica in range(self.num_replicas) for row in self._pipeline(step, replica)]
        workers = [(replica, stage) for replica in range(self.num_replicas) for stage in range(self.num_stages)]
        done = {
            worker: max(r["start_ts"] + r["duration"] for r in rows if (r["dp_rank"], r["stage"]) == worker)
            for worker in workers
        }
        scattered = {
            stage: max(done[replica, stage] for replica in range(self.num_replicas)) + SCATTER
            for stage in range(self.num_stages)
        }
        clipped = max(scattered.values()) + CLIP
        for replica, stage in workers:
            row = {"step": step, "replica": replica, "stage": stage}
            rows.append(self._row("grads-reduce-scatter", 0, done[replica, stage], scattered[stage], **row, mc=0))
            rows.append(self._row("optimizer-clip-main-grad", 0, scattered[stage], clipped, **row))
            rows.append(self._row("optimizer", 0, clipped, clipped + OPTIMIZER, **row))
        return rows

    def _order(self, stage: int) -> list[tuple[str, int]]:
        ahead = min(self.num_stages - 1 - stage, self.num_microbatches)
        order = [("forward", number) for number in range(ahead)]
        for number in range(self.num_microbatches):
            if ahead + number < self.num_microbatches:
                order.append(("forward", ahead + number))
            order.append(("backward", number))
        return order

    def _pipeline(self, step: int, replica: int) -> list[dict[str, Any]]:
        orders = [self._order(stage) for stage in range(self.num_stages)]

        def seconds(kind: str, stage: int, number: int) -> float:
            of_kind = self.forward if kind == "forward" else self.backward
            return of_kind(step=step, replica=replica, stage=stage, microbatch=number)

        def neighbour(kind: str, stage: int) -> int | None:
            other = stage - 1 if kind == "forward" else stage + 1
            return other if 0 <= other < self.num_stages else None

        def posted(kind: str, stage: int, number: int) -> float:
            return end(kind, stage, number - 1) if number else 0.0

        @cache
        def arrival(kind: str, stage: int, number: int) -> float:
            other = neighbour(kind, stage)
            assert other is not None
            took = self.transfer(step=step, replica=replica, stage=stage, microbatch=number, kind=kind)
            return max(end(kind, other, number), posted(kind, stage, number)) + took

        @cache
        def start(kind: str, stage: int, number: int) -> float:
            place = orders[stage].index((kind, number))
            before = end(*_placed(orders[stage][place - 1], stage)) if place else 0.0
            return before if neighbour(kind, stage) is None else max(before, arrival(kind, stage, number))

        @cache
        def end(kind: str, stage: int, number: int) -> float:
            return start(kind, stage, number) + seconds(kind, stage, number)

        rows = []
        for stage, order in enumerate(orders):
            for kind, number in order:
                at = {"step": step, "replica": replica, "stage": stage, "mc": 0, "gmc": stage, "mb_id": number}
                rows.append(
                    self._row(f"{kind}-compute", number, start(kind, stage, number), end(kind, stage, number), **at)
                )
                other = neighbour(kind, stage)
                if other is None:
                    continue
                sender, arrived = at | {"stage": other}, arrival(kind, stage, number)
                rows.append(self._row(f"{kind}-recv", number, posted(kind, stage, number), arrived, **at))
                rows.append(self._row(f"{kind}-send", number, end(kind, other, number), arrived, **sender))
        return rows

    def _row(
        self, optype: str, number: int, start: float, end: float, *, step: int, replica: int, stage: int, **more: Any
    ) -> dict[str, Any]:
        return {
            "dp_rank": replica,
            "stage": stage,
            "rank": stage * self.num_replicas + replica,
            "step": step,
            "optype": optype,
            "start_ts": start,
            "duration": end - start,
            "seq_id": number,
            "mc": -1,
            "mb_id": -1,
            "gmc": -1,
        } | more


def _placed(operation: tuple[str, int], stage: int) -> tuple[str, int, int]:
    return operation[0], stage, operation[1]
