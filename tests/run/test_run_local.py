"""`bench run` with ranks of its own, through the real command: what is saved, and what happens when things go wrong."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
from collections import Counter
from itertools import combinations
from pathlib import Path

import psutil
import pytest

from bench.records.file import load
from bench.records.samples import sample_matrix
from bench.records.visits import num_samples
from tests.support.command import BENCH, FAULTY, SUITES, call, saved, start

TINY = str(SUITES / "tiny.py")
MINE = """from bench.suite import Work

def cases(machine):
    yield {"op": "one"}
    yield {"op": "two"}

def prepare(params, rank):
    def run():
        pass
    def check():
        return True
    return Work(variants={"full": run}, check=check)
"""
QUICK = ("--preset", "smoke", "--budget", "10m")
"""The smoke preset's short samples, with so much time that a busy machine leaves nothing out."""


def test_a_run_saves_what_it_measured_and_says_so(tmp_path: Path) -> None:
    several = ("--launches", "2", "--visits", "2")
    done = call("run", TINY, *QUICK, *several, "--label", "two launches", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    file = saved(tmp_path)
    # Every case at each visit of each launch, all ranks' samples, equally many of them.
    assert [(m["launch"], m["visit"]) for m in file.measurements] == [
        (launch, visit) for launch in (0, 1) for visit in (0, 1) for _ in range(3)
    ]
    assert len({(m["launch"], m["visit"], m["case"]) for m in file.measurements}) == 12
    assert file.header["plan"]["visits"] == 2
    for record in file.measurements:
        rows = record["variants"]["full"]["nanoseconds"]
        assert len(rows) == 2
        assert len(rows[0]) == len(rows[1]) == len(record["variants"]["nothing"]["nanoseconds"][0]) >= 3
        assert record["stop"]["samples"] == len(rows[0])
        assert record["check"] == {"error": 0.0, "tolerance": 0.0, "scope": "full", "error_after": 0.0}
        # Two traced calls on each rank, of one span each; none came from the timed samples.
        assert sorted((s[0], s[1], s[2]) for s in record["spans"]) == [(r, c, "sum") for r in (0, 1) for c in (0, 1)]
        assert record["derived"]["slowest_rank_seconds"] > 0
        assert record["per_rank"] == [{"doubled": 0.0}, {"doubled": 2.0}]
        assert record["tables"]["ranks"]["rows"] == [[0, 0.0, None], [1, 2.0, None]]
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("complete", 0)
    assert file.header["plan"]["suites"][0]["digest"]
    assert len(file.header["environment"]["ranks"]) == 2
    # stdout has the table and the closing lines, stderr the progress.
    assert f"saved: {file.path}" in done.stdout
    assert "bench run --like" in done.stdout
    assert re.search(r"^\d:\d\d left  █{10} 12/12  tiny \w+", done.stderr, re.MULTILINE)
    # After the first launch there is a rough answer, before the second begins.
    rough = r"/12  .*tiny .*\nRough, from launch 1 of 2, .*\n  tiny first  .*\n\d:\d\d left  [█░]{10} +\d+/12  tiny "
    assert re.search(rough, done.stderr)
    assert " left  " not in done.stdout
    result = load(file.path)
    merged = result.latest()
    assert [record.case for record in merged] == [f"tiny/{op}" for op in ("first", "second", "third") for _ in "12"]
    for record in merged:
        visits = [m for m in result.measurements if (m.case, m.launch) == (record.case, record.launch)]
        assert all(visit.stop is not None and visit.stop.samples == num_samples(visit) > 0 for visit in visits)
        parts = [num_samples(visit) for visit in visits]
        # A disturbed visit may not count, and one more may follow.
        sums = {sum(chosen) for size in range(1, len(parts) + 1) for chosen in combinations(parts, size)}
        assert record.stop is not None
        assert record.stop.samples == num_samples(record)
        assert num_samples(record) in sums


def test_show_reads_what_run_saved(tmp_path: Path) -> None:
    streamed = ("--set", "timing=streamed", "--set", "op=first", "--visits", "2")
    made = call("run", TINY, *QUICK, *streamed, "-o", str(tmp_path))
    assert made.returncode == 0, made.stderr
    file = saved(tmp_path)
    (row,) = json.loads(call("show", str(file.path), "--format", "json").stdout)["rows"]
    assert row["case"] == "tiny/first[timing=streamed]"
    assert row["params"] == {"op": "first", "timing": "streamed"}
    assert (row["status"], row["reason"], row["num_ranks"]) == ("ok", None, 2)
    assert row["mfu"] is row["tokens_per_s"] is None
    visits = [measurement["variants"]["full"] for measurement in file.measurements]
    assert len(visits) >= 2
    (calls,) = {visit["calls"] for visit in visits}
    assert 2 <= calls <= 32
    (whole,) = load(file.path).latest()  # those visits that count
    rows = sample_matrix(whole.variants["full"]).tolist()
    slowest = sorted(max(pair) / calls / 1e9 for pair in zip(*rows, strict=True))
    assert row["seconds_min"] == pytest.approx(slowest[0])
    assert row["seconds_max"] == pytest.approx(slowest[-1])
    assert row["busbw_gb_per_s"] == pytest.approx(row["algbw_gb_per_s"])  # the factor is 1 at two ranks
    assert row["algbw_gb_per_s"] == pytest.approx(32 / row["seconds_median"] / 1e9)


def test_a_suite_that_breaks_its_contract_is_told_once_and_the_others_go_on(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(MINE)
    done = call("run", str(mine), TINY, *QUICK, "-o", str(tmp_path / "out"))
    assert done.returncode == 3, done.stderr
    file = saved(tmp_path / "out")
    assert file.statuses() == {"first": "ok", "second": "ok", "third": "ok"} | dict.fromkeys(("one", "two"), "failed")
    said = "check() has to return (error, tolerance), two numbers; it returned True (mine.py, check, line 10)"
    assert file.of("one")["reason"] == file.of("two")["reason"] == said
    assert "".join(done.stderr.split()).count("".join(said.split())) == 1
    assert "1 more failed, for a reason said above" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.seeded
def test_what_breaks_is_saved_and_the_run_goes_on(tmp_path: Path) -> None:
    ops = "none,raise_one,raise_all,prepare_one,skip_one,memory,wrong,not_a_number,wrong_after,kill,last"
    done = call("run", FAULTY, *QUICK, "--set", f"op={ops}", "-o", str(tmp_path))
    assert done.returncode == 3, done.stderr
    file = saved(tmp_path)
    assert file.statuses() == {
        "none": "ok",
        "raise_one": "failed",
        "raise_all": "failed",
        "prepare_one": "failed",
        "skip_one": "skipped",
        "memory": "skipped",
        "wrong": "invalid",
        "not_a_number": "invalid",
        "wrong_after": "invalid",
        "kill": "failed",
        "last": "ok",
    }
    assert "rank 1" in file.of("raise_one")["reason"]
    assert "run went wrong (faulty.py, line" in file.of("raise_one")["reason"]
    assert "rank 1" in file.of("prepare_one")["reason"]
    assert "killed by SIGKILL in phase measure" in file.of("kill")["reason"]
    assert "rank 1 on " in file.of("kill")["reason"]
    assert "GiB" in file.of("memory")["reason"]
    assert file.of("wrong")["check"]["error"] == 1.0
    assert file.of("not_a_number")["check"]["error"] is None
    assert file.of("wrong_after")["check"]["error_after"] == 1.0
    assert file.end is not None
    assert file.end["exit_code"] == 3
    shown = json.loads(call("show", str(file.path), "--format", "json").stdout)
    rows = {row["params"]["op"]: row for row in shown["rows"]}
    assert rows["wrong_after"]["seconds_median"] is None  # measured, but its check failed: no speed
    assert call("show", str(file.path), "--status").returncode == 3


@pytest.mark.seeded
def test_an_earlier_error_of_all_ranks_is_not_the_cause_of_a_later_end(tmp_path: Path) -> None:
    done = call("run", FAULTY, *QUICK, "--set", "op=prepare_all,raise_one", "-o", str(tmp_path))
    assert done.returncode == 3, done.stderr
    file = saved(tmp_path)
    assert file.statuses() == {"prepare_all": "failed", "raise_one": "failed"}
    assert "prepare went wrong" in file.of("prepare_all")["reason"]
    assert "run went wrong" in file.of("raise_one")["reason"]


@pytest.mark.seeded
def test_a_hang_names_the_rank_that_did_not_arrive(tmp_path: Path) -> None:
    done = call("run", FAULTY, *QUICK, "--timeout", "3s", "--set", "op=hang,last", "-o", str(tmp_path))
    assert done.returncode == 3, done.stderr
    file = saved(tmp_path)
    assert file.statuses() == {"hang": "failed", "last": "ok"}
    reason = file.of("hang")["reason"]
    assert "rank 1 on " in reason
    assert "phase measure" in reason
    assert "faulty.py" in reason
    assert "rank 0" not in reason


@pytest.mark.long
@pytest.mark.seeded
def test_three_kills_end_the_run_and_resume_finishes_it(tmp_path: Path) -> None:
    suite = tmp_path / "killer.py"
    suite.write_text(Path(FAULTY).read_text().replace('"op": fault}', '"op": fault, "turn": 1}'))
    ended = call("run", str(suite), *QUICK, "--set", "op=exit", "--set", "turn=1,2,3,4", "-o", str(tmp_path))
    assert ended.returncode == 3
    file = saved(tmp_path)
    assert [m["status"] for m in file.measurements] == ["failed"] * 3
    assert "exit code 7" in file.measurements[0]["reason"]
    resumed = call("run", "--resume", str(file.path))
    assert resumed.returncode == 3, resumed.stderr
    file = saved(tmp_path)
    assert sorted(m["params"]["turn"] for m in file.measurements) == [1, 2, 3, 4]
    assert len(file.resumes) == 1
    # A suite whose code changed since is refused.
    suite.write_text(suite.read_text() + "\nCHANGED = True\n")
    refused = call("run", "--resume", str(file.path))
    assert refused.returncode == 2
    assert "changed" in refused.stderr


def test_ctrl_c_leaves_a_file_to_resume_and_no_process(tmp_path: Path) -> None:
    run = start([*BENCH, "run", FAULTY, *QUICK, "--set", "op=none,hang_all", "-o", str(tmp_path)], launcher=True)
    assert run.stderr is not None
    for line in run.stderr:
        if " 1/2  " in line:
            break
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) == 2
    os.kill(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "--resume" in errors
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    file = saved(tmp_path)
    assert file.statuses() == {"none": "ok"}
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("interrupted", 130)


@pytest.mark.long
def test_an_interrupted_launch_is_finished_visit_by_visit(tmp_path: Path) -> None:
    plan = ("--set", "op=first,second", "--set", "timing=streamed", "--visits", "2")
    run = start([*BENCH, "run", TINY, *QUICK, *plan, "-o", str(tmp_path)], launcher=True)
    assert run.stderr is not None
    for line in run.stderr:
        if " 1/4  " in line:
            break
    os.kill(run.pid, signal.SIGINT)
    run.communicate(timeout=30)
    before = saved(tmp_path)
    done = {(m["case"], m["visit"]): m for m in before.measurements}
    assert 1 <= len(done) < 4
    resumed = call("run", "--resume", str(before.path))
    assert resumed.returncode == 0, resumed.stderr
    file = saved(tmp_path)
    assert file.measurements[: len(done)] == before.measurements
    assert len({(m["case"], m["visit"]) for m in file.measurements}) == len(file.measurements) == 4
    assert f"{4 - len(done)} to do" in resumed.stderr
    result = load(file.path)
    assert min(Counter(visit.case for visit in result.measurements).values()) >= 2
    for record in result.latest():
        assert num_samples(record)
        assert not [note for note in record.notes if "unlike calls" in note]  # those in a sample are those of before


def test_a_killed_parent_leaves_no_orphans(tmp_path: Path) -> None:
    run = start([*BENCH, "run", FAULTY, *QUICK, "--set", "op=none,hang_all", "-o", str(tmp_path)], launcher=True)
    assert run.stderr is not None
    for line in run.stderr:
        if " 1/2  " in line:
            break
    children = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.communicate(timeout=30)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    assert saved(tmp_path).statuses() == {"none": "ok"}


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: both are an OSError of write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))

    import subprocess

    from tests.support.command import environ

    done = subprocess.run(
        [*BENCH, "run", TINY, *QUICK, "--launches", "3", "-o", str(tmp_path)],
        capture_output=True,
        text=True,
        env=environ(COVERAGE_PROCESS_CONFIG=""),  # its data are a file as well
        preexec_fn=limit,
        timeout=60,
    )
    assert done.returncode == 3
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("bench: error: ")
    assert "File too large" in said
    file = saved(tmp_path)
    assert file.path.stat().st_size <= 9_000
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 3)
    assert "File too large" in file.end["reason"]
    shown = call("show", str(file.path))
    assert shown.returncode == 0, shown.stderr


