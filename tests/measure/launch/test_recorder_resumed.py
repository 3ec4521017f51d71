"""What a resumed run knows of its file, and when it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench.errors import BenchError
from bench.measure.launch.recorder import done_turns
from bench.measure.planning.events import Ready
from bench.measure.planning.session import BUDGET_REASON
from bench.records.file import Result, load
from bench.records.lines.parts import Status
from tests.support.plans import a_plan
from tests.support.recorders import ENVIRONMENT, READY, Recorders, kinds, record, saved
from tests.support.results import end, header, not_ok, save


def test_a_resumed_run_knows_the_visits_and_the_calls_of_its_file(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(4, visits=2)

    def line(index: int, status: Status, **fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = msgspec.json.decode(record(plan, index, status, **fields).line)
        return made

    without_visit = {key: value for key, value in line(0, "ok", calls=5).items() if key != "visit"}
    left_out = line(3, "skipped") | {"reason": BUDGET_REASON}
    before = resumed(path, without_visit, line(1, "failed"), line(2, "ok", visit=1, launch=1), left_out)
    done = done_turns(plan, before)
    assert done == {(0, 0, 0), (0, 1, 0), (0, 1, 1), (1, 2, 1)}
    recorder = a_recorder(plan, before, done=done)
    assert set(recorder.pending(0)) == {(0, 1), (2, 0), (2, 1), (3, 0), (3, 1)}
    assert recorder.calls(0) == {"sum/run[size=1]": {"full": 5}}
    assert done_turns(plan, None) == set()


def resumed(path: Path, *records: dict[str, Any]) -> Result:
    return load(save(path, header(), *records))


def test_a_resumed_run_goes_on_in_its_file(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(2)
    before = resumed(path, not_ok("sum/run[size=1]", "skipped", "why"), end("interrupted", 130))
    recorder = a_recorder(plan, before)
    recorder.handle(READY)
    recorder.handle(READY)
    recorder.handle(record(plan, 1))
    recorder.end("complete", recorder.exit_code)
    assert kinds(path) == ["header", "measurement", "end", "resume", "measurement", "end"]
    after = load(path)
    assert [each.environment for each in after.resumes] == [ENVIRONMENT]
    assert after.end is not None
    assert (after.end.status, after.end.exit_code) == ("complete", 0)


@pytest.mark.parametrize("status", ["failed", "invalid"])
def test_a_resumed_run_s_exit_code_is_that_of_the_whole_file(a_recorder: Recorders, path: Path, status: str) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan, resumed(path, not_ok("sum/run[size=1]", status, "why")))
    recorder.handle(READY)
    recorder.handle(record(plan, 1))
    assert recorder.exit_code == 3


def unlike() -> Ready:
    versions = {**ENVIRONMENT.versions, "torch": "2.14.0"}
    return Ready(msgspec.structs.replace(ENVIRONMENT, versions=versions))


def test_a_run_is_not_resumed_on_another_set_up(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(resumed=resumed(path))
    with pytest.raises(BenchError) as caught:
        recorder.handle(unlike())
    assert str(caught.value) == (
        "run.jsonl was measured on another machine or set-up: versions.torch was '2.13.0', is '2.14.0'; "
        "resume it where it began, or say --allow-unlike"
    )
    recorder.end("failed", 2)
    assert kinds(path) == ["header"]  # kept, and as it was


def test_a_run_is_resumed_on_another_set_up_where_that_is_wanted(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(resumed=resumed(path), allow_unlike=True)
    recorder.handle(unlike())
    recorder.end("complete", 0)
    assert kinds(path) == ["header", "resume", "end"]
    assert saved(path)[1]["environment"]["versions"]["torch"] == "2.14.0"
