"""The smoke preset from end to end, as a user runs it: every default suite measured, checked, saved, read and compared.

One run for the whole file; `--benchmark-json` keeps how long it took, with the medians that it measured.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from bench.measure.engine.timing.case_cost import DEAR_NOTE, DEAR_ROUNDS
from bench.measure.planning.presets import DEFAULT_SUITES, FURTHER_CASES, PRESETS
from bench.records.file import load
from bench.records.lines.decoding import plain
from tests import ROOT
from tests.support.command import Saved, call, environ, saved

pytestmark = pytest.mark.ranks

PROMISED_SECONDS = 60
WAIT_SECONDS = 180.0
"""Only so that a hang ends: how fast a busy machine is proves nothing."""

KEYS = (
    "suite", "case", "params", "status", "reason", "num_ranks", "num_samples", "seconds_median", "seconds_low",
    "seconds_high", "seconds_min", "seconds_max", "algbw_gb_per_s", "busbw_gb_per_s", "tflop_per_s", "mfu",
    "percent_of_measured_ceiling", "tokens_per_s", "speedup", "communication_share", "bubble_theory", "idle_share",
)  # fmt: skip
BUS_FACTORS = {  # nccl-tests, doc/PERFORMANCE.md, for two ranks
    "all_reduce": 1.0,
    "all_gather": 0.5,
    "reduce_scatter": 0.5,
    "all_to_all": 0.5,
    "gather": 0.5,
    "scatter": 0.5,
    "broadcast": 1.0,
    "reduce": 1.0,
}


class Smoke:
    """The run, made when it is first asked for; on the CPU also if there are GPUs."""

    COMMAND = ("run", "--preset", "smoke", "--device", "cpu")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def done(self) -> subprocess.CompletedProcess[str]:
        return call(*self.COMMAND, "-o", str(self.folder), timeout_seconds=WAIT_SECONDS)

    @cached_property
    def file(self) -> Saved:
        assert self.done.returncode == 0, self.done.stderr
        return saved(self.folder)

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Case -> its object in `bench show --format json`."""
        shown = call("show", str(self.file.path), "--format", "json")
        assert (shown.returncode, shown.stderr) == (0, "")
        return {row["case"]: row for row in json.loads(shown.stdout)["rows"]}

    @property
    def ok(self) -> dict[str, dict[str, Any]]:
        return {case: row for case, row in self.rows.items() if row["status"] == "ok"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Smoke:
    return Smoke(tmp_path_factory.mktemp("smoke"))


def test_smoke_measures_every_suite_and_checks_every_case(benchmark: Any, smoke: Smoke) -> None:
    done = benchmark.pedantic(lambda: smoke.done, rounds=1, iterations=1)
    assert done.returncode == 0, done.stderr
    file = smoke.file
    statuses = Counter((m["suite"], m["status"]) for m in file.measurements)
    assert {status for _, status in statuses} <= {"ok", "skipped"}
    # One case of each suite comes first, so that even a busy machine has a number for every one of them.
    assert all(statuses[suite, "ok"] for suite in (*DEFAULT_SUITES, *FURTHER_CASES["smoke"]))
    for record in file.measurements:
        if record["status"] == "skipped":
            assert record["reason"].startswith("budget")
            continue
        check = record["check"]
        is_dear = DEAR_NOTE in record["notes"]
        assert record["stop"]["samples"] == DEAR_ROUNDS or not is_dear
        assert len(record["variants"]) == 1 or not is_dear
        assert check["error"] <= check["tolerance"]
        assert check["error_after"] <= check["tolerance"]
        samples = next(iter(record["variants"].values()))["nanoseconds"]
        assert len(samples) == record["num_ranks"] == 2
        assert len(samples[0]) == len(samples[1]) > 0
        assert min(samples[0] + samples[1]) > 0
    benchmark.extra_info["seconds_median"] = {case: row["seconds_median"] for case, row in smoke.ok.items()}


def test_smoke_keeps_its_plan_and_leaves_nothing_unrecorded(smoke: Smoke) -> None:
    file = smoke.file
    plan = file.header["plan"]
    assert plan["budget_seconds"] == PRESETS["smoke"].budget_seconds <= PROMISED_SECONDS
    assert (plan["launches"], plan["world_size"], plan["backend"]) == (1, 2, "gloo")
    planned = [case["id"] for case in (*plan["cases"], *plan.get("left_out", ()))]
    recorded = [(record["case"], record.get("visit", 0)) for record in file.measurements]
    assert len(set(recorded)) == len(recorded)  # a disturbed visit is made again, as another one
    assert sorted({case for case, _ in recorded}) == sorted(planned)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("complete", 0)
    assert file.header["command"] == ["bench", *smoke.COMMAND, "-o", str(smoke.folder)]
    assert f"saved: {file.path}" in smoke.done.stdout
    lines = smoke.done.stdout.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines[:-1])) <= 100
    blocks = ("REACHED", "DOES PARALLELISM PAY?", "WHERE A TRAINING STEP GOES", "CORRECT", "NEXT")
    assert all(any(line.startswith(block) for line in lines) for block in blocks)