def test_one_rank_works_and_says_what_has_no_meaning(tmp_path: Path) -> None:
    done = call(
        *("run", "compute", "collective", "tensor_parallel", "pipeline_parallel", "--ranks", "1", *QUICK),
        *("--case", "compute/matmul[shape=square,size=256]", "--case", "collective/all_reduce[num_bytes=1024]"),
        *("-o", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    file = saved(tmp_path)
    assert file.statuses() == {"matmul": "ok", "all_reduce": "skipped"}
    assert "2 ranks" in file.of("all_reduce")["reason"]


@pytest.mark.long
def test_what_the_run_has_no_time_for_is_skipped_and_not_failed(tmp_path: Path) -> None:
    """A case that hangs for longer than is left, though for less than its time-out: only that is known of it."""
    timing = ("--preset", "smoke", "--budget", "20s", "--timeout", "5m")
    done = call("run", FAULTY, *timing, "--set", "op=hang,last", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    file = saved(tmp_path)
    assert file.statuses() == {"hang": "skipped", "last": "skipped"}
    assert file.of("last")["reason"].startswith("budget: no time was left")
    reason = file.of("hang")["reason"]
    assert reason.startswith("budget: no ")  # a busy machine may have had no time to begin it
    assert "that were left of the run's time: rank 1 on " in reason or reason.startswith("budget: no time was left")


def test_a_local_run_has_no_ranks_to_wait_for(tmp_path: Path) -> None:
    done = call("run", TINY, "--join-timeout", "5s", "-o", str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("bench: error: --join-timeout 5s: no launcher started this process")
