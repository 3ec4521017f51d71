"""The sampler on a clock of its own, where every duration is known: nothing here waits for time to pass."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import pytest

from bench.core import clock as clocks
from bench.core.clock import Clock
from bench.measure.engine.gather import gather_samples, reduce_rows
from bench.measure.engine.timing.device_clock import clock_for_work
from bench.measure.engine.timing.sampler import Sampler, Samples, Timing, take_sample
from bench.measure.engine.timing.stop_rule import Limits, decide
from bench.records.lines.parts import encode_numbers
from bench.records.samples import sample_matrix
from bench.stats.intervals import median
from bench.suite import Work
from tests.support.plans import lone_rank

MICROSECOND, MILLISECOND, SECOND = 10**3, 10**6, 10**9
ANY_PRECISION = 0.5
NO_PRECISION = 1e-12


@dataclass
class FakeTime:
    """Time passes only if something takes it."""

    nanoseconds: int = 0
    log: list[str] = field(default_factory=list)

    def takes(self, name: str, *durations: int) -> Callable[[], None]:
        """A callable whose calls take these nanoseconds, one after the other; then always the last."""
        left = list(durations)

        def run() -> None:
            self.log.append(name)
            self.nanoseconds += left.pop(0) if len(left) > 1 else left[0]

        return run

    def grows(self, step: int) -> Callable[[], None]:
        """A callable that takes longer each time, and so never reaches a narrow interval."""
        calls = iter(range(1, 10**9))

        def run() -> None:
            self.nanoseconds += step * next(calls)

        return run

    def clock(self) -> Clock:
        return Clock("host", lambda: self.nanoseconds, lambda start, end: end - start, lambda: None)

    def seconds(self) -> float:
        return self.nanoseconds / SECOND


def measure(
    time: FakeTime,
    limits: Limits,
    timing: Timing = "aligned",
    reset: Callable[[], None] | None = None,
    **variants: Callable[[], None],
) -> Samples:
    work = Work(variants=variants, check=lambda: (0.0, 0.0), reset=reset)
    return Sampler(lone_rank(), work, time.clock(), timing, time.seconds).measure(limits)


def test_variants_take_turns_and_are_sampled_equally_often() -> None:
    time = FakeTime()
    samples = measure(
        time,
        Limits(ANY_PRECISION, 1.0),
        full=time.takes("f", 3 * MILLISECOND),
        half=time.takes("h", 2 * MILLISECOND),
        none=time.takes("n", 1 * MILLISECOND),
    )
    assert list(samples.nanoseconds) == ["full", "half", "none"]
    assert samples.calls == {"full": 1, "half": 1, "none": 1}
    for name, duration in (("full", 3), ("half", 2), ("none", 1)):
        assert set(samples.nanoseconds[name]) == {duration * MILLISECOND}
    assert len({len(taken) for taken in samples.nanoseconds.values()}) == 1
    measured = "".join(time.log)[3 * samples.warmup_rounds :]
    assert measured.startswith("fhn" + "hnf" + "nfh" + "fhn")
    assert len(measured) == 3 * len(samples.nanoseconds["full"])


def test_the_rotation_goes_on_from_block_to_block() -> None:
    time = FakeTime()
    # A block is one round of 2 x 60 ms.
    samples = measure(
        time,
        Limits(NO_PRECISION, 0.6, max_rounds=4),
        full=time.takes("f", 60 * MILLISECOND),
        half=time.takes("h", 60 * MILLISECOND),
    )
    assert samples.stop_reason == "samples"
    assert "".join(time.log)[2 * samples.warmup_rounds :] == "fh" + "hf" + "fh" + "hf"


@pytest.mark.parametrize(
    ("call_ns", "calls"),
    [
        (1, 32),
        (MICROSECOND, 32),
        (312_500, 32),
        (MILLISECOND, 10),
        (3 * MILLISECOND, 3),
        (4 * MILLISECOND, 2),
        (SECOND, 2),
    ],
)
def test_a_streamed_sample_is_about_ten_milliseconds_of_2_to_32_calls(call_ns: int, calls: int) -> None:
    time = FakeTime()
    samples = measure(time, Limits(ANY_PRECISION, 0.2), "streamed", full=time.takes("f", call_ns))
    assert samples.calls == {"full": calls}
    assert set(samples.nanoseconds["full"]) == {calls * call_ns}


def test_each_variant_has_its_own_number_of_calls_and_a_cold_first_call_does_not_decide_it() -> None:
    time = FakeTime()
    samples = measure(
        time,
        Limits(ANY_PRECISION, 20.0),
        "streamed",
        full=time.takes("f", 2 * SECOND, 2 * MILLISECOND),
        half=time.takes("h", 1 * SECOND, 1 * MILLISECOND),
    )
    assert samples.calls == {"full": 5, "half": 10}
    assert set(samples.nanoseconds["full"]) == set(samples.nanoseconds["half"]) == {10 * MILLISECOND}


def test_a_later_visit_keeps_to_the_calls_of_the_first() -> None:
    time = FakeTime()
    variants = {"full": time.takes("f", 3 * MILLISECOND), "half": time.takes("h", 1 * MILLISECOND)}
    work = Work(variants=variants, check=lambda: (0.0, 0.0))
    earlier = {"half": 7, "full": 4}
    sampler = Sampler(lone_rank(), work, time.clock(), "streamed", time.seconds, earlier)
    samples = sampler.measure(Limits(ANY_PRECISION, 10.0))
    assert samples.calls == earlier
    assert set(samples.nanoseconds["full"]) == {12 * MILLISECOND}
    assert "".join(time.log).startswith("ffff" + "hhhhhhh")


@pytest.mark.parametrize(("timing", "calls"), [("aligned", 1), ("streamed", 10)])
def test_calls_of_other_variants_or_of_another_timing_do_not_count(timing: Timing, calls: int) -> None:
    time = FakeTime()
    work = Work(variants={"full": time.takes("f", MILLISECOND)}, check=lambda: (0.0, 0.0))
    earlier = {"full": 4, "gone": 4} if timing == "streamed" else {"full": 4}
    sampler = Sampler(lone_rank(), work, time.clock(), timing, time.seconds, earlier)
    assert sampler.measure(Limits(ANY_PRECISION, 1.0)).calls == {"full": calls}


def test_a_later_visit_may_stop_with_fewer_samples() -> None:
    time = FakeTime()
    samples = measure(time, Limits(NO_PRECISION, 0.1, min_rounds=3), full=time.takes("f", SECOND // 2))
    assert (samples.stop_reason, samples.num_rounds) == ("time", 3)


def test_work_that_must_last_goes_on_where_precision_and_time_would_end_it() -> None:
    time = FakeTime()
    limits = Limits(ANY_PRECISION, 0.1, max_rounds=20).extended(30.0)
    samples = measure(time, limits, full=time.takes("f", SECOND))
    assert samples.num_rounds == 30
    assert Limits(ANY_PRECISION, 60.0).extended(30.0).seconds == 60.0


def test_reset_comes_before_every_sample_and_is_not_timed() -> None:
    time = FakeTime()
    reset = time.takes("r", SECOND)
    samples = measure(time, Limits(ANY_PRECISION, 1.0), reset=reset, full=time.takes("f", MILLISECOND))
    assert set(samples.nanoseconds["full"]) == {MILLISECOND}
    assert time.log == ["r", "f"] * (samples.warmup_rounds + len(samples.nanoseconds["full"]))


def test_reset_comes_once_before_the_calls_of_a_streamed_sample() -> None:
    time = FakeTime()
    reset = time.takes("r", SECOND)
    limits = Limits(ANY_PRECISION, 40.0)
    samples = measure(time, limits, "streamed", reset, full=time.takes("f", 5 * MILLISECOND))
    assert "".join(time.log).replace("rff", "s").replace("rf", "c") == "cc" + "s" * (
        samples.warmup_rounds - 2 + len(samples.nanoseconds["full"])
    )
    assert set(samples.nanoseconds["full"]) == {10 * MILLISECOND}


def test_sampling_stops_when_the_interval_is_narrow_but_not_before_20_samples() -> None:
    time = FakeTime()
    samples = measure(time, Limits(0.01, 100.0), full=time.takes("f", 2 * SECOND))
    assert samples.stop_reason == "precision"
    assert samples.half_width == 0.0
    # A block is a tenth of the time left: 10 s, 9, 8.2, 7.4, 6.8, 6.2; in whole calls of 2 s:
    assert len(samples.nanoseconds["full"]) == 5 + 4 + 4 + 3 + 3 + 3


def test_the_half_width_is_that_of_five_blocks_of_the_samples() -> None:
    time = FakeTime()
    durations = [(100 + block) * MILLISECOND for block in range(5) for _ in range(4)]
    samples = measure(
        time, Limits(NO_PRECISION, 1000.0, max_rounds=20), full=time.takes("f", *[MILLISECOND] * 6, *durations)
    )
    assert samples.warmup_rounds == 6
    assert samples.nanoseconds["full"] == durations
    # Block medians 100 to 104: mean 102, s = sqrt(2.5); t for 4 degrees of freedom at 97.5% is 2.776445.
    assert samples.half_width == pytest.approx(2.776445 * (2.5 / 5) ** 0.5 / 102, rel=1e-6)


def test_sampling_stops_when_the_time_is_over_but_not_before_there_are_twenty() -> None:
    time = FakeTime()
    durations = [SECOND + n * MILLISECOND for n in range(40)]
    samples = measure(time, Limits(NO_PRECISION, 4.0), full=time.takes("f", *durations))
    assert samples.stop_reason == "time"
    assert samples.nanoseconds["full"] == durations[2:22]  # after two to warm up


def test_sampling_ends_with_fewer_where_the_turn_may_take_no_more_its_warm_up_included() -> None:
    time = FakeTime()
    samples = measure(time, Limits(NO_PRECISION, 1.0, most_seconds=9.0), full=time.takes("f", SECOND))
    assert (samples.stop_reason, samples.warmup_rounds) == ("time", 2)
    assert samples.nanoseconds["full"] == [SECOND] * 7
    assert samples.half_width is None


def test_a_case_that_came_last_has_one_warm_up_and_as_many_samples_as_it_was_given() -> None:
    time = FakeTime()
    limits = Limits(NO_PRECISION, 0.0, min_rounds=3, max_rounds=3, most_seconds=100.0, warmup_rounds=1)
    samples = measure(time, limits, full=time.takes("f", SECOND))
    assert (samples.warmup_rounds, samples.nanoseconds["full"]) == (1, [SECOND] * 3)


def test_sampling_does_not_overrun_its_time_by_much() -> None:
    time = FakeTime()
    samples = measure(time, Limits(NO_PRECISION, 1.0), full=time.grows(MICROSECOND))
    assert samples.stop_reason == "time"
    total = sum(samples.nanoseconds["full"])
    assert SECOND <= total < 1.25 * SECOND


def test_sampling_stops_at_exactly_the_largest_number_of_samples() -> None:
    time = FakeTime()
    samples = measure(time, Limits(NO_PRECISION, 1e6, max_rounds=700), full=time.grows(1))
    assert samples.stop_reason == "samples"
    assert len(samples.nanoseconds["full"]) == 700
    few = measure(time, Limits(NO_PRECISION, 1e6, max_rounds=7), full=time.grows(1))
    assert len(few.nanoseconds["full"]) == 7


def test_work_that_takes_no_time_at_all_ends_too() -> None:
    time = FakeTime()
    samples = measure(time, Limits(0.01, 1.0), full=lambda: None)
    assert samples.stop_reason == "samples"  # nothing passes, so neither precision nor time is ever reached
    assert set(samples.nanoseconds["full"]) == {0}


def test_warm_up_goes_on_until_the_times_have_settled() -> None:
    time = FakeTime()
    falling = [64, 32, 16, 8, 4, 2, 1]
    run = time.takes("f", *(n * MILLISECOND for n in falling))
    samples = measure(time, Limits(ANY_PRECISION, 10.0), full=run)
    # Medians of three rounds against the three before: 4/32, 2/16, 1/8, 1/4, 1/2 and at last 1/1 after 11 rounds.
    assert samples.warmup_rounds == 11
    assert set(samples.nanoseconds["full"]) == {MILLISECOND}


def test_warm_up_takes_at_most_a_quarter_of_the_time_and_two_rounds_in_any_case() -> None:
    time = FakeTime()
    run = time.takes("f", *(n * MILLISECOND for n in range(100, 0, -10)), 10 * MILLISECOND)
    samples = measure(time, Limits(ANY_PRECISION, 1.0), full=run)
    assert samples.warmup_rounds == 3  # 100 + 90 ms are under 250 ms, and 80 ms more are over
    slow = FakeTime()
    samples = measure(slow, Limits(ANY_PRECISION, 1.0), full=slow.takes("f", SECOND))
    assert samples.warmup_rounds == 2


def test_a_streamed_warm_up_has_a_round_of_full_length() -> None:
    time = FakeTime()
    samples = measure(time, Limits(ANY_PRECISION, 1.0), "streamed", full=time.takes("f", SECOND))
    assert samples.warmup_rounds == 3
    assert samples.calls == {"full": 2}


def test_the_garbage_collector_rests_in_samples_and_comes_back_even_after_an_error() -> None:
    time = FakeTime()
    states: list[bool] = []

    def run() -> None:
        states.append(gc.isenabled())
        time.nanoseconds += MILLISECOND
        if len(states) == 40:
            raise ValueError("on purpose")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="on purpose"):
        measure(time, Limits(NO_PRECISION, 1.0), full=run)
    assert states == [False] * 40
    assert gc.isenabled()


def test_an_empty_call_costs_less_than_a_microsecond() -> None:
    clock = clocks.cpu_clock()
    marks = [take_sample(clock, lambda: None, 1) for _ in range(2000)]
    assert median([clock.elapsed_ns(start, end) for start, end in marks]) < MICROSECOND


# Clocks


def test_a_host_clock_waits_for_the_device_before_it_reads_the_time() -> None:
    waits: list[int] = []
    clock = clocks.synchronised_host_clock(lambda: waits.append(len(waits)))
    start, end = take_sample(clock, lambda: waits.append(100), 1)
    assert waits == [0, 100, 2]
    assert clock.elapsed_ns(start, end) == end - start >= 0


@pytest.mark.parametrize("kind", ["device", "host"])
def test_work_on_a_cpu_is_done_when_its_call_returns(kind: str) -> None:
    clock = clock_for_work("cpu", kind)
    assert clock.name == "host"
    assert clock.elapsed_ns(3, 10) == 7


# The form of the result file


def test_up_to_64_ranks_every_sample_is_kept() -> None:
    rows = [[rank, 2 * rank] for rank in range(64)]
    reduced = reduce_rows(rows, 1)
    assert reduced.nanoseconds is not None
    assert reduced.nanoseconds.tolist() == rows
    assert sample_matrix(reduced).max(axis=0).tolist() == [63, 126]


def test_above_64_ranks_what_a_step_s_analysis_needs() -> None:
    # Rank r: r + 10, r + 50, r + 30, r + 40, r + 20; but rank 7 arrives last to the second sample.
    rows = [[rank + 10, rank + 50, rank + 30, rank + 40, rank + 20] for rank in range(65)]
    rows[7][1] = 5
    reduced = reduce_rows(rows, 1)
    plain = msgspec.to_builtins(reduced, enc_hook=encode_numbers)
    assert set(plain) == {"calls", "per_iteration", "rank_quantiles"}
    assert plain["per_iteration"] == {
        "max": [74, 114, 94, 104, 84],
        "min": [10, 5, 30, 40, 20],
        "last_rank": [0, 7, 0, 0, 0],
    }
    quantiles = plain["rank_quantiles"]
    assert quantiles["q"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert quantiles["nanoseconds"][64] == [74, 84, 94, 104, 114]
    assert quantiles["nanoseconds"][7] == [5, 17, 27, 37, 47]
    assert len(quantiles["nanoseconds"]) == 65
    assert sample_matrix(reduced).max(axis=0).tolist() == [74, 114, 94, 104, 84]


def test_samples_of_a_world_of_one() -> None:
    samples = Samples({"full": 2, "half": 1}, {"full": [20, 22], "half": [5, 6]}, "time", None, 2)
    gathered = gather_samples(lone_rank(), samples.nanoseconds, samples.calls)
    assert msgspec.to_builtins(gathered, enc_hook=encode_numbers) == {
        "full": {"calls": 2, "nanoseconds": [[20, 22]]},
        "half": {"calls": 1, "nanoseconds": [[5, 6]]},
    }


@pytest.mark.parametrize(
    ("num_rounds", "elapsed", "reason"),
    [
        (19, 0.6, None),  # its half second is over, but not even twenty samples are there
        (1, 3.9, None),
        (1, 4.0, "time"),  # eight times its time: one call alone takes too long for this budget
    ],
)
def test_a_case_that_is_far_too_slow_stops_with_few_samples(
    num_rounds: int, elapsed: float, reason: str | None
) -> None:
    assert decide([10**9] * num_rounds, elapsed, Limits(precision=0.02, seconds=0.5)) == (reason, None)
