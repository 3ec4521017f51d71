"""Troubles of machines, simulated: does a comparison accuse a case that has not changed?

    python scripts/evidence/troubles.py > results/evidence/troubles.md

Launches of twelve cases of three kinds of work, and of two controls, are drawn with noise that all of a launch share
and noise of each by itself (Student's t with 3 degrees of freedom: some launches lie far off), and judged by the
product's own comparison. Nothing changes in any case, except in the last row. Each row has one trouble. A drift between
two runs, or a slower machine, is a change of all cases: they take longer as they are, and not against the rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from analyse import _table
from numpy.typing import NDArray

from bench.analysis.compare.comparison import Comparison, compare
from bench.records.file import Result
from bench.records.lines.header import Environment, PlannedCase, PlanRow
from bench.records.lines.kinds import Header, Measurement
from bench.records.lines.parts import VariantSamples

KINDS = ("collective", "compute", "tensor_parallel")
CASES = tuple(f"{kind}/op{number}[size={number}]" for kind in KINDS for number in range(4))
CONTROLS = ("compute", "copy")
SHARED, OWN, WITHIN = 0.03, 0.03, 0.05
"""Standard deviations of logarithms: of launches, of a case in a launch, of samples within a launch."""
NUM_SAMPLES = 12
LENGTHS = np.linspace(-1, 1, len(CASES))
"""Logarithms of the cases' lengths over NANOSECONDS."""
LAUNCHES, PAIRS = 3, 10
NANOSECONDS = 5_000_000

Numbers = NDArray[np.float64]


@dataclass
class Launches:
    """Deviations of logarithms: of the cases [side][launch][case], and of the controls [side][launch][control]."""

    cases: Numbers
    controls: Numbers

    def add(self, side: int, launch: int | slice, shift: float | Numbers) -> None:
        """Shift a launch as a whole, with its controls."""
        self.cases[side, launch] += shift
        self.controls[side, launch] += shift


def unlike_noise(launches: Launches) -> None:
    launches.cases[1] *= 3


def one_launch(launches: Launches) -> None:
    launches.add(1, 0, 0.4)


def half_of_one_launch(launches: Launches) -> None:
    launches.cases[1, 0, ::2] += 0.4


def drift(launches: Launches) -> None:
    """The machine slows by 3% per launch: through the base, then through the new side; in pairs in their order."""
    number = launches.cases.shape[1]
    for side in range(2):
        for launch in range(number):
            place = number * side + launch if number == LAUNCHES else 2 * launch + (side ^ launch % 2)
            launches.add(side, launch, 0.03 * place)


def slow_control(launches: Launches) -> None:
    launches.controls[1] += 0.2


def slow_machine(launches: Launches) -> None:
    launches.add(1, slice(None), 0.1)


def everything_slower(launches: Launches) -> None:
    launches.cases[1] += 0.1


TROUBLES: dict[str, Callable[[Launches], None]] = {
    "none": lambda launches: None,
    "the new side varies three times as much": unlike_noise,
    "one launch is 50% slower": one_launch,
    "half of the cases of one launch are 50% slower": half_of_one_launch,
    "the machine slows by 3% per launch": drift,
    "the controls of the new side are 20% slower": slow_control,
    "the machine was 10% slower, cases and controls": slow_machine,
    "all cases are 10% slower, controls are not": everything_slower,
}


def main(repeats: int) -> None:
    """Print the document."""
    rows = []
    for name, trouble in TROUBLES.items():
        for words, number, paired in (("`compare`, 3 against 3", LAUNCHES, False), ("`ab`, 10 pairs", PAIRS, True)):
            draw = np.random.default_rng(1)
            found = [_comparison(draw, trouble, number, paired) for _ in range(repeats)]
            rows.append([name, words, *_shares(found)])
    heads = [
        "trouble",
        "method",
        "cases accused",
        "against the rest",
        "`same`",
        "run as a whole changed",
        "control named",
    ]
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    click.echo("# Simulated: troubles of machines\n")
    click.echo(f"{about} {repeats} comparisons per row; `scripts/evidence/troubles.py` printed this page.\n")
    click.echo(_table(heads, rows))


def _shares(found: list[Comparison]) -> list[str]:
    rows = [row for each in found for row in each.cases]
    changed = ("slower", "faster")
    shares = [sum(row[name] in changed for row in rows) / len(rows) for name in ("verdict", "relative_verdict")]
    shares.append(sum(row["verdict"] == "same" for row in rows) / len(rows))
    shares.append(sum(each.wholes[0].judged.verdict in changed for each in found) / len(found))
    shares.append(sum(any(one.judged.verdict in changed for one in each.controls) for each in found) / len(found))
    return [f"{100 * share:.2f}%" for share in shares]


def _comparison(
    draw: np.random.Generator, trouble: Callable[[Launches], None], number: int, paired: bool
) -> Comparison:
    def noise(*shape: int) -> Numbers:
        values: Numbers = draw.standard_t(3, shape) / np.sqrt(3)
        return values

    shared = SHARED * noise(2, number, 1)
    launches = Launches(shared + OWN * noise(2, number, len(CASES)), shared + OWN * noise(2, number, len(CONTROLS)))
    trouble(launches)
    sides = []
    for side in range(2):
        pair = {"pair": {"id": "simulated", "side": "ab"[side], "setting": "simulated"}} if paired else {}
        sides.append(_result(draw, launches.cases[side] + LENGTHS, launches.controls[side], pair))
    return compare([sides[0]], [[sides[1]]])


def _samples(draw: np.random.Generator, log: float) -> VariantSamples:
    """Samples whose median is the launch's own."""
    own = WITHIN * draw.standard_normal(NUM_SAMPLES)
    values = NANOSECONDS * np.exp(log + own - np.median(own))
    return VariantSamples(calls=1, nanoseconds=np.rint(values).astype(np.int64)[np.newaxis])


def _result(draw: np.random.Generator, cases: Numbers, controls: Numbers, options: dict[str, Any]) -> Result:
    """A result file as it would be read."""
    measurements = tuple(
        Measurement(
            launch=launch,
            suite=case.partition("/")[0],
            case=case,
            params={"op": "op"},
            status="ok",
            num_ranks=1,
            variants={"full": _samples(draw, log)},
            controls={name: _samples(draw, one) for name, one in zip(CONTROLS, controls[launch], strict=True)},
            check=None,
            work=None,
            stop=None,
            derived={},
            metrics={},
            notes=[],
        )
        for launch, logs in enumerate(cases)
        for case, log in zip(CASES, logs, strict=True)
    )
    plan = PlanRow(cases=[PlannedCase(case.partition("/")[0], case, {}) for case in CASES], options=options)
    environment = Environment()
    header = Header(schema=1, label="simulated", architecture="simulated", environment=environment, plan=plan)
    return Result(Path("simulated.jsonl"), header, measurements, environment)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
