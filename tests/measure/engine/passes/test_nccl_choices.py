"""The untimed pass in which the backend says what it chose: a real run of two ranks, whose suite writes NCCL's text."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import bench
from bench.core import clock
from bench.errors import BenchError
from bench.measure.engine.passes import nccl_choices
from bench.measure.engine.passes.nccl_choices import DebugFile
from bench.measure.launch.recorder import Recorder
from bench.measure.launch.supervisor import Supervisor
from bench.measure.planning.cases import choose_cases, declared_machine
from bench.measure.planning.plan import Plan
from bench.measure.planning.suite_loader import load as load_suite
from bench.records import anonymize, rows
from bench.records.file import Result, load
from bench.records.lines.decoding import structure
from bench.records.lines.header import Environment
from bench.records.lines.kinds import Measurement
from bench.records.lines.parts import NcclChoice
from bench.records.run_file.run_file import RunFile
from bench.report import result_tables
from tests.support.command import SUITES
from tests.support.plans import a_plan
from tests.support.results import end, header, measurement, save, save_unchecked

CHATTY = str(SUITES / "chatty.py")
RING = {"function": "AllReduce", "num_bytes": 4096, "algorithm": "Ring", "protocol": "LL128", "channels": 8}
TREE = {"function": "AllReduce", "num_bytes": 64, "algorithm": "Tree", "protocol": "LL", "channels": 1}
SPLIT = [
    {"function": "ReduceScatter", "num_bytes": 2048, "algorithm": "NVLS", "protocol": "Simple", "channels": 16},
    {"function": "AllGather", "num_bytes": 2048, "algorithm": "Ring", "protocol": "LL", "channels": 2},
]


class Silent:
    """A display that shows nothing."""

    def ready(self, environment: Environment) -> None: ...
    def begin(self, case: str, expected_seconds: float | None = None, is_repeat: bool = False) -> None: ...
    def done(self, record: Measurement, is_repeat: bool = False) -> None: ...
    def drop(self, count: int) -> None: ...
    def expect(self, seconds: float, limit_seconds: float | None = None) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


def chatty_plan(*ops: str) -> Plan:
    suite = load_suite(CHATTY)
    cases = choose_cases([suite], declared_machine(2, "cpu", "smoke"), {"op": list(ops)} if ops else {}, ())
    plan = a_plan(launches=1, case_seconds=0.05, left_out=())
    return replace(plan, suites=(suite.facts,), cases=tuple(cases))


def supervised(path: Path, plan: Plan, resumed: Result | None = None, **fields: Any) -> int:
    writer = RunFile.create(path) if resumed is None else RunFile.resume(path)
    recorder = Recorder(plan, writer, Silent(), ["bench", "run"], "ab" * 16, resumed)
    return Supervisor(recorder, clock.monotonic_seconds(), **fields).run()


@pytest.mark.ranks
def test_the_pass_records_what_one_call_of_each_case_made_the_backend_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own.log"
    monkeypatch.setenv("NCCL_DEBUG_FILE", str(own))
    path = tmp_path / "run.jsonl"
    code = supervised(path, chatty_plan("ring", "graph", "split", "alone"), logged_backends=frozenset({"gloo"}))
    assert code == 0
    result = load(path)
    found = {record.case: msgspec.to_builtins(record.nccl) for record in result.choices}
    # A graph's replay says nothing: its capture did. `alone` moves no data between ranks, and is not asked about.
    assert found == {"chatty/ring": [RING], "chatty/graph": [TREE], "chatty/split": SPLIT}
    setup = result.choices[0].setup
    assert setup is not None
    assert (setup.coll_channels, setup.network) == (8, "Socket")
    # The user's own settings hold in the timed launches, and none of the pass's text is among it: every case was
    # prepared once there.
    assert own.read_text().count("NCCL version") == len(result.measurements) >= 4
    assert result.end is not None
    assert result.end.status == "complete"
    assert capsys.readouterr().err == ""


@pytest.mark.ranks
def test_a_case_that_breaks_in_the_pass_is_a_warning_and_the_others_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NCCL_DEBUG_FILE", raising=False)
    path = tmp_path / "run.jsonl"
    plan = chatty_plan("ring", "raises")
    assert supervised(path, plan, logged_backends=frozenset({"gloo"})) == 0
    result = load(path)
    assert [record.case for record in result.choices] == ["chatty/ring"]
    assert {record.status for record in result.measurements} == {"ok"}
    assert "chatty/raises" in capsys.readouterr().err


def test_the_pass_is_for_backends_that_say_what_they_choose_and_for_the_last_launch() -> None:
    recorder: Any = _Stub(a_plan(2))
    assert not Supervisor(recorder, 0.0)._reads_choices
    recorder.plan = a_plan(2, backend="nccl")
    assert Supervisor(recorder, 0.0)._reads_choices
    assert Supervisor(recorder, 0.0, only_launch=2)._reads_choices
    assert not Supervisor(recorder, 0.0, only_launch=1)._reads_choices
    # A GPU alone sends nothing, and of most suites nothing is kept.
    recorder.plan = a_plan(2, backend="nccl", world_size=1)
    assert not Supervisor(recorder, 0.0)._reads_choices
    for name, heard in (("compute", False), ("tensor_parallel", False), ("collective", True)):
        suite = msgspec.structs.replace(recorder.plan.suites[0], name=name, reference=name)
        recorder.plan = a_plan(2, backend="nccl", suites=(suite,))
        assert Supervisor(recorder, 0.0)._reads_choices is heard


class _Stub:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan


@pytest.mark.ranks
def test_the_pass_can_be_made_alone_for_an_alternation_that_stopped_early(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    plan = replace(chatty_plan("ring"), launches=2)
    assert supervised(path, plan, only_launch=0, logged_backends=frozenset({"gloo"})) == 0
    assert load(path).choices == ()
    assert supervised(path, plan, load(path), only_launch=2, logged_backends=frozenset({"gloo"})) == 0
    result = load(path)
    assert [msgspec.to_builtins(record.nccl) for record in result.choices] == [[RING]]
    assert {record.launch for record in result.measurements} == {0}


def test_a_budget_keeps_time_for_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "monotonic_seconds", lambda: 10.0)
    recorder: Any = _Stub(a_plan(2, backend="gloo", budget_seconds=101.5, launches=2))
    without = Supervisor(recorder, 10.0, startup_seconds=6.0)._seconds_left(0)
    recorder.plan = replace(recorder.plan, backend="nccl")
    kept = Supervisor(recorder, 10.0, startup_seconds=6.0)._seconds_left(0)
    # 1.5 s for the end; two launches of 50 s, their starts included; the pass: another start of 6 s, and its 2 s.
    assert (without, kept) == (50.0, 46.0)


def test_the_debug_file_is_found_by_host_and_process(tmp_path: Path) -> None:
    folder = tmp_path / "100%" / "a[b]"
    folder.mkdir(parents=True)
    pattern = nccl_choices.debug_environ(folder)["NCCL_DEBUG_FILE"]
    file = DebugFile.of_process({"NCCL_DEBUG_FILE": pattern}, 77)
    assert (file.whole(), file.new()) == ("", "")
    (folder / "nccl.other.177").write_text("not this one\n")
    (folder / "nccl.node-1.77").write_text("first\n")
    assert file.new() == "first\n"
    assert file.new() == ""
    with (folder / "nccl.node-1.77").open("a") as log:
        log.write("second\n")
    assert file.new() == "second\n"
    assert file.whole() == "first\nsecond\n"


def test_the_pass_switches_on_what_is_read_and_nothing_else(tmp_path: Path) -> None:
    assert set(nccl_choices.debug_environ(tmp_path)) == {"NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE"}
    assert nccl_choices.debug_environ(tmp_path)["NCCL_DEBUG"] == "INFO"
    assert set(nccl_choices.debug_environ(tmp_path)["NCCL_DEBUG_SUBSYS"].split(",")) == {"INIT", "COLL", "TUNING"}


@pytest.mark.parametrize(
    ("nccl", "columns", "text"),
    [
        ([RING], ("Ring", "LL128", 8), "Ring LL128 x8"),
        (SPLIT, ("NVLS+Ring", "Simple+LL", None), "NVLS+Ring Simple+LL"),
        ([RING | {"function": "Reduce"}, RING], ("Ring", "LL128", 8), "Ring LL128 x8"),
        ([RING | {"protocol": None, "algorithm": "AllReduce_AGxLL_R"}], ("AllReduce_AGxLL_R", None, 8), None),
        ([], (None, None, None), None),
        (None, (None, None, None), None),
    ],
)
def test_a_case_s_choices_as_columns(
    nccl: list[dict[str, Any]] | None, columns: tuple[Any, ...], text: str | None
) -> None:
    found = rows.nccl_columns(None if nccl is None else msgspec.convert(nccl, list[NcclChoice]))
    assert tuple(found.values()) == columns
    assert tuple(found) == ("nccl_algorithm", "nccl_protocol", "nccl_channels")
    if text:
        assert rows.nccl_words(found) == text


def chosen(case: str, *nccl: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "choices", "case": case, "nccl": list(nccl), "setup": None}


def test_show_has_the_choices_beside_the_speed_and_the_later_line_holds(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jsonl",
        header(),
        measurement("s/a[x=1]"),
        measurement("s/b[x=2]"),
        chosen("s/a[x=1]", TREE),
        chosen("s/a[x=1]", RING),
        end(),
    )
    result = load(path)
    assert [msgspec.to_builtins(record.nccl) for record in result.choices] == [[RING]]
    text = result_tables.tables([result])
    assert "NCCL" in text
    assert "Ring LL128 x8" in text
    rows = {row["case"]: row for row in json.loads(result_tables.tables([result], "json"))["rows"]}
    assert [rows["s/a[x=1]"][name] for name in ("nccl_algorithm", "nccl_protocol", "nccl_channels")] == [
        "Ring",
        "LL128",
        8,
    ]
    assert rows["s/b[x=2]"]["nccl_algorithm"] is None
    assert "nccl_algorithm" in result_tables.tables([result], "csv").splitlines()[0]
    loaded = bench.load(path)
    assert list(loaded["nccl_algorithm"].fillna("none")) == ["Ring", "none"]
    # A published copy keeps them.
    assert structure(chosen("s/a[x=1]", RING)) in list(anonymize.anonymize_result(result))


def test_files_without_choices_have_no_such_column(tmp_path: Path) -> None:
    result = load(save(tmp_path / "a.jsonl", header(), measurement("s/a[x=1]"), end()))
    assert result.choices == ()
    assert "NCCL" not in result_tables.tables([result])


def test_a_damaged_line_of_choices_is_named(tmp_path: Path) -> None:
    path = save_unchecked(tmp_path / "a.jsonl", header(), chosen("s/a") | {"nccl": ["Ring"]}, end())
    with pytest.raises(BenchError, match=r"record 2, a choices, cannot be read: nccl\[0\]"):
        load(path)
