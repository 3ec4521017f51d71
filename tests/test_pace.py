"""How time is shared among the turns that are left, on a clock that stands where it is put."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.pace import FIRST_OVERHEAD_SECONDS, MIN_LATER_SECONDS, MIN_SAMPLING_SECONDS, Pace
from bench.plan import MIN_CASE_SECONDS, Turn

CAP = 10.0


class Watch:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def pace(seconds: float | None, pending: Sequence[Turn], suites: Sequence[str], watch: Watch | None = None) -> Pace:
    return Pace(seconds, CAP, pending, suites, now=watch or Watch())


def run_all(
    of: Pace, watch: Watch, overhead_seconds: dict[str, float], suites: Sequence[str]
) -> list[tuple[Turn, float]]:
    """Make every turn that is chosen, at its suite's true overhead; what was made, with its seconds of samples."""
    made = []
    while (choice := of.choose()) is not None:
        turn, seconds = choice
        took = overhead_seconds[suites[turn[0]]] + seconds
        watch.seconds += took
        of.finished(turn, took, seconds)
        made.append(choice)
    return made


def test_without_a_limit_every_turn_has_all_it_may_take_in_the_given_order() -> None:
    turns = [(1, 0), (0, 0), (0, 1), (1, 1)]
    of = pace(None, turns, ["a", "a"])
    assert run_all(of, Watch(), {"a": 99.0}, ["a", "a"]) == [(turn, CAP) for turn in turns]
    assert of.left == []


def test_what_is_left_is_shared_equally_beside_what_surrounds_the_samples() -> None:
    # 4 turns: (6 - 4 x 0.2) / 4 = 1.3
    of = pace(6.0, [(1, 0), (0, 0), (1, 1), (0, 1)], ["a", "a"])
    assert of.choose() == ((1, 0), pytest.approx(1.3))
    # It took 0.5 s besides: 0.2 + 0.3 x 0.3 = 0.29 is now expected of each of three: (6 - 3 x 0.29) / 3.
    of.finished((1, 0), 1.8, 1.3)
    assert of.choose() == ((0, 0), pytest.approx(1.71))


def test_suites_learn_apart() -> None:
    of = pace(5.0, [(0, 0), (1, 0)], ["slow", "fast"])
    of.finished((0, 0), 1.2, 0.0)
    assert of.overhead_seconds == {"slow": pytest.approx(0.5), "fast": FIRST_OVERHEAD_SECONDS}


def test_a_case_that_the_plan_found_room_for_is_not_left_out_before_anything_is_known() -> None:
    assert FIRST_OVERHEAD_SECONDS + MIN_SAMPLING_SECONDS <= MIN_CASE_SECONDS


def test_where_time_is_short_the_last_of_the_plan_are_left_out_not_of_the_order() -> None:
    watch, suites = Watch(), ["a"] * 5
    # 0.8 s at 0.2 + 0.03 each are enough for three.
    of = pace(0.8, [(4, 0), (2, 0), (3, 0), (0, 0), (1, 0)], suites, watch)
    made = run_all(of, watch, {"a": 0.2}, suites)
    assert [turn for turn, _ in made] == [(2, 0), (0, 0), (1, 0)]
    assert of.left == [(4, 0), (3, 0)]
    # (0.8 - 3 x 0.2) / 3 each
    assert [seconds for _, seconds in made] == [pytest.approx(0.2 / 3)] * 3


def test_every_case_is_visited_once_before_any_is_visited_twice() -> None:
    watch, suites = Watch(), ["a"] * 4
    turns = [(3, 0), (1, 0), (0, 0), (2, 0), (2, 1), (3, 1), (0, 1), (1, 1)]
    # Six turns at 0.2 + 0.1 fit into 1.85 s, seven do not.
    of = pace(1.85, turns, suites, watch)
    made = run_all(of, watch, {"a": 0.2}, suites)
    assert [turn for turn, _ in made] == [(3, 0), (1, 0), (0, 0), (2, 0), (0, 1), (1, 1)]
    assert of.left == [(2, 1), (3, 1)]
    assert min(seconds for _, seconds in made) > MIN_LATER_SECONDS


def test_later_visits_do_not_take_the_first_ones_time_where_both_would_have_too_little() -> None:
    # 2 turns at 0.2 + 0.1 would take 0.6; the first visit has all.
    of = pace(0.55, [(0, 0), (0, 1)], ["a"])
    assert of.choose() == ((0, 0), pytest.approx(0.35))


