"""What-if analysis of recorded training: made-up traces with known answers, and the published one if at hand."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.analysis.explain.straggler_trace import load
from bench.analysis.explain.what_if import WhatIf
from bench.cli import call
from bench.errors import BenchError
from tests.support.straggler_traces import BACKWARD, CLIP, FORWARD, OPTIMIZER, SCATTER, TRANSFER, Job, always

pytest.importorskip("pyarrow")
TRACE = "BENCH_STRAGGLER_TRACE"


def whatif(path: Path, job: Job) -> WhatIf:
    job.frame().to_parquet(path / "trace.parquet")
    trace = load(path / "trace.parquet")
    found = WhatIf(trace.operations)
    # No gaps in these traces: run again, each step takes what was recorded.
    recorded = [job.step_seconds(step) for step in range(job.num_steps)]
    assert np.allclose(found.actual_steps, recorded)
    assert np.allclose(trace.recorded_seconds, recorded)
    return found


def test_a_job_without_stragglers_wastes_nothing(tmp_path: Path) -> None:
    found = whatif(tmp_path, Job(num_replicas=3, num_stages=4, num_microbatches=6))
    assert found.slowdown == pytest.approx(1.0)
    assert found.wasted_share == pytest.approx(0.0)


@pytest.mark.parametrize(("num_stages", "num_microbatches"), [(1, 3), (2, 2), (4, 8)])
def test_one_slow_worker_is_named_and_explains_nearly_all(
    tmp_path: Path, num_stages: int, num_microbatches: int
) -> None:
    def slow(seconds: float) -> Any:
        return lambda replica, stage, **_: seconds * (3.0 if (replica, stage) == (1, 0) else 1.0)

    job = Job(5, num_stages, num_microbatches, forward=slow(FORWARD), backward=slow(BACKWARD))
    found = whatif(tmp_path, job)
    # The ideal has every computation at the mean over the workers, one of which takes three times as long.
    mean = 1 + 2 / (5 * num_stages)
    ideal = replace(job, forward=always(FORWARD * mean), backward=always(BACKWARD * mean))
    assert found.ideal == pytest.approx(ideal.step_seconds())
    assert found.slowdown == pytest.approx(job.step_seconds() / ideal.step_seconds())
    assert found.worst_ranks == [1]  # stage 0, replica 1
    assert found.explained_by_worst_ranks is not None
    assert found.explained_by_worst_ranks > 0.97
    assert max(found.rank_slowdowns, key=found.rank_slowdowns.__getitem__) == 1


def test_without_a_pipeline_the_answer_is_arithmetic(tmp_path: Path) -> None:
    job = Job(2, 1, 4, forward=lambda replica, **_: FORWARD * (2 if replica else 1))
    found = whatif(tmp_path, job)
    end = SCATTER + CLIP + OPTIMIZER
    assert found.actual == pytest.approx(4 * (2 * FORWARD + BACKWARD) + end)
    assert found.ideal == pytest.approx(4 * (1.5 * FORWARD + BACKWARD) + end)
    assert found.explained_by_last_stage is None


def test_a_slow_last_stage_is_not_a_slow_rank(tmp_path: Path) -> None:
    def long(seconds: float) -> Any:
        return lambda stage, **_: seconds * (1.6 if stage == 3 else 1.0)

    found = whatif(tmp_path, Job(4, 4, 8, forward=long(FORWARD), backward=long(BACKWARD)))
    assert found.explained_by_last_stage is not None
    assert found.explained_by_worst_ranks is not None
    assert found.explained_by_last_stage > 1.0  # the other stages are faster than the mean
    assert found.explained_by_worst_ranks < 0.1  # the stage's other replicas are as slow
    by_stage = found.slowdown_by("stage")
    assert max(by_stage, key=by_stage.__getitem__) == 3


def test_a_slow_link_shows_as_the_kind_of_message(tmp_path: Path) -> None:
    def transfer(replica: int, stage: int, kind: str, **_: Any) -> float:
        return 20 * TRANSFER if (replica, stage, kind) == (0, 2, "forward") else TRANSFER

    job = Job(4, 4, 8, transfer=transfer)
    found = whatif(tmp_path, job)
    # One link of twelve: the median message is a healthy one.
    assert found.ideal == pytest.approx(replace(job, transfer=always(TRANSFER)).step_seconds())
    by_kind = found.slowdown_by_kind()
    assert max(by_kind, key=by_kind.__getitem__) in ("forward-recv", "forward-send")
    assert by_kind["backward-compute"] == pytest.approx(1.0)
    by_replica = found.slowdown_by("dp_rank")
    assert by_replica[0] == pytest.approx(found.slowdown)
    assert by_replica[1] == pytest.approx(1.0)


def test_unequal_sequences_slow_all_down_and_nobody_is_to_blame(tmp_path: Path) -> None:
    length = np.random.default_rng(3).uniform(0.5, 1.5, (6, 8, 8))

    def own(seconds: float) -> Any:
        return lambda step, replica, microbatch, **_: seconds * float(length[step, replica, microbatch])

    job = Job(8, 2, 8, num_steps=6, forward=own(FORWARD), backward=own(BACKWARD))
    found = whatif(tmp_path, job)
    mean = float(length.mean())
    ideal = replace(job, forward=always(FORWARD * mean), backward=always(BACKWARD * mean)).step_seconds()
    assert found.slowdown == pytest.approx(fmean(job.step_seconds(step) for step in range(6)) / ideal)
    assert found.slowdown > 1.1
    assert found.explained_by_worst_ranks is not None
    assert found.explained_by_worst_ranks < 0.5


def test_steps_unlike_the_first_are_left_out_and_counted(tmp_path: Path) -> None:
    frame = pd.concat([Job(num_steps=2).frame(), Job(num_microbatches=5).frame().assign(step=2)])
    frame.to_parquet(tmp_path / "t.parquet")
    trace = load(tmp_path / "t.parquet")
    assert (trace.steps, trace.steps_left_out) == ((0, 1), (2,))


def test_the_command_answers_first_and_prints_tables_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.parquet"

    def slow(replica: int, **_: Any) -> float:
        return FORWARD * (4 if replica == 1 else 1)

    Job(8, 1, 4, num_steps=4, forward=slow).frame().to_parquet(path)
    assert call(["explain", str(path), "--format", "json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["slowdown"] == pytest.approx(facts["actual_step_seconds"] / facts["ideal_step_seconds"])
    assert facts["wasted_share"] == pytest.approx(1 - 1 / facts["slowdown"])
    assert facts["steps_explained_by_worst_ranks"] == 4
    assert {row["sort"] for row in facts["rows"]} == {"kind", "stage", "dp_rank", "rank"}
    (accused,) = [found for found in facts["findings"] if found["kind"] == "stands_out"]
    assert accused["text"].startswith("rank 1 explains ")
    assert accused["text"].endswith("at least 25% in 4 of 4 steps")
    assert call(["explain", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"The step would be {facts['slowdown']:.2f}x as fast without stragglers; worst: rank 1"
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    for options in (["--all"], ["--format", "markdown"], ["--format", "csv"]):
        assert call(["explain", str(path), *options]) == 0
        assert "forward-compute" in capsys.readouterr().out
    assert call(["explain", str(path), "--waterfall"]) == 2
    assert "a trace has none" in capsys.readouterr().err


def test_nobody_is_accused_in_a_trace_of_random_or_no_stragglers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    length = np.random.default_rng(3).uniform(0.5, 1.5, (6, 8, 8))

    def own(step: int, replica: int, microbatch: int, **_: Any) -> float:
        return FORWARD * float(length[step, replica, microbatch])

    for job, said in (
        (Job(8, 2, 8, num_steps=6, forward=own), "no rank and no stage by itself is behind it"),
        (Job(4, 1, 4), "Stragglers cost little: the step would be 1.00x as fast without them"),
    ):
        path = tmp_path / f"{job.num_steps}.parquet"
        job.frame().to_parquet(path)
        assert call(["explain", str(path)]) == 0
        shown = capsys.readouterr().out
        assert said in shown
        assert "WHAT STANDS OUT" not in shown


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda frame: frame.drop(columns="gmc"), "no column gmc"),
        (lambda frame: frame.iloc[:0], "no operation"),
        (lambda frame: frame.assign(optype="sleep"), "unknown optype 'sleep'"),
        (lambda frame: frame.assign(duration=float("nan")), "duration has a value that is not a number"),
        (lambda frame: pd.concat([frame, frame]), "two rows are one operation"),
        (lambda frame: frame[frame["optype"] != "forward-recv"], "has no peer"),
        (lambda frame: frame[frame["stage"] != 1], "stage 1 computes nothing"),
    ],
)
def test_what_is_no_whole_trace_is_refused_in_one_line(tmp_path: Path, change: Any, said: str) -> None:
    change(Job().frame()).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(BenchError, match=said):
        load(tmp_path / "t.parquet")


def test_no_parquet_and_no_pyarrow_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.parquet").write_text("no parquet")
    with pytest.raises(BenchError, match="cannot be read as Parquet"):
        load(tmp_path / "t.parquet")

    def without(path: Path) -> None:
        raise ImportError("Unable to find a usable engine")

    monkeypatch.setattr(pd, "read_parquet", without)
    with pytest.raises(BenchError, match="install the extra `parquet`"):
        load(tmp_path / "t.parquet")


def test_the_published_trace_gives_the_published_answers() -> None:
    """trace-ST.parquet of ByteDance-Seed/StragglerAnalysis, and its result-ST.json, ms-ST.json and mw-ST.json."""
    path = os.environ.get(TRACE)
    if path is None:
        pytest.skip(f"{TRACE} does not name the artifact's trace-ST.parquet")
    found = WhatIf(load(Path(path)).operations)
    assert found.slowdown == pytest.approx(1.1787, rel=1e-3)
    assert found.actual == pytest.approx(2.1727, rel=1e-3)
    assert found.ideal == pytest.approx(1.8433, rel=1e-3)
    assert found.explained_by_last_stage == pytest.approx(1.219, rel=1e-2)
    assert found.explained_by_worst_ranks == pytest.approx(0.0314, abs=1e-3)
