"""The file of a joined run: its header is there before the ranks meet, and says why they did not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec

from bench.measure.launch.joined_start import expected_place, find_place
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.planning.events import Ready
from bench.measure.planning.plan import Plan
from bench.records.file import load
from bench.records.lines.header import Environment
from tests.support.plans import a_plan
from tests.support.recorders import ENVIRONMENT, READY, Recorders, begun, kinds, record

ALONE = Environment(hosts=ENVIRONMENT.hosts, versions=ENVIRONMENT.versions)


def test_the_header_comes_before_the_ranks_and_their_line_after(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan)
    recorder.begin(ALONE)
    assert kinds(path) == ["header"]
    before = load(path)
    assert before.environment.ranks == []
    assert before.architecture == "ranks that did not meet"
    assert before.hosts() == list(ENVIRONMENT.hosts)
    recorder.handle(READY)
    recorder.handle(READY)  # a later generation of the same launch
    assert kinds(path) == ["header", "ranks", "measurement"]
    recorder.handle(begun(1))
    recorder.handle(record(plan, 1))
    recorder.end("complete", 0)
    result = load(path)
    assert result.environment == ENVIRONMENT
    assert result.architecture == ENVIRONMENT.architecture
    assert Plan.from_row(result.plan) == plan


def test_a_plan_that_the_places_changed_is_the_one_that_holds(a_recorder: Recorders, path: Path) -> None:
    plan = a_plan(2)
    recorder = a_recorder(plan)
    recorder.begin(ALONE)
    changed = replace(plan, threads_per_rank=7, cases=plan.cases[:1])
    recorder.change_plan(changed, None)
    recorder.handle(READY)
    recorder.end("complete", 0)
    assert Plan.from_row(load(path).plan) == changed


def test_a_meeting_that_failed_is_in_the_file(a_recorder: Recorders, path: Path) -> None:
    recorder = a_recorder(a_plan(2))
    recorder.begin(ALONE)
    recorder.trouble = "1 of 2 ranks came"
    recorder.end("failed", 2)
    result = load(path)
    assert result.end is not None
    assert (result.end.status, result.end.exit_code, result.end.reason) == ("failed", 2, "1 of 2 ranks came")
    assert result.measurements == ()


def test_a_run_whose_ranks_had_not_met_is_resumed_on_any_machine(a_recorder: Recorders, path: Path) -> None:
    first = a_recorder(a_plan(2))
    first.begin(ALONE)
    first.end("failed", 2)
    recorder = a_recorder(a_plan(2), resumed=load(path))
    other = msgspec.structs.replace(ENVIRONMENT, architecture="2 x Other")
    recorder.handle(Ready(other))
    recorder.end("complete", 0)
    assert kinds(path) == ["header", "end", "ranks", "resume", "end"]
    assert load(path).architecture == "2 x Other"


def test_a_later_launch_of_a_job_tells_its_end_although_its_ranks_did_not_meet(
    a_recorder: Recorders, path: Path
) -> None:
    first = a_recorder(a_plan(2))
    first.begin(ALONE)
    first.handle(READY)
    first.writer.close()  # the launch is over, and the process replaced
    later = a_recorder(a_plan(2), resumed=load(path), continues=True)
    later.trouble = "rank 1 did not come"
    later.end("failed", 3)
    end = load(path).end
    assert end is not None
    assert (end.status, end.exit_code, end.reason) == ("failed", 3, "rank 1 did not come")


def test_a_resumed_file_whose_ranks_do_not_meet_is_left_as_it_was(a_recorder: Recorders, path: Path) -> None:
    first = a_recorder(a_plan(2))
    first.handle(READY)
    first.end("interrupted", 130)
    before = path.read_bytes()
    recorder = a_recorder(a_plan(2), resumed=load(path))
    recorder.end("failed", 2)
    assert path.read_bytes() == before


def joined(address: str = "head", local_index: int | None = None, local_size: int | None = None) -> LauncherRank:
    return LauncherRank("env", 0, 8, local_index, address, 29500, False, "0", local_world_size=local_size)


def test_rank_0_expects_the_place_that_its_launcher_describes() -> None:
    assert expected_place(joined(local_index=0, local_size=4)) == Place(0, 8, 0, 4, num_hosts=2, device_index=0)
    assert expected_place(joined("127.0.0.1")).local_world_size == 8
    assert expected_place(joined("head")).local_world_size == 1


def test_places_follow_from_the_hosts_of_all() -> None:
    assert find_place(joined(), ["a"] * 4 + ["b"] * 4).local_world_size == 4
