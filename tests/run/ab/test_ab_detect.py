"""`bench ab --detect` on a clock of its own: the plan, its words, early ends, budgets, and going on."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.analysis.compare.comparison import Settings
from bench.analysis.compare.settling import show_minutes
from bench.analysis.comparison_output.presentation import CompareOptions as Comparing
from bench.cli.ab_command import command
from bench.cli.run_command import given_options
from bench.errors import BenchError
from bench.records.file import load
from bench.records.lines.header import PlannedCase
from bench.run.ab.ab_detect import Detection, parse_detect, plan_detection, read_pairs
from bench.run.ab.ab_resume import resume_pair
from bench.run.ab.ab_sides import Setting, parse_pair_request, schedule, sides
from bench.run.ab.alternation import AbOptions, Alternation
from bench.run.ab.child import LaunchEnd
from bench.stats.power import MOST_PAIRS
from tests.run.ab.test_alternation import Fake

Noise = Callable[[int], float]
"""Number of a launch -> the logarithm by which side b takes longer in it."""


def normal(deviation: float, shift: float = 0.0) -> Noise:
    drawn = np.random.default_rng(7).normal(size=MOST_PAIRS + 20) * deviation
    return lambda launch: shift + float(drawn[launch])


class NoisyFake(Fake):
    """Launches whose side b differs by chance, and perhaps by a change."""

    def __init__(self, folder: Path, noise: Noise):
        super().__init__(folder)
        self.noise = noise
        # Files that can be gone on with and compared say of which pair they are.
        self.plan = {"launches": MOST_PAIRS}

    def __call__(self, which: Setting, words: Sequence[str]) -> LaunchEnd:
        said = dict(pairwise(words))
        self.each = 0.005 * math.exp(self.noise(int(said["--one-launch"])) if which.name == "b" else 0.0)
        pair = {"id": "0123abcd", "side": which.name, "setting": which.setting}
        self.plan["options"] = {"pair": pair}
        return super().__call__(which, words)

    def detecting(self, share: float = 0.1, budget: str | None = None, said: list[str] | None = None) -> Alternation:
        cases = [PlannedCase("sum", f"sum/n[size={n}]", {}) for n in range(self.num_cases)]
        planned = schedule("smoke", parse_pair_request(MOST_PAIRS, budget), cases)
        alternation = self.alternation(planned, AbOptions(budget=budget, detect=f"{share:.0%}"))
        lines = [] if said is None else said
        alternation.detection = Detection(share, Settings(), lines.append, budget)
        return alternation

    def pairs(self) -> int:
        return len({record.launch for record in load(self.files[1]).measurements})


def test_it_makes_the_pairs_that_the_spread_asks_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake, said = NoisyFake(tmp_path, normal(0.12)), list[str]()
    alternation = fake.detecting(said=said)
    alternation.run()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "4 pairs of launches in the order a b b a, at most 7 min; then as many as their spread asks for"
    assert lines[1] == "pair 1 of 4: a unchanged"
    first = alternation.detection.rule.plans[0] if alternation.detection else None
    assert first is not None
    assert 8 <= first.pairs < MOST_PAIRS
    assert f"pair 5 of {first.pairs}: a unchanged" in "\n".join(lines)
    assert said[0].startswith("the sides of a pair differ by ")
    further = first.pairs - 4
    # A launch takes 10 s, 0.2 s and 0.5 s of samples.
    assert said[0].endswith(
        f" by chance (standard deviation); {first.pairs} pairs find a change of 10% with a power of 80%: {further} "
        f"more, about {show_minutes(further * 21.4)}"
    )
    assert fake.pairs() == alternation.pairs > 8
    assert len(fake.said) == 2 * alternation.pairs


def test_a_quiet_machine_makes_few_and_stops_early(tmp_path: Path) -> None:
    fake, said = NoisyFake(tmp_path, normal(0.01, shift=0.3)), list[str]()
    alternation = fake.detecting(said=said)
    alternation.run()
    assert fake.pairs() == alternation.pairs == 6
    assert said[-1] == "stopped after 6 of 8 pairs: the case is decided at 99.9%"
    fake.num_cases = 3
    fake.files = (tmp_path / "c.jsonl", tmp_path / "d.jsonl")
    fake.detecting(said=said).run()
    assert said[-1] == "stopped after 6 of 8 pairs: all 3 cases are decided at 99.9%"


def test_noise_beyond_the_most_pairs_says_what_they_find(tmp_path: Path) -> None:
    fake, said = NoisyFake(tmp_path, normal(1.2)), list[str]()
    fake.detecting(said=said).run()
    assert fake.pairs() == MOST_PAIRS
    assert "; 60 pairs do not find a change of 10%, but one of " in said[0]
    assert "most unchanged cases stay unclear: 60 pairs do not show that a case is the same within 5%" in said
    assert any(line.startswith("probably not found in sum n") for line in said)
    assert any(line.endswith(", which vary too much") for line in said)


def test_a_budget_holds_fewer_pairs_and_says_which_change_they_find(tmp_path: Path) -> None:
    fake, said = NoisyFake(tmp_path, normal(0.2)), list[str]()
    alternation = fake.detecting(budget="5m", said=said)
    alternation.run()
    assert fake.time - alternation.began <= 300.0
    assert 8 < fake.pairs() < 20
    # By the first pairs it seems to be enough; by more of them it is not.
    planned = next(line for line in said if "--budget" in line)
    assert f"; --budget 5m holds {fake.pairs()} pairs, which do not find a change of 10%, but one of " in planned
    # A budget that holds more than are needed is not used up.
    fake = NoisyFake(tmp_path / "roomy", normal(0.02))
    fake.detecting(budget="20m").run()
    assert fake.pairs() <= 8


def test_an_interrupted_one_goes_on_with_the_plan_of_all_its_pairs(tmp_path: Path) -> None:
    fake = NoisyFake(tmp_path, normal(0.08))

    def stop(number: int) -> LaunchEnd:
        if number == 13:
            raise KeyboardInterrupt
        return LaunchEnd(0, "")

    fake.ends = stop
    with pytest.raises(KeyboardInterrupt):
        fake.detecting().run()
    both = sides(((), ("X=1", "--device cpu")), (None, None), sys.executable, given_options)
    before = resume_pair(fake.files, both)
    assert (before.first, before.pairs) == (7, MOST_PAIRS)
    fake.ends, said = lambda _: LaunchEnd(0, ""), list[str]()
    alternation = fake.detecting(said=said)
    alternation.first = before.first
    alternation.run()
    # The pair that was cut short does not count: one more is made for it.
    assert alternation.detection is not None
    assert alternation.pairs == alternation.detection.rule.plans[-1].pairs + 1
    assert "more, about " in said[0]


def test_cases_and_metrics_are_those_that_are_compared(tmp_path: Path) -> None:
    fake = NoisyFake(tmp_path, normal(0.02))
    fake.num_cases = 3
    alternation = fake.detecting()
    alternation.run()
    a, b = map(load, fake.files)
    assert len(read_pairs(a, b, Settings()).cases) == 3
    some = read_pairs(a, b, Settings(where={"case": ("sum/n[size=1]",)}))
    assert len(some.cases) == 1
    assert len(some.cases[0].base) == len(some.cases[0].new) == alternation.pairs


def test_the_threshold_is_below_what_is_to_be_detected() -> None:
    assert parse_detect(None, 5, 0.05, False) is None
    assert parse_detect("10%", None, 0.05, False) == (0.1, 0.05)
    assert parse_detect("3%", None, 0.05, False) == (0.03, 0.015)
    assert parse_detect("3%", None, 0.02, True) == (0.03, 0.02)
    for detect, pairs, threshold, said in (
        ("10%", 12, 0.05, "^--detect 10% with --pairs 12: .*leave one of them out$"),
        ("3%", None, 0.03, "^--detect 3% with --threshold 3%: .*such as 1.5%$"),
        ("often", None, 0.05, "^--detect often: a share"),
        ("0%", None, 0.05, "^--detect 0%: a share above 0%"),
    ):
        with pytest.raises(BenchError, match=said):
            parse_detect(detect, pairs, threshold, is_typed=True)
    comparing, detection = plan_detection("4%", None, None, Comparing())
    assert comparing == replace(Comparing(), threshold="2%")
    assert detection is not None
    assert detection.threshold_words() == ("--threshold", "2%")
    comparing, detection = plan_detection("10%", None, None, Comparing())
    assert comparing == Comparing()
    assert detection is not None
    assert detection.threshold_words() == ()


def test_the_command_refuses_both_in_one_line() -> None:
    done = CliRunner().invoke(command, ["--b", "X=1", "--detect", "10%", "--pairs", "4"])
    assert isinstance(done.exception, BenchError)
    assert str(done.exception).startswith("--detect 10% with --pairs 4: ")
