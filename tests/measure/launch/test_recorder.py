"""What a run's events leave in its file, and what becomes of its exit code."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from bench.measure.planning.events import TimeLeft, TurnPutOff, TurnsLeftOut
from bench.measure.planning.plan import Plan
from bench.measure.planning.session import BUDGET_REASON, Session
from bench.measure.planning.visit_overhead import VisitCost
from bench.records.file import load
from bench.records.lines.parts import DoctorReport, WorkFacts
from bench.records.reader import SCHEMA
from bench.records.visits import num_samples, was_left_out
from tests.support.plans import a_plan
from tests.support.recorders import ENVIRONMENT, READY, Heard, Recorders, begun, kinds, record, saved


def test_events_become_lines_as_they_come(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan)
    assert kinds(path) == []
    recorder.handle(READY)
    assert kinds(path) == ["header", "measurement"]  # the measurement is the case that does not fit the budget
    recorder.handle(begun(1))
    assert (recorder.current, recorder.done) == ((1, 0), set())
    recorder.handle(record(plan, 1, seconds=0.5))
    assert (recorder.current, recorder.done) == (None, {(0, 1, 0)})
    assert kinds(path) == ["header", "measurement", "measurement"]
    recorder.end("complete", 0)
    assert kinds(path)[-1] == "end"

    result = load(path)
    assert result.warnings == ()
    assert {key: getattr(result.header, key) for key in ("schema", "run_id", "label", "architecture", "command")} == {
        "schema": SCHEMA,
        "run_id": "0123456789abcdef",
        "label": "run",
        "architecture": ENVIRONMENT.architecture,
        "command": ["bench", "run", "./sum.py"],
    }
    assert result.environment == ENVIRONMENT
    assert Plan.from_row(result.plan) == plan
    left_out, measured = result.measurements
    assert (left_out.case, left_out.status, left_out.reason) == (plan.left_out[0].id, "skipped", BUDGET_REASON)
    assert (measured.case, measured.status, measured.seconds) == ("sum/run[size=2]", "ok", 0.5)
    assert result.end is not None
    assert (result.end.status, result.end.exit_code) == ("complete", 0)


def test_the_display_hears_of_everything_once(a_recorder: Recorders) -> None:
    plan, display = a_plan(1), Heard()
    recorder = a_recorder(plan)
    recorder.progress = display
    recorder.handle(READY)
    recorder.handle(begun(0))
    recorder.handle(record(plan, 0))
    recorder.end("complete", 0)
    recorder.end("failed", 3)
    assert display.calls == [
        ("ready", ENVIRONMENT.architecture),
        ("begin", "sum/run[size=1]"),
        ("done", "sum/run[size=1]", "ok"),
        ("close",),
    ]


def test_a_fresh_generation_of_ranks_writes_no_second_header(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(1, left_out=())
    recorder = a_recorder(plan)
    for launch in range(2):
        recorder.handle(READY)
        recorder.handle(record(plan, 0, launch=launch))
    assert kinds(path) == ["header", "measurement", "measurement"]
    assert recorder.done == {(0, 0, 0), (1, 0, 0)}


def test_a_measurement_is_written_as_rank_0_encoded_it(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(1, left_out=())
    recorder = a_recorder(plan)
    recorder.handle(READY)
    event = record(plan, 0)
    spaced = bytes(event.line).replace(b":", b": ")
    recorder.handle(replace(event, line=msgspec.Raw(spaced)))
    assert path.read_bytes().splitlines()[1] == spaced


def test_a_run_ends_once(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder()
    recorder.handle(READY)
    recorder.end("interrupted", 130)
    recorder.end("complete", 0)
    ends = [line for line in saved(path) if line["kind"] == "end"]
    assert [(line["status"], line["exit_code"]) for line in ends] == [("interrupted", 130)]


def test_a_run_that_never_began_leaves_no_empty_file(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder()
    assert path.exists()
    recorder.end("failed", 2)
    assert list(path.parent.iterdir()) == []


def test_a_case_can_be_failed_for_ranks_that_cannot_say_so(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(2, left_out=())
    recorder = a_recorder(plan)
    recorder.handle(READY)
    recorder.handle(begun(1))
    recorder.fail_case((1, 0), 2, "rank 1 on node07 was killed")
    assert (recorder.current, recorder.done, recorder.exit_code) == (None, {(2, 1, 0)}, 3)
    (failed,) = load(path).measurements
    assert (failed.case, failed.launch, failed.status) == ("sum/run[size=2]", 2, "failed")
    assert failed.reason == "rank 1 on node07 was killed"
    assert failed.num_ranks == 2


@pytest.mark.parametrize(
    ("statuses", "exit_code"),
    [
        ([], 0),
        (["ok", "ok"], 0),
        (["skipped", "skipped"], 0),
        (["ok", "failed"], 3),
        (["invalid", "skipped"], 3),
    ],
)
def test_the_exit_code_is_3_where_a_case_failed_or_is_invalid(
    a_recorder: Recorders, path: Path, statuses: list[str], exit_code: int
) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan)
    recorder.handle(READY)
    for index, status in enumerate(statuses):
        recorder.handle(record(plan, index, status))
    assert recorder.exit_code == exit_code


# Visits


def test_what_is_pending_is_the_launch_s_order_without_what_is_done(a_recorder: Recorders) -> None:
    plan = a_plan(3, visits=2)
    recorder = a_recorder(plan)
    recorder.handle(READY)
    assert recorder.pending(1) == tuple(plan.order(1))
    recorder.handle(record(plan, 2, launch=1))
    recorder.handle(record(plan, 0, launch=1, visit=1))
    assert recorder.pending(1) == tuple(turn for turn in plan.order(1) if turn not in {(2, 0), (0, 1)})
    assert recorder.pending(0) == tuple(plan.order(0))


@pytest.mark.parametrize("status", ["failed", "invalid", "skipped"])
def test_a_case_without_a_speed_is_not_visited_again_in_its_launch(a_recorder: Recorders, status: str) -> None:
    plan = a_plan(2, visits=3, left_out=())
    recorder, display = a_recorder(plan), Heard()
    recorder.progress = display
    recorder.handle(READY)
    recorder.handle(record(plan, 1, visit=0))
    recorder.handle(record(plan, 1, status, visit=1))
    assert recorder.done == {(0, 1, 0), (0, 1, 1), (0, 1, 2)}
    assert display.calls[-1] == ("drop", "1")
    assert len(recorder.pending(1)) == 6


def test_only_a_case_without_any_visit_is_recorded_as_left_out(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(3, visits=2, left_out=())
    recorder, display = a_recorder(plan), Heard()
    recorder.progress = display
    recorder.handle(READY)
    recorder.handle(record(plan, 0))
    recorder.handle(record(plan, 1))
    recorder.handle(record(plan, 1, visit=1))
    recorder.handle(TurnsLeftOut(0, ((2, 1), (0, 1), (2, 0))))
    assert recorder.pending(0) == ()
    assert recorder.exit_code == 0
    held = {each.case: each for each in load(path).latest()}
    assert [each.status for each in held.values()] == ["ok", "ok", "skipped"]
    assert held["sum/run[size=3]"].reason == BUDGET_REASON
    assert [num_samples(each) for each in held.values()] == [2, 4, 0]
    # Six visits: three made, one record of a case without any, and two less to come.
    assert [call[0] for call in display.calls].count("done") == 4
    assert sum(int(call[1]) for call in display.calls if call[0] == "drop") == 2


def test_a_case_that_has_to_wait_is_pending_and_not_under_way(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(a_plan(2, left_out=()))
    recorder.handle(READY)
    recorder.handle(begun(1))
    recorder.handle(TurnPutOff(1, 0))
    assert recorder.current is None
    assert (1, 0) in recorder.pending(0)
    assert kinds(path) == ["header"]


def test_what_cases_cost_is_kept_for_later_launches(a_recorder: Recorders) -> None:
    plan = a_plan(3)
    recorder = a_recorder(plan)
    recorder.handle(READY)
    recorder.handle(replace(record(plan, 0), known=VisitCost(0.5)))
    recorder.handle(replace(record(plan, 1), known=VisitCost(4.0, 9.0)))
    recorder.handle(replace(record(plan, 2, "failed"), known=VisitCost(0.1)))
    assert recorder.known == {0: VisitCost(0.5), 1: VisitCost(4.0, 9.0)}
    session = Session(plan, 1, 1, recorder.pending(1), 60.0, known=recorder.known)
    assert Session.from_text(session.to_text()) == session


def test_the_time_left_has_the_launches_to_come_with_their_starts(a_recorder: Recorders) -> None:
    plan, display = a_plan(2), Heard()
    recorder = a_recorder(plan, launches_left=2, startup_seconds=5.0)
    recorder.progress = display
    recorder.handle(READY)
    recorder.handle(begun(0, time_left=TimeLeft(30.0, 40.0, 1.5)))
    assert ("expect", f"{30 + 2 * (5 + 40) + 1.5:g}") in display.calls
    recorder.handle(replace(record(plan, 0), time_left=TimeLeft(10.0, 20.0, 3.0)))
    expected = [call[1] for call in display.calls if call[0] == "expect"]
    assert expected[1] == f"{10 + 2 * (5 + 20) + 3:g}"
    recorder.budget_left = lambda: 42.0
    recorder.handle(replace(record(plan, 1), time_left=TimeLeft(10.0, 20.0, 3.0)))
    assert [call[1:] for call in display.calls if call[0] == "expect"][2] == ("45", "45"), (
        "never beyond the run's budget"
    )
    order = [call[0] for call in display.calls]
    assert order[-2:] == ["expect", "done"], "the line of a case has the time after it"


def test_a_case_that_ran_out_of_the_run_s_time_is_skipped_for_the_budget(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(a_plan(2, left_out=()))
    recorder.handle(READY)
    recorder.handle(begun(1))
    recorder.cut_off((1, 0), 0, "no end within the 7 s that were left of the run's time: rank 0 ...")
    assert recorder.exit_code == 0
    (cut,) = load(path).measurements
    assert cut.status == "skipped"
    assert was_left_out(cut)
    assert (cut.reason or "").endswith("rank 0 ...; give more with --budget")


def test_after_the_first_launch_the_display_has_the_rough_answer(a_recorder: Recorders) -> None:
    plan, display = a_plan(2, left_out=()), Heard()
    recorder = a_recorder(plan)
    recorder.progress = display
    recorder.handle(READY)
    recorder.handle(record(plan, 0, work=WorkFacts()))
    recorder.show_rough()
    said = [call[1] for call in display.calls if call[0] == "say"]
    assert said[0].startswith("Rough, from launch 1 of 3")
    assert said[1].startswith("  sum 1  ")


def test_calls_in_a_sample_are_those_of_a_launch_s_first_visit(a_recorder: Recorders) -> None:
    plan = a_plan(2, visits=3)
    recorder = a_recorder(plan)
    recorder.handle(READY)
    recorder.handle(record(plan, 0, calls=7))
    recorder.handle(record(plan, 0, visit=1, calls=8))
    recorder.handle(record(plan, 0, launch=1, calls=9))
    recorder.handle(record(plan, 1, "failed"))
    assert recorder.calls(0) == {"sum/run[size=1]": {"full": 7}}
    assert recorder.calls(1) == {"sum/run[size=1]": {"full": 9}}
    assert recorder.calls(2) == {}


@pytest.mark.parametrize(("verdict", "status", "code"), [(0, "complete", 0), (1, "complete", 1), (2, "complete", 2)])
def test_the_preset_s_verdict_is_the_exit_code(
    verdict: int, status: str, code: int, a_recorder: Recorders, path: Path
) -> None:
    recorder = a_recorder(judge=lambda file: verdict if file == path else 99)
    recorder.doctor = DoctorReport(host="node7", findings=[])
    recorder.handle(READY)
    assert recorder.finish() == code
    lines = saved(path)
    assert lines[0]["doctor"] == {"host": "node7", "findings": []}
    assert (lines[-1]["status"], lines[-1]["exit_code"]) == (status, code)


def test_a_record_that_no_reader_would_take_is_saved_as_failed(a_recorder: Recorders) -> None:
    """One such line would make the whole file unreadable."""
    plan = a_plan(2, left_out=())
    made = a_recorder(plan)
    made.handle(READY)
    made.handle(record(plan, 0, derived={"no good name": 1.0}))
    made.handle(record(plan, 1))
    first, second = load(made.path).measurements
    assert (first.status, first.variants, second.status) == ("failed", {}, "ok")
    assert (first.reason or "").startswith("its record cannot be saved: ")
    assert made.counts["failed"] == 1


def test_a_reason_between_cases_stands_in_the_end_line(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(a_plan(2, left_out=()))
    recorder.handle(READY)
    recorder.blame(0, "the ranks lost each other")
    recorder.end("failed", 3)
    end = load(path).end
    assert end is not None
    assert (end.status, end.reason) == ("failed", "the ranks lost each other")
    assert load(path).measurements == ()


def test_a_reason_during_a_case_is_the_cases(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(a_plan(2, left_out=()))
    recorder.handle(READY)
    recorder.handle(begun(1))
    recorder.blame(0, "the ranks lost each other")
    recorder.end("failed", 3)
    (failed,) = load(path).measurements
    end = load(path).end
    assert end is not None
    assert (failed.reason, end.reason) == ("the ranks lost each other", "")