def test_the_first_cases_are_one_of_each_suite(smoke: Smoke) -> None:
    wanted = {case["suite"] for case in smoke.file.header["plan"]["cases"]}
    measured = [record for record in smoke.file.measurements if record["status"] == "ok"]
    first = [record["suite"] for record in measured if DEAR_NOTE not in record["notes"]][: len(wanted)]
    dear = {record["suite"] for record in measured if DEAR_NOTE in record["notes"]}
    assert set(first) | dear == wanted
    assert re.search(r"^\d:\d\d left  \S+ +\d+/\d+  \w", smoke.done.stderr, re.MULTILINE)


def test_show_has_every_promised_key_and_unknown_is_null(smoke: Smoke) -> None:
    plan = smoke.file.header["plan"]
    assert [row["case"] for row in smoke.rows.values()] == [
        c["id"] for c in (*plan["cases"], *plan.get("left_out", ()))
    ]
    for row in smoke.rows.values():
        assert not [key for key in KEYS if key not in row]
        numbers = [value for value in row.values() if isinstance(value, int | float)]
        assert -1 not in numbers
        assert all(abs(value) < float("inf") for value in numbers)
        if row["status"] != "ok":
            assert {row[key] for key in KEYS[KEYS.index("seconds_median") :]} == {None}
    barrier = smoke.rows["collective/barrier"]
    assert {barrier[key] for key in ("algbw_gb_per_s", "tflop_per_s", "tokens_per_s", "speedup")} == {None}


def test_shown_values_fit_together(smoke: Smoke) -> None:
    work = {record["case"]: record["work"] for record in smoke.file.measurements}
    for case, row in smoke.ok.items():
        seconds = row["seconds_median"]
        assert 0 < row["seconds_min"] <= seconds <= row["seconds_max"]
        assert row["seconds_low"] is None or row["seconds_low"] <= seconds <= row["seconds_high"]
        assert row["num_samples"] > 0
        op, num_bytes = row["params"].get("op"), row["params"].get("num_bytes")
        if row["suite"] == "collective" and op in BUS_FACTORS:
            assert row["algbw_gb_per_s"] == pytest.approx(num_bytes / seconds / 1e9)
            assert row["busbw_gb_per_s"] == pytest.approx(row["algbw_gb_per_s"] * BUS_FACTORS[op])
        if op == "matmul" and row["params"]["shape"] == "square":
            assert row["tflop_per_s"] == pytest.approx(2 * row["params"]["size"] ** 3 / seconds / 1e12)
        if work[case].get("flops") is not None:
            assert row["tflop_per_s"] == pytest.approx(work[case]["flops"] / row["num_ranks"] / seconds / 1e12)
        if work[case].get("tokens") is not None:
            assert row["tokens_per_s"] == pytest.approx(work[case]["tokens"] / seconds)
        assert row["mfu"] is None or 0 < row["mfu"] < 1
        assert row["communication_share"] is None or row["communication_share"] < 1
        assert row["bubble_theory"] is None or 0 <= row["bubble_theory"] < 1
        assert row["idle_share"] is None or 0 <= row["idle_share"] < 1


