"""How time is shared among the turns that are left, on a clock that stands where it is put."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bench.measure.planning.budget_fit import LEAST_SAMPLES_SECONDS
from bench.measure.planning.plan import Turn
from bench.measure.planning.time_budget import FAIR_SHARES, MIN_LATER_SECONDS, NextTurn, TimeBudget
from bench.measure.planning.visit_overhead import OTHER_OVERHEAD_SECONDS, VisitCost, guess_overhead

AROUND = OTHER_OVERHEAD_SECONDS
"""What is expected around the samples of a case of a suite that nobody knows."""
CAP = 10.0


class Watch:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def pace(
    seconds: float | None, pending: Sequence[Turn], suites: Sequence[str], watch: Watch | None = None
) -> TimeBudget:
    return TimeBudget(seconds, CAP, pending, suites, now=watch or Watch())


def chosen(of: TimeBudget) -> NextTurn:
    choice = of.choose()
    assert choice is not None
    return choice


def run_all(
    of: TimeBudget, watch: Watch, around_seconds: dict[str, float], suites: Sequence[str]
) -> list[tuple[Turn, float]]:
    """Make every turn that is chosen, with what its suite truly takes; what was made, with its seconds of samples."""
    made = []
    while (choice := of.choose()) is not None:
        took = around_seconds[suites[choice.turn[0]]] + choice.seconds
        watch.seconds += took
        of.finish(choice.turn, took, choice.seconds)
        made.append((choice.turn, choice.seconds))
    return made


def test_without_a_limit_every_turn_has_all_it_may_take_in_the_given_order() -> None:
    turns = [(1, 0), (0, 0), (0, 1), (1, 1)]
    of = pace(None, turns, ["a", "a"])
    assert chosen(of) == NextTurn((1, 0), CAP, None)
    assert run_all(of, Watch(), {"a": 99.0}, ["a", "a"]) == [(turn, CAP) for turn in turns]
    assert of.left == of.undone_turns() == []


def test_what_is_left_is_shared_equally_beside_what_surrounds_the_samples() -> None:
    of = pace(6.0, [(1, 0), (0, 0), (1, 1), (0, 1)], ["a", "a"])
    assert chosen(of) == NextTurn((1, 0), pytest.approx((6 - 4 * AROUND) / 4), 6.0, 6.0)
    # It took 0.6 s besides, which its own next visit is expected to take, and no other case.
    assert of.finish((1, 0), 1.8, 1.2) == pytest.approx(0.6)
    assert chosen(of) == NextTurn((0, 0), pytest.approx((6 - 2 * AROUND - 0.6) / 3), 6.0, 6.0)


def test_no_case_s_cost_is_taken_for_its_suite_s() -> None:
    suites = ["a", "a", "a", "b"]
    of = pace(100.0, [(n, 0) for n in range(4)], suites)
    of.finish((0, 0), 26.5, 0.5)
    assert of.overheads.expected_seconds(1) == of.overheads.expected_seconds(3) == AROUND
    assert chosen(of).seconds == CAP
    # Two tell what is odd: of 26, 0.4 and the guess of 0.3 it is the one in the middle.
    of.finish((1, 0), 0.9, 0.5)
    assert of.overheads.expected_seconds(2) == pytest.approx(0.4)
    assert of.overheads.expected_seconds(3) == AROUND


def test_a_slow_machine_shows_in_suites_that_are_not_known_yet() -> None:
    suites = ["a", "b", "c", "d", "pipeline_parallel"]
    of = pace(100.0, [(n, 0) for n in range(5)], suites)
    guess = of.overheads.expected_seconds(4)
    for index, times in ((0, 3.0), (1, 4.0), (2, 5.0)):
        assert of.overheads.expected_seconds(4) == guess
        of.finish((index, 0), times * AROUND, 0.0)
    assert of.overheads.expected_seconds(4) == pytest.approx(4 * guess)
    assert of.overheads.expected_seconds(3) == pytest.approx(4 * AROUND)


def test_what_was_not_measured_tells_nothing_of_what_measuring_takes() -> None:
    of = pace(100.0, [(0, 0), (1, 0), (2, 0)], ["a", "a", "a"])
    of.finish((0, 0), 0.001, 0.0, measured=False)
    of.finish((1, 0), 0.001, 0.0, measured=False)
    assert of.overheads.expected_seconds(2) == AROUND


def test_a_case_that_the_plan_found_room_for_is_tried_before_anything_is_known() -> None:
    for suite in ("a", "pipeline_parallel"):
        assert chosen(pace(guess_overhead(suite) + LEAST_SAMPLES_SECONDS, [(0, 0)], [suite])).turn == (0, 0)


def test_where_time_is_short_the_last_of_the_plan_are_left_out_not_of_the_order() -> None:
    watch, suites = Watch(), ["a"] * 5
    # 1.1 s at 0.3 + 0.03 each are enough for three.
    of = pace(1.1, [(4, 0), (2, 0), (3, 0), (0, 0), (1, 0)], suites, watch)
    made = run_all(of, watch, {"a": AROUND}, suites)
    assert [turn for turn, _ in made] == [(2, 0), (0, 0), (1, 0)]
    assert of.left == of.undone_turns() == [(4, 0), (3, 0)]
    assert [seconds for _, seconds in made] == [pytest.approx((1.1 - 3 * AROUND) / 3)] * 3


def test_every_case_is_visited_once_before_any_is_visited_twice() -> None:
    watch, suites = Watch(), ["a"] * 4
    turns = [(3, 0), (1, 0), (0, 0), (2, 0), (2, 1), (3, 1), (0, 1), (1, 1)]
    # Six turns at 0.3 + 0.1 fit into 2.45 s, seven do not.
    of = TimeBudget(2.45, CAP, turns, suites, 2, watch)
    made = run_all(of, watch, {"a": AROUND}, suites)
    assert [turn for turn, _ in made] == [(3, 0), (1, 0), (0, 0), (2, 0), (0, 1), (1, 1)]
    assert of.left == [(2, 1), (3, 1)]
    assert min(seconds for _, seconds in made) >= MIN_LATER_SECONDS


def test_later_visits_do_not_take_the_first_ones_time_where_both_would_have_too_little() -> None:
    # 2 turns at 0.3 + 0.1 would take 0.8; the first visit has all.
    of = pace(0.75, [(0, 0), (0, 1)], ["a"])
    assert chosen(of)[:2] == ((0, 0), pytest.approx(0.45))


def test_what_was_put_off_is_done_after_all_where_time_turns_out_to_suffice() -> None:
    watch, suites = Watch(), ["a", "a", "a"]
    # Expected are 0.3 s around each, so that two fit into 0.8 s; true are 0.01 s, and little is sampled by then.
    of = TimeBudget(0.8, 0.1, [(2, 0), (0, 0), (1, 0)], suites, now=watch)
    made = run_all(of, watch, {"a": 0.01}, suites)
    assert [turn for turn, _ in made] == [(0, 0), (2, 0), (1, 0)]
    assert of.left == []


def test_no_time_at_all_leaves_all_out() -> None:
    watch = Watch()
    of = pace(1.0, [(0, 0), (1, 0)], ["a", "a"], watch)
    watch.seconds += 2.0
    assert of.choose() is None
    assert of.undone_turns() == [(0, 0), (1, 0)]
    assert of.expected_seconds() == 0.0


def test_a_case_without_a_speed_is_not_visited_again() -> None:
    of = pace(None, [(0, 0), (1, 0), (0, 1), (1, 1)], ["a", "a"])
    of.finish((0, 0), 1.0, 0.5)
    of.give_up(0)
    assert of.left == [(1, 0), (1, 1)]


def test_a_disturbed_visit_brings_one_more_in_the_end_and_no_more_than_were_planned() -> None:
    of = TimeBudget(None, CAP, [(0, 0), (1, 0), (0, 1), (1, 1)], ["a", "a"], visits=2)
    made = []
    while (choice := of.choose()) is not None:
        made.append(choice.turn)
        of.finish(choice.turn, 1.0, 0.5, disturbed=choice.turn[0] == 0)
    assert made == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (0, 3)]


def test_a_further_visit_gives_way_where_time_is_short() -> None:
    watch = Watch()
    # Two turns at 0.3 + 0.03 fit into 0.7 s; a third does not.
    of = TimeBudget(0.7, CAP, [(0, 0), (1, 0)], ["a", "a"], now=watch)
    choice = chosen(of)
    watch.seconds += 0.35
    of.finish(choice.turn, 0.35, choice.seconds, disturbed=True)
    assert chosen(of)[:2] == ((1, 0), pytest.approx(0.35 - AROUND))
    assert (0, 1) in of.left


@pytest.mark.parametrize("seconds", [None, 130.0])
def test_a_turn_that_lasts_has_its_time_and_the_others_share_the_rest(seconds: float | None) -> None:
    suites, watch = ["short", "short", "soak"], Watch()
    pending = [(0, 0), (1, 0), (2, 0)]
    of = TimeBudget(seconds, CAP, pending, suites, now=watch, lasts=lambda turn: 100.0 if turn == (2, 0) else 0.0)
    share = CAP if seconds is None else (130 - 3 * AROUND - 100) / 3
    assert chosen(of)[:2] == ((0, 0), pytest.approx(min(CAP, share)))
    made = run_all(of, watch, {"short": 1.0, "soak": 5.0}, suites)
    assert [turn for turn, _ in made] == pending
    assert made[2][1] >= 100.0


def test_no_turn_may_take_more_than_some_fair_shares_and_the_last_all_that_is_left() -> None:
    watch, suites = Watch(), ["a"] * 20
    of = pace(40.0, [(n, 0) for n in range(20)], suites, watch)
    assert chosen(of).most_seconds == pytest.approx(FAIR_SHARES * 40 / 20)
    for turn in list(of.left)[:-1]:
        of.finish(turn, 1.0, 0.7)
    watch.seconds += 19.0
    assert chosen(of).most_seconds == pytest.approx(21.0)


def test_suites_without_a_number_aim_at_shares_of_what_is_left_by_what_they_are_guessed_to_take() -> None:
    watch, suites = Watch(), ["a", "b", "c", "training_step", "a", "a"]
    of = TimeBudget(16.0, 0.5, [(n, 0) for n in range(6)], suites, now=watch)
    weights = 3 * (AROUND + 0.5) + guess_overhead("training_step") + 0.5
    choice = chosen(of)
    assert choice.most_seconds == pytest.approx(4 * 16 / 6)
    assert choice.aim_seconds == pytest.approx(16 * (AROUND + 0.5) / weights)
    of.finish((0, 0), 1.0, 0.5)
    watch.seconds += 11.6  # no time-out stopped it: the others have shares of the rest
    assert chosen(of).aim_seconds == pytest.approx((16 - 11.6) * (AROUND + 0.5) / (weights - AROUND - 0.5))


def test_a_suite_s_first_case_is_not_left_out_for_what_is_only_guessed() -> None:
    watch, suites = Watch(), ["a", "b", "c", "training_step"]
    of = pace(20.0, [(n, 0) for n in range(4)], suites, watch)
    for index in range(3):
        watch.seconds += 6.0
        of.finish((index, 0), 6.0, 0.5)
    assert of.overheads.expected_seconds(3) > 10.0  # the machine is slow
    choice = chosen(of)
    assert (choice.turn, choice.most_seconds) == ((3, 0), pytest.approx(2.0))  # yet it has what is left


def test_a_dear_case_comes_last_and_has_its_time_kept_where_its_suite_has_no_number() -> None:
    watch, suites = Watch(), ["a", "b", "a", "b"]
    of = pace(12.0, [(0, 0), (1, 0), (2, 0), (3, 0)], suites, watch)
    of.finish((0, 0), 0.5, 0.2)
    of.put_off((1, 0), 9.0)
    of.put_off((2, 0), 2.0)
    assert chosen(of) == NextTurn((3, 0), pytest.approx(12 - 9 - 2 - of.overheads.expected_seconds(3)), 12.0, 12.0)
    watch.seconds += 2.0
    of.finish((3, 0), 2.0, 1.7)
    # 10 s are left: enough for the first case of b, not for another one of a as well.
    assert chosen(of) == NextTurn((1, 0), 0.0, 10.0, 10.0, is_dear=True)
    watch.seconds += 9.0
    of.finish((1, 0), 9.0, 0.0)
    assert of.choose() is None
    assert of.undone_turns() == [(2, 0)]


def test_a_dear_case_has_one_turn_and_what_earlier_launches_told_holds() -> None:
    told = {0: VisitCost(0.2), 1: VisitCost(5.0, dear_seconds=8.0)}
    turns = [(1, 0), (0, 0), (0, 1), (1, 1)]
    of = TimeBudget(30.0, 1.0, turns, ["a", "a"], 2, Watch(), known=told)
    assert of.overheads.expected_seconds(0) == 0.2
    assert of.left == [(1, 0), (0, 0), (0, 1)]
    of.finish((0, 0), 1.0, 0.5)
    of.finish((0, 1), 1.0, 0.5)
    choice = chosen(of)
    assert choice == NextTurn((1, 0), 0.0, 30.0, 30.0, is_dear=True)
    of.finish(choice.turn, 8.0, 0.0)
    assert of.give_up(1) == [(1, 1)]
    assert of.undone_turns() == []


def test_a_later_visit_that_takes_too_long_is_not_made_and_does_not_come_again() -> None:
    of = TimeBudget(
        30.0, 1.0, [(0, 0), (0, 1), (1, 1)], ["a", "a"], 2, Watch(), known={1: VisitCost(5.0, dear_seconds=8.0)}
    )
    of.finish((0, 0), 1.0, 0.5, disturbed=True)
    assert (of.dear, of.left) == ({}, [(0, 1), (1, 1), (0, 2)])
    assert of.put_off((0, 1), 9.0) == [(0, 1)]
    assert of.put_off((0, 2), 9.0) == []  # nobody had planned it
    assert of.put_off((1, 1), 9.0) == [(1, 1)]
    assert (of.dear, of.left) == ({}, [])


def test_what_is_still_to_come_is_told_with_disturbed_visits_and_never_beyond_the_end() -> None:
    watch, suites = Watch(), ["a"] * 8
    of = TimeBudget(100.0, 0.5, [(n, 0) for n in range(8)], suites, now=watch)
    assert of.expected_seconds() == pytest.approx(8 * (AROUND + 0.5))
    for index in range(4):
        of.finish((index, 0), AROUND + 0.5, 0.5, disturbed=index % 2 == 0)
    # 4 to come, 2 once more, and of the 4 as many disturbed as before.
    assert of.expected_seconds() == pytest.approx((4 + 2 + 2) * (AROUND + 0.5))
    assert of.whole_launch_seconds() == pytest.approx(8 * (AROUND + 0.5))
    watch.seconds += 97.0
    assert of.expected_seconds() == pytest.approx(3.0)  # not all of it fits: what fits takes all that is left


def _with_soak(seconds: float, overruns: float) -> list[Turn]:
    """What is done of six short cases, the second of which takes this much longer, and a soak, last of the plan."""
    watch, suites, soak = Watch(), ["short"] * 6 + ["soak"], (6, 0)
    of = TimeBudget(seconds, 1.0, [(n, 0) for n in range(7)], suites, now=watch, lasts=lambda t: 100.0 * (t == soak))
    made = []
    while (choice := of.choose()) is not None:
        took = choice.seconds + 0.1 + (overruns if choice.turn == (1, 0) else 0.0)
        watch.seconds += took
        of.finish(choice.turn, took, choice.seconds)
        made.append(choice.turn)
    return made


def test_the_time_of_what_lasts_is_set_aside_before_the_others_are_given_any() -> None:
    short = [(n, 0) for n in range(6)]
    assert _with_soak(120.0, 0.0) == [*short, (6, 0)]
    # If not all fit, it is the others that go, though they come before it in the plan.
    short_of_time = _with_soak(101.0, 0.0)
    assert (6, 0) in short_of_time
    assert len(short_of_time) < 7


def test_it_is_done_also_where_a_case_before_it_took_its_time_but_not_at_any_price() -> None:
    assert _with_soak(120.0, 35.0) == [(0, 0), (1, 0), (6, 0)]
    assert (6, 0) not in _with_soak(120.0, 60.0)
