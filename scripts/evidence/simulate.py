"""What the verdicts would be worth on a steadier machine: simulated launches, through the product's own comparison.

    python scripts/evidence/simulate.py > results/evidence/simulated.md

No machine here has cases whose launches agree within 3%, the condition of the goals for power. So launch medians are
drawn from a log-normal distribution with a set standard deviation of the logarithms, independent from launch to launch,
and handed to `bench.analysis.compare.comparison` as result files: 20 cases, of which four are slower on the new side,
as in the measured evidence. What is simulated is the noise alone; real launches are rarely so well behaved (see the
measured figures).
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from bench.analysis.compare.comparison import Comparison, compare
from bench.analysis.compare.gate import Gate, rule
from bench.records.file import Result
from bench.records.lines.header import Environment, PlannedCase, PlanRow
from bench.records.lines.kinds import Header, Measurement
from bench.records.lines.parts import VariantSamples

SPREADS = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Standard deviations of the logarithms of launch medians."""
SLOWER = (0.03, 0.05, 0.1, 0.2)
NUM_CASES, NUM_SLOWER = 20, 4
GATE = Gate(fail_slower=0.05)
NANOSECONDS = 5_000_000


def main(repeats: int) -> None:
    """Print the document."""
    draw = random.Random(1)
    rows = [
        [f"{spread:.0%}", method, f"{slower:.0%}", *_shares(draw, repeats, spread, slower, pairs)]
        for spread in SPREADS
        for method, pairs in (("`compare`, 3 against 3", 0), ("`ab`, 10 pairs", 10))
        for slower in SLOWER
    ]
    heads = ["launches differ by (sd of logs)", "method", "slower by", "detected", "fails a 5% gate", "false alarms"]
    lines = [heads, [":---"] + ["---:"] * (len(heads) - 1), *rows]
    click.echo("# Simulated: power where launches agree\n")
    click.echo(
        f"{repeats} comparisons a row of {NUM_CASES} cases, {NUM_SLOWER} of them slower; **simulated** launch medians "
        "(log-normal, independent), judged by the product's own code. This page is what `scripts/evidence/simulate.py` "
        "printed. False alarms: unchanged cases called faster or slower.\n"
    )
    click.echo("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _shares(draw: random.Random, repeats: int, spread: float, slower: float, pairs: int) -> list[str]:
    """Detected, failing the gate, false alarms."""
    detected = gated = alarms = 0
    for found in (_comparison(draw, spread, slower, pairs) for _ in range(repeats)):
        changed = {row["case"] for row in found.cases[:NUM_SLOWER]}
        ruling = rule(found, GATE)
        assert ruling is not None
        detected += sum(row["verdict"] == "slower" for row in found.cases if row["case"] in changed)
        gated += sum(row["case"] in changed for row in ruling.failing)
        alarms += sum(row["verdict"] in ("slower", "faster") for row in found.cases if row["case"] not in changed)
    judged, unchanged = repeats * NUM_SLOWER, repeats * (NUM_CASES - NUM_SLOWER)
    return [f"{detected / judged:.0%}", f"{gated / judged:.0%}", f"{alarms / unchanged:.2%}"]


def _comparison(draw: random.Random, spread: float, slower: float, pairs: int) -> Comparison:
    """Of a base and a new side; `pairs` above 0: of so many pairs of launches, as `bench ab` makes them."""
    sides = [
        _result(
            [list(_launches(draw, pairs or 3, spread, factor)) for factor in _factors(slower if side else 0.0)],
            {"pair": {"id": "simulated", "side": "ab"[side], "setting": "simulated"}} if pairs else {},
        )
        for side in (0, 1)
    ]
    return compare([sides[0]], [[sides[1]]])


def _factors(slower: float) -> list[float]:
    return [1 + slower] * NUM_SLOWER + [1.0] * (NUM_CASES - NUM_SLOWER)


def _launches(draw: random.Random, count: int, spread: float, factor: float) -> Iterator[int]:
    """Launch medians in nanoseconds."""
    for _ in range(count):
        yield round(NANOSECONDS * factor * math.exp(draw.gauss(0.0, spread)))


def _result(cases: list[list[int]], options: dict[str, Any]) -> Result:
    """A result file as it would be read, with one sample a launch."""
    ids = [f"simulated/case[number={number}]" for number in range(len(cases))]
    measurements = tuple(
        Measurement(
            launch=launch,
            suite="simulated",
            case=case,
            params={"op": "case"},
            status="ok",
            num_ranks=1,
            variants={"full": VariantSamples(calls=1, nanoseconds=np.array([[nanoseconds]]))},
            check=None,
            work=None,
            stop=None,
            derived={},
            metrics={},
            notes=[],
        )
        for case, launches in zip(ids, cases, strict=True)
        for launch, nanoseconds in enumerate(launches)
    )
    plan = PlanRow(cases=[PlannedCase("simulated", case, {}) for case in ids], options=options)
    environment = Environment()
    header = Header(schema=1, label="simulated", architecture="simulated", environment=environment, plan=plan)
    return Result(Path("simulated.jsonl"), header, measurements, environment)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 250)