def test_every_suite_has_its_own_figures(smoke: Smoke) -> None:
    told = {
        "compute": "tflop_per_s",
        "collective": "busbw_gb_per_s",
        "point_to_point": "link_ceiling_gb_per_s",
        "overlap": "hidden_share",
        "tensor_parallel": "communication_share",
        "pipeline_parallel": "bubble_theory",
        "training_step": "tokens_per_s_per_device",
        "data_parallel": "exposed_communication_seconds",
        "inference": "tokens_per_s",
    }
    for suite, metric in told.items():
        assert [row[metric] for row in smoke.ok.values() if row["suite"] == suite and row[metric] is not None]
    squares = [
        row
        for row in smoke.ok.values()
        if row["suite"] == "compute" and row["params"].get("shape") == "square" and row["params"]["dtype"] == "float32"
    ]
    ceiling = max(squares, key=lambda row: row["params"]["size"])["tflop_per_s"]
    for row in smoke.ok.values():
        if row["tflop_per_s"] is not None and row["params"].get("dtype") == "float32":
            assert row["percent_of_measured_ceiling"] == pytest.approx(100 * row["tflop_per_s"] / ceiling)


def test_compared_with_itself_every_ratio_is_1(smoke: Smoke) -> None:
    path = str(smoke.file.path)
    done = call("compare", path, path, "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["differences"] == found["only_base"] == found["only_new"] == []
    assert sorted(pair["case"] for pair in found["rows"]) == sorted(smoke.ok)
    assert {pair["change"] for pair in found["rows"]} == {0.0}
    assert call("compare", path, path).returncode == 0


def test_a_published_copy_has_the_numbers_and_not_the_host(smoke: Smoke, tmp_path: Path) -> None:
    copy = tmp_path / "public.jsonl"
    done = call("show", str(smoke.file.path), "--share", "-o", str(copy))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines()[0] == "numbered: hosts 1"
    assert "fields left out: HostFacts.hostname 1" in done.stderr
    public, private = load(copy), load(smoke.file.path)
    assert public.warnings == ()
    assert public.hosts() == ["host0"]
    assert private.hosts() == [socket.gethostname()]
    name = rf"(?<![\w.-]){re.escape(socket.gethostname())}(?![\w-])"
    assert re.search(name, json.dumps(plain(private.header)))
    assert not re.search(name, json.dumps(plain(public.header)))
    assert str(smoke.folder) not in copy.read_text()
    assert [plain(m)["variants"] for m in public.measurements] == [plain(m)["variants"] for m in private.measurements]
    shown = json.loads(call("show", str(copy), "--format", "json").stdout)["rows"]
    elsewhere = {"host": "host0", "file": str(copy)}
    assert shown == [row | elsewhere for row in smoke.rows.values()]


_LOAD = """
import json, sys
import bench
sizes = {level: len(bench.load(sys.argv[1], level=level)) for level in ("case", "launch", "rank", "sample")}
print(json.dumps({"sizes": sizes, "torch": "torch" in sys.modules}))
"""


def test_load_reads_every_level_without_torch(smoke: Smoke) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _LOAD, str(smoke.file.path)],
        capture_output=True,
        text=True,
        check=True,
        env=environ(PYTHONPATH=str(ROOT)),
        timeout=60,
    )
    measured = [variant for m in load(smoke.file.path).latest() for variant in m.variants.values()]
    num_samples = sum(variant.nanoseconds.size for variant in measured if variant.nanoseconds is not None)
    num_cases = len(smoke.rows)
    sizes = {"case": num_cases, "launch": num_cases, "rank": 2 * len(measured), "sample": num_samples}
    assert json.loads(done.stdout) == {"sizes": sizes, "torch": False}