def test_what_was_put_off_is_done_after_all_where_time_turns_out_to_suffice() -> None:
    watch, suites = Watch(), ["a", "a", "a"]
    # Expected are 0.2 s around each, so that two fit into 0.6 s; true are 0.01 s, and little is sampled by then.
    of = Pace(0.6, 0.1, [(2, 0), (0, 0), (1, 0)], suites, now=watch)
    made = run_all(of, watch, {"a": 0.01}, suites)
    assert [turn for turn, _ in made] == [(0, 0), (2, 0), (1, 0)]
    assert of.left == []


def test_no_time_at_all_leaves_all_out() -> None:
    watch = Watch()
    of = pace(1.0, [(0, 0), (1, 0)], ["a", "a"], watch)
    watch.seconds += 2.0
    assert of.choose() is None
    assert len(of.left) == 2


def test_a_case_without_a_speed_is_not_visited_again() -> None:
    of = pace(None, [(0, 0), (1, 0), (0, 1), (1, 1)], ["a", "a"])
    of.finished((0, 0), 1.0, 0.5)
    of.give_up(0)
    assert of.left == [(1, 0), (1, 1)]


def test_a_disturbed_visit_brings_one_more_in_the_end_and_no_more_than_were_planned() -> None:
    of = Pace(None, CAP, [(0, 0), (1, 0), (0, 1), (1, 1)], ["a", "a"], visits=2)
    made = []
    while (choice := of.choose()) is not None:
        made.append(choice[0])
        of.finished(choice[0], 1.0, 0.5, disturbed=choice[0][0] == 0)
    assert made == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3)]


def test_a_further_visit_gives_way_where_time_is_short() -> None:
    watch = Watch()
    # Two turns at 0.2 + 0.03 fit into 0.5 s; a third does not.
    of = Pace(0.5, CAP, [(0, 0), (1, 0)], ["a", "a"], now=watch)
    choice = of.choose()
    assert choice is not None
    watch.seconds += 0.25
    of.finished(choice[0], 0.25, choice[1], disturbed=True)
    assert of.choose() == ((1, 0), pytest.approx(0.25 - of.overhead_seconds["a"]))
    assert (0, 1) in of.left


@pytest.mark.parametrize("seconds", [None, 130.0])
def test_a_turn_that_lasts_has_its_time_and_the_others_share_the_rest(seconds: float | None) -> None:
    suites, watch = ["short", "short", "soak"], Watch()
    pending = [(0, 0), (1, 0), (2, 0)]
    of = Pace(seconds, CAP, pending, suites, now=watch, lasts=lambda turn: 100.0 if turn == (2, 0) else 0.0)
    made = run_all(of, watch, {"short": 1.0, "soak": 5.0}, suites)
    assert [turn for turn, _ in made] == pending
    assert made[2][1] >= 100.0
    assert made[0][1] == pytest.approx(CAP if seconds is None else (130 - 3 * FIRST_OVERHEAD_SECONDS - 100) / 3)


def _with_soak(seconds: float, overruns: float) -> list[Turn]:
    """What is done of six short cases, the second of which takes so much longer, and a soak, last of the plan."""
    watch, suites, soak = Watch(), ["short"] * 6 + ["soak"], (6, 0)
    of = Pace(seconds, 1.0, [(n, 0) for n in range(7)], suites, now=watch, lasts=lambda t: 100.0 * (t == soak))
    made = []
    while (choice := of.choose()) is not None:
        turn, sampling = choice
        took = sampling + 0.1 + (overruns if turn == (1, 0) else 0.0)
        watch.seconds += took
        of.finished(turn, took, sampling)
        made.append(turn)
    return made


def test_the_time_of_what_lasts_is_set_aside_before_the_others_are_given_any() -> None:
    short = [(n, 0) for n in range(6)]
    assert _with_soak(120.0, 0.0) == [*short, (6, 0)]
    # Where not all fit, it is the others that go, though they come before it in the plan.
    short_of_time = _with_soak(101.0, 0.0)
    assert (6, 0) in short_of_time
    assert len(short_of_time) < 7


def test_it_is_done_also_where_a_case_before_it_took_its_time_but_not_at_any_price() -> None:
    assert _with_soak(120.0, 35.0) == [(0, 0), (1, 0), (6, 0)]
    assert (6, 0) not in _with_soak(120.0, 60.0)
