"""Changes by kind of work: means of like cases with an interval, no mean over sizes, one verdict for a pair."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from bench.analysis.compare.comparison import Comparison, compare
from bench.analysis.compare.settling import launch_seconds, settle, show_minutes, undecided_words
from bench.analysis.compare.work_changes import WorkChange, rank_of, work_of
from bench.records.file import load_many
from tests.analysis.compare.test_comparison import compared, launches, saved
from tests.support.results import header

ARCHITECTURES = Path(__file__).parents[3] / "results" / "emulated"
MLP = "tensor_parallel/mlp[hidden={}]"
REDUCE = "collective/all_reduce[num_bytes={}]"


def architectures(*names: str) -> Comparison:
    base, *news = (load_many(ARCHITECTURES / name) for name in ("plain", *names))
    return compare(base, news)


def by_words(comparison: Comparison, name: str) -> dict[str, WorkChange]:
    return {work.work.words: work for work in comparison.works if work.name == name}


def test_a_third_file_changes_nothing_for_a_pair() -> None:
    alone, beside = architectures("slow-rank"), architectures("slow-rank", "shaped-link")
    assert list(alone.cases) == [row for row in beside.cases if row["name"] == "slow rank (emulated)"]
    assert list(alone.works) == [work for work in beside.works if work.name == "slow rank (emulated)"]
    other = architectures("shaped-link")
    assert list(other.cases) == [row for row in beside.cases if row["name"] == "shaped link"]
    assert alone.counts() == {"slower": 24, "unclear": 19}


def test_a_lone_case_is_its_kind_of_work() -> None:
    found = architectures("slow-rank")
    training = by_words(found, "slow rank (emulated)")["training"]
    (row,) = [row for row in found.cases if row["suite"] == "training_step"]
    assert training.mean is not None
    assert training.mean.change == row["change"] == pytest.approx(0.884, abs=0.001)
    assert (training.mean.change_low, training.verdict) == (row["change_low"], row["verdict"])


def test_like_cases_have_a_geometric_mean_with_the_interval_of_whole_launches(tmp_path: Path) -> None:
    # Both cases of a launch are slow together: by themselves they would seem to be more certain than they are.
    base = [row for n in (1, 2) for row in launches(MLP.format(n), 1.0, 1.1, 1.21)]
    new = [
        row
        for n, factor in ((1, 2.0), (2, 8.0))
        for row in launches(MLP.format(n), *(factor * x for x in (1.0, 1.1, 1.21)))
    ]
    found = compared(saved(tmp_path / "a", header(label="old"), *base), saved(tmp_path / "b", header(label="pr"), *new))
    (work,) = found.works
    assert work.mean is not None
    assert work.mean.change == pytest.approx(3.0)  # 4 = sqrt(2 x 8)
    # Both sides' logarithms are 0, 1 and 2 steps of log 1.1: a variance of one step, 4 degrees of freedom.
    half = 2.776 * math.log(1.1) * math.sqrt(2 / 3)
    assert work.mean.change_low == pytest.approx(4 * math.exp(-half) - 1, rel=1e-3)
    assert work.verdict == "slower"


def test_sizes_are_counted_and_never_averaged(tmp_path: Path) -> None:
    steady = (1.0, 1.01, 0.99)
    base = [row for n in (1024, 2048, 4096) for row in launches(REDUCE.format(n), *steady)]
    factors = {1024: 1.0, 2048: 2.0, 4096: 5.0}
    new = [row for n, factor in factors.items() for row in launches(REDUCE.format(n), *(factor * x for x in steady))]
    found = compared(saved(tmp_path / "a", header(label="old"), *base), saved(tmp_path / "b", header(label="pr"), *new))
    (work,) = found.works
    assert (work.mean, work.num_changed, work.verdict) == (None, 2, "slower")
    assert work.largest["case"] == REDUCE.format(4096)


def test_a_type_whose_change_is_another_is_a_kind_of_its_own() -> None:
    base, new = load_many(ARCHITECTURES / "plain"), load_many(ARCHITECTURES.parent / "reference")
    words = {work.work.words: work for work in compare(base, [new]).works}
    assert words["compute bf16"].verdict == "faster"  # that processor has matrix instructions for it
    assert words["compute"].mean is not None
    assert words["compute"].verdict == "faster"
    assert "compute bf16" not in by_words(architectures("slow-rank"), "slow rank (emulated)")


def test_kinds_of_work() -> None:
    assert work_of("compute/copy[num_bytes=8]").words == "memory"
    assert work_of("compute/matmul[shape=square]").words == "compute"
    assert work_of("compute/matmul[dtype=bfloat16,shape=square]").words == "compute bf16"
    assert work_of("inference/prefill[batch=1]").words == "prefill"
    assert work_of("my_suite/run").words == "my suite"
    assert (
        rank_of(work_of("training_step/run"))
        < rank_of(work_of("compute/matmul[dtype=int8]"))
        < rank_of(work_of("mine/run"))
    )


def test_what_would_settle_undecided_cases_is_said_in_minutes() -> None:
    found = architectures("slow-rank")
    base, new = found.sides
    # Each file says when it began and ended: three launches in about 103 s.
    assert launch_seconds(base) == pytest.approx(34.3, abs=0.1)
    one = settle(found, 1, "slow rank (emulated)")
    assert one.seconds == pytest.approx((launch_seconds(base) or 0) + (launch_seconds(new) or 0))
    assert settle(found, 5, "slow rank (emulated)").words() == "5 more launches per side, about 6 min"
    assert undecided_words(found, found.cases) == (
        "19 undecided, 6 more launches per side, about 7 min, would settle 7 of them"
    )
    assert undecided_words(found, [row for row in found.cases if row["verdict"] == "slower"]) is None


def test_a_machine_that_varies_too_much_is_told_so(tmp_path: Path) -> None:
    wild = (0.5, 1.0, 2.0)
    found = compared(
        saved(tmp_path / "a", header(label="old"), *launches("mine/run", *wild)),
        saved(tmp_path / "b", header(label="pr"), *launches("mine/run", *wild)),
    )
    assert undecided_words(found, found.cases) == "1 undecided: this machine varies too much"


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (85, "85 s"), (230, "4 min"), (9000, "2.5 h")])
def test_minutes(seconds: float, text: str) -> None:
    assert show_minutes(seconds) == text
