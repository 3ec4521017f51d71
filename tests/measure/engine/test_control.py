"""What ranks tell each other besides the measured work, on real gloo ranks."""

from __future__ import annotations

from typing import Any

import pytest

from bench.measure.engine import control
from bench.measure.engine.gather import gather_samples
from bench.measure.engine.rank import RankContext
from bench.measure.engine.timing.sampler import Sampler
from bench.measure.engine.timing.stop_rule import Limits
from bench.records.lines.header import RankFacts
from bench.suite import Work
from tests.measure.engine.timing.test_sampler import MILLISECOND, FakeTime
from tests.support.plans import lone_rank
from tests.support.ranks import on_ranks

LARGE = 2**62 + 1
"""Not to be had as a float, nor as a 32-bit integer."""
WORDS = [{"rank": 0, "text": "short"}, {"rank": 1, "text": "longer, Grüße ☃\n", "values": [None, 0.1, True, {}]}]


def _talk(rank: RankContext) -> dict[str, Any]:
    index = rank.index
    facts = RankFacts(rank=index, memory_bytes=LARGE - 2)
    said: dict[str, Any] = {
        "broadcast": control.broadcast_numbers(rank, [7 + index, -index, LARGE - index]),
        "maxima": control.maxima(rank, [index, -index, LARGE - index]),
        "nothing": control.maxima(rank, []),
        "numbers": control.gather_numbers(rank, [index, LARGE]),
        "json": control.gather_json(rank, WORDS[index]),
        "all": control.all_gather_json(rank, WORDS[index]),
        "one letter": control.all_gather_json(rank, index),
        "structures": control.gather(rank, facts, RankFacts),
        "all structures": control.all_gather(rank, facts, RankFacts),
    }
    with pytest.raises(ValueError, match="not JSON compliant"):
        control.gather_json(rank, float("nan"))
    return said


def _sample(rank: RankContext) -> dict[str, Any]:
    """Calls of 1 ms on rank 0 and of 5 ms on rank 1, each on a clock of its own."""
    time = FakeTime()
    full, none = (
        time.takes("f", (1 + 4 * rank.index) * MILLISECOND),
        time.takes("n", (5 - 4 * rank.index) * MILLISECOND),
    )
    work = Work(variants={"full": full, "none": none}, check=lambda: (0.0, 0.0))
    samples = Sampler(rank, work, time.clock(), "streamed", time.seconds).measure(Limits(0.5, 1.0))
    return {"samples": samples, "gathered": gather_samples(rank, samples.nanoseconds, samples.calls)}


def _both(rank: RankContext) -> dict[str, Any]:
    return _talk(rank) | _sample(rank)


@pytest.fixture(scope="module")
def said() -> list[dict[str, Any]]:
    return on_ranks(2, _both)


def test_numbers_of_rank_0_reach_all(said: list[dict[str, Any]]) -> None:
    assert [each["broadcast"] for each in said] == [[7, 0, LARGE]] * 2


def test_the_largest_number_of_any_rank_reaches_all(said: list[dict[str, Any]]) -> None:
    assert [each["maxima"] for each in said] == [[1, 0, LARGE]] * 2
    assert [each["nothing"] for each in said] == [[]] * 2


def test_rows_and_words_are_gathered_on_rank_0_alone(said: list[dict[str, Any]]) -> None:
    assert [each["numbers"] for each in said] == [[[0, LARGE], [1, LARGE]], None]
    assert [each["json"] for each in said] == [WORDS, None]


def test_structures_are_gathered_as_such(said: list[dict[str, Any]]) -> None:
    facts = [RankFacts(rank=index, memory_bytes=LARGE - 2) for index in range(2)]
    assert [each["structures"] for each in said] == [facts, None]
    assert [each["all structures"] for each in said] == [facts] * 2


def test_words_of_any_length_reach_all(said: list[dict[str, Any]]) -> None:
    assert [each["all"] for each in said] == [WORDS] * 2
    assert [each["one letter"] for each in said] == [[0, 1]] * 2


def test_ranks_of_unlike_speed_take_equally_many_samples_of_equally_many_calls(said: list[dict[str, Any]]) -> None:
    first, second = (each["samples"] for each in said)
    # The slowest rank decides: 10 ms / 5 ms, though rank 0 alone would have taken 10 calls of `full`.
    assert first.calls == second.calls == {"full": 2, "none": 2}
    lengths = {len(taken) for each in (first, second) for taken in each.nanoseconds.values()}
    assert len(lengths) == 1
    assert (first.stop_reason, first.half_width, first.warmup_rounds) == (
        second.stop_reason,
        second.half_width,
        second.warmup_rounds,
    )


def test_the_file_s_form_has_every_rank_s_own_times(said: list[dict[str, Any]]) -> None:
    num_samples = len(said[0]["samples"].nanoseconds["full"])
    fast, slow = [2 * MILLISECOND] * num_samples, [10 * MILLISECOND] * num_samples
    assert {name: (each.calls, each.nanoseconds.tolist()) for name, each in said[0]["gathered"].items()} == {
        "full": (2, [fast, slow]),
        "none": (2, [slow, fast]),
    }
    assert said[1]["gathered"] == {}


def test_a_world_of_one_talks_to_nobody() -> None:
    rank = lone_rank()
    assert control.broadcast_numbers(rank, [1, 2]) == [1, 2]
    assert control.maxima(rank, [1, 2]) == [1, 2]
    assert control.gather_numbers(rank, [1, 2]) == [[1, 2]]
    assert control.gather_json(rank, WORDS) == [WORDS]
    assert control.all_gather_json(rank, None) == [None]
    assert control.gather(rank, RankFacts(rank=0), RankFacts) == [RankFacts(rank=0)]
