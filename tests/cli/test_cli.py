"""The command line: every mistake of a user ends with exit code 2 and one line, and every command explains itself.

Called in this process, with a launcher in place of the real one that says if ranks would have been started.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

import bench
from bench.cli import COMMANDS, call
from bench.measure.launch.supervisor import run_local as start_ranks
from bench.measure.system import host
from bench.records.file import load
from bench.records.lines.parts import Action, Finding, Level
from bench.run.baseline import compare_with_earlier
from tests import ROOT
from tests.support.command import BENCH, SUITES, environ
from tests.support.plans import plain_plan
from tests.support.results import end, header, measurement, save, save_unchecked

TINY = str(SUITES / "tiny.py")
ALL_REDUCE = "collective/all_reduce[num_bytes=1048576]"
ENOUGH_GPUS = 4096

SUITE_FILES = {
    "syntax.py": "def cases(:\n",
    "raises.py": "1 / 0\n",
    "leaves.py": "raise SystemExit(3)\n",
    "no_cases.py": "def prepare(params, rank): ...\n",
    "no_prepare.py": "def cases(machine): ...\n",
    "cases_raise.py": "def cases(machine):\n    raise KeyError('two\\nlines')\ndef prepare(params, rank): ...\n",
    "yields_3.py": "def cases(machine):\n    yield 3\ndef prepare(params, rank): ...\n",
    "yields_nan.py": "def cases(machine):\n    yield {'size': float('nan')}\ndef prepare(params, rank): ...\n",
    "returns_none.py": "def cases(machine): ...\ndef prepare(params, rank): ...\n",
    "no_case.py": "def cases(machine):\n    return []\ndef prepare(params, rank): ...\n",
    "sum.py": "def cases(machine):\n    yield {'size': 1}\ndef prepare(params, rank): ...\n",
}

BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.jsonl": (lambda path: None, "name a result file"),
    "empty.jsonl": (lambda path: path.write_bytes(b""), "is empty; measure again"),
    "torn.jsonl": (lambda path: path.write_bytes(b'{"kind":"header","schema":1,"run_id":"5d'), "delete it"),
    "binary.jsonl": (lambda path: path.write_bytes(bytes(range(256))), "is a binary file, not a bench result"),
    "newer.jsonl": (lambda path: save(path, header(schema=99)), "schema 99, this bench reads up to 1; update bench"),
    "other.jsonl": (lambda path: path.write_text('{"kind": "receipt"}\n'), "is not a bench result"),
    "list.jsonl": (lambda path: path.write_text("[1, 2]\n"), "is not a bench result"),
    "text.jsonl": (lambda path: path.write_text("Dear reader,\n"), "is not a bench result"),
    "folder": (lambda path: path.mkdir(), "folder"),
}


class Started(Exception):  # noqa: N818 - what a test may wait for
    """All checks are passed, and ranks would be started now."""


def _start_nothing(recorder: Any, *_: object) -> int:
    recorder.end("failed", 2)
    raise Started


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own with good and bad files, no launcher's variables, and no rank that really starts."""
    monkeypatch.chdir(tmp_path)
    for name in {*os.environ} - {*environ()}:
        monkeypatch.delenv(name)
    monkeypatch.setattr("bench.measure.launch.supervisor.run_local", _start_nothing)
    for name, source in SUITE_FILES.items():
        (tmp_path / name).write_text(source)
    for name, (make, _) in BAD_FILES.items():
        make(tmp_path / name)
    save(tmp_path / "good.jsonl", measurement(ALL_REDUCE), end())
    save(tmp_path / "copies.jsonl", measurement("compute/copy"), end())
    (tmp_path / "a_file").write_text("")
    return tmp_path


def files() -> list[Path]:
    return sorted(path for path in Path().rglob("*") if "__pycache__" not in path.parts)


def complaint(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """What a mistaken call says: one line on stderr, nothing on stdout, exit code 2, and no new file."""
    before = files()
    code = call(shlex.split(command))
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("bench: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert files() == before
    return err


@pytest.mark.parametrize(
    ("command", "value", "remedy"),
    [
        ("frobnicate", "'frobnicate'", "see: bench --help"),
        ("--frobnicate", "--frobnicate", "see: bench --help"),
        ("run --frobnicate", "--frobnicate", "see: bench run --help"),
        ("run --ranks two", "'two'", "see: bench run --help"),
        ("run --ranks 0", "--ranks 0", "at least 1"),
        ("run --ranks -1", "--ranks -1", "at least 1"),
        ("run --preset tiny", "'tiny'", "'smoke', 'standard', 'full'"),
        ("run --launcher pbs", "'pbs'", "'auto', 'local', 'env', 'slurm', 'mpi'"),
        ("run --launcher env", "RANK, WORLD_SIZE, MASTER_ADDR not set", "start with torchrun --no-python bench run"),
        ("run --launcher slurm", "--launcher slurm", "start with srun"),
        ("run --device tpu", "'tpu'", "'auto', 'cuda', 'cpu'"),
        ("run --device cpu --backend nccl", "backend nccl", "use --backend gloo"),
        ("run --device cpu --backend carrier_pigeon", "'carrier_pigeon'", "there are: gloo, nccl"),
        ("run --device cpu --budget 0", "--budget 0", "a time above 0, such as 90s"),
        ("run --device cpu --budget abc", "--budget abc", "a time such as 90s"),
        ("run --device cpu --budget ''", "--budget", "a time such as 90s"),
        ("run --device cpu --budget 1s", "--budget 1s", "give more"),
        ("run --device cpu --precision 0", "--precision 0", "such as 2%"),
        ("run --device cpu --precision 200%", "--precision 200%", "such as 2%"),
        ("run --device cpu --precision ''", "--precision", "such as 2%"),
        ("run --device cpu --launches 0", "--launches 0", "at least 1"),
        ("run --device cpu --launches two", "'two'", "see: bench run --help"),
        ("run --device cpu --seed -1", "--seed -1", "0 or more"),
        ("run --device cpu --timeout x", "--timeout x", "a time such as 90s"),
        ("run --device cpu --timeout 0", "--timeout 0", "a time above 0"),
        ("run --device cpu --timeout ''", "--timeout", "a time such as 90s"),
        ("list --ranks 0", "0 is not in the range", "see: bench list --help"),
        ("list --device tpu", "'tpu'", "'cpu', 'cuda'"),
        ("doctor --expect nonsense", "--expect nonsense", "such as gpus=8"),
        ("doctor --expect gpus=many", "--expect gpus=many", "such as gpus=8"),
        ("doctor --expect gpus=²", "--expect gpus=²", "such as gpus=8"),
        ("doctor --expect toasters=8", "'toasters'", "there are: gpus, ranks, cores, hosts"),
        ("show", "FILE", "see: bench show --help"),
        ("show '*.nothing'", "'*.nothing'", "mind the quotes"),
        ("compare good.jsonl", "one result", "name a second"),
        ("compare good.jsonl copies.jsonl", "no common case", "--like FILE"),
        *((f"{c} --format nope", "'nope'", "'table', 'markdown'") for c in ("list", "show x", "compare x y")),
    ],
)
def test_a_mistake_in_the_call(capsys: pytest.CaptureFixture[str], command: str, value: str, remedy: str) -> None:
    said = complaint(capsys, command)
    assert value in said
    assert remedy in said


@pytest.mark.parametrize("command", ["list", "run --device cpu"])
@pytest.mark.parametrize(
    ("reference", "what", "remedy"),
    [
        ("nothing", "no suite named 'nothing'", "there are: checkpoint, collective, compute,"),
        ("''", "no suite named ''", "the path of a .py file"),
        ("./gone.py", "no suite file 'gone.py'", "`bench list`"),
        ("a/folder/", "no suite file 'a/folder'", "`bench list`"),
        ("syntax.py", "SyntaxError: invalid syntax (syntax.py, line 1)", "fix the file"),
        ("raises.py", "ZeroDivisionError: division by zero (raises.py, line 1)", "fix the file"),
        ("leaves.py", "SystemExit: 3", "fix the file"),
        ("no_cases.py", "no function cases()", "`bench list --template` prints one"),
        ("no_prepare.py", "no function prepare()", "`bench list --template` prints one"),
        ("cases_raise.py", "cases() raised KeyError", "fix the file"),
        ("yields_3.py", "cases() yielded 3", "yield a dict"),
        ("yields_nan.py", "cases() yielded {'size': nan}", "yield a dict"),
        ("returns_none.py", "it returned None (returns_none.py, cases, line 1)", "has to return dicts of parameters"),
    ],
)
def test_a_suite_that_is_none(
    capsys: pytest.CaptureFixture[str], command: str, reference: str, what: str, remedy: str
) -> None:
    said = complaint(capsys, f"{command} {reference}")
    assert what in said
    assert remedy in said


def test_a_suite_without_a_case_leaves_nothing_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing to measure: no_case" in complaint(capsys, "run no_case.py --device cpu")


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("--set num_bytes", "--set num_bytes", "KEY=VALUE"),
        ("--set =4", "--set =4", "KEY=VALUE"),
        ("--set num_bytes=", "--set num_bytes=", "KEY=VALUE"),
        ("--set colour=red", "--set colour", "parameters: async_op, buffer, dtype, graph, l2, num_bytes"),
        ("--set num_bytes=-1", "num_bytes=-1", "at least 1"),
        ("--set num_bytes=0", "num_bytes=0", "at least 1"),
        ("--set num_bytes=1.5", "num_bytes=1.5", "at least 1"),
        ("--set num_bytes=1XiB", "num_bytes=1XiB", "such as 64KiB, 1MiB or 4GiB"),
        ("--set num_bytes=1e400", "num_bytes=1e400", "such as 64KiB, 1MiB or 4GiB"),
        ("--set num_bytes=1MiB,", "num_bytes=", "such as 64KiB, 1MiB or 4GiB"),
        ("--set op=all_reduced", "op=all_reduced", "suite collective takes all_reduce, all_gather"),
        ("--set timing=fast", "timing=fast", "suite collective takes aligned, streamed"),
        ("--set async_op=maybe", "async_op=maybe", "true or false"),
        (
            "--skip nonsense",
            "--skip nonsense",
            "not a suite, suite/op or case id of this run",
        ),
        ("--skip collective", "--skip collective leaves no case", "name fewer"),
        ("--case nonsense", "--case nonsense", "bench list"),
        ("--case collective/nonsense", "--case collective/nonsense", "op is one of all_reduce"),
        ("--case collective/all_reduce", "--case collective/all_reduce", "an id from `bench list collective`"),
        ("--case collective/all_reduce[num_bytes=4", "--case collective/all_reduce[num_bytes=4", "an id from"),
        ("--case collective/all_reduce[num_bytes=0]", "num_bytes=0", "at least 1"),
        ("--case collective/all_reduce[colour=red]", "'colour'", "it has dtype, timing, async_op"),
        ("--case compute/copy[num_bytes=1024]", "compute/copy[num_bytes=1024]", "not a case of collective"),
        ("--case collective/barrier --set num_bytes=4", "--set num_bytes with --case", "leave one of them out"),
    ],
)
def test_parameters_that_a_suite_cannot_have(
    capsys: pytest.CaptureFixture[str], setting: str, value: str, remedy: str
) -> None:
    said = complaint(capsys, f"run collective --device cpu {setting}")
    assert value in said
    assert remedy in said


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize(
    "command",
    [
        "show {}",
        "compare {} good.jsonl",
        "compare good.jsonl {}",
        "run --device cpu --resume {}",
        "run --device cpu --like {}",
        "run --device cpu --against {}",
    ],
)
def test_a_file_that_is_no_result(capsys: pytest.CaptureFixture[str], command: str, name: str) -> None:
    said = complaint(capsys, command.format(name))
    assert f"'{name}'" in said
    assert BAD_FILES[name][1] in said


@pytest.mark.parametrize(
    ("command", "refused"),
    [
        ("run compute --resume good.jsonl", "--resume good.jsonl: its plan is in the file; leave out SUITE"),
        ("run --resume good.jsonl --set size=4 --launches 9", "leave out --set, --launches"),
        ("run --resume good.jsonl --case compute/copy", "leave out --case"),
        ("run --like good.jsonl --skip compute", "leave out --skip"),
        ("run --resume good.jsonl -o elsewhere", "leave out --output"),
        ("run --resume good.jsonl --like copies.jsonl", "leave out --like"),
        ("run --like good.jsonl --preset smoke", "--like good.jsonl: its plan is in the file; leave out --preset"),
        ("run --like good.jsonl --seed 0", "leave out --seed"),
    ],
)
def test_a_saved_plan_and_another_one(capsys: pytest.CaptureFixture[str], command: str, refused: str) -> None:
    assert refused in complaint(capsys, command)


@pytest.mark.parametrize("option", ["--resume", "--like"])
@pytest.mark.parametrize(
    ("changes", "more", "what", "remedy"),
    [
        ({}, "", "suite sum has changed since", "say --allow-unlike"),
        ({}, "--allow-unlike --ranks 3", "2 ranks, not 3", "start as many"),
        ({"device_type": "cuda"}, "", "measured on cuda, and the device here is cpu", "saved.jsonl"),
        ({"colour": "red"}, "", "plan cannot be read", "measure again"),
    ],
)
def test_a_saved_plan_that_means_something_else_here(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    option: str,
    changes: dict[str, Any],
    more: str,
    what: str,
    remedy: str,
) -> None:
    save_unchecked(place / "saved.jsonl", header(plan=plain_plan() | changes))
    said = complaint(capsys, f"run --device cpu {option} saved.jsonl {more}")
    assert "saved.jsonl" in said
    assert what in said
    assert remedy in said


def test_like_without_a_hitch_starts(place: Path) -> None:
    """The tests above would say nothing if no plan were ever accepted."""
    save(place / "saved.jsonl", header(plan=plain_plan()))
    with pytest.raises(Started):
        call(shlex.split("run --device cpu --allow-unlike --like saved.jsonl --label again -o elsewhere"))


def test_against_is_looked_at_before_anything_is_measured(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    run = "run collective --device cpu --against"
    assert "none of its 1 cases will be measured" in complaint(capsys, f"{run} copies.jsonl")
    assert "no file matches '*.nothing'" in complaint(capsys, f"{run} '*.nothing'")
    with pytest.raises(Started):
        call(shlex.split(f"{run} good.jsonl"))


@pytest.mark.ranks
def test_a_run_is_not_compared_with_itself(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--against names the folder that the run is saved in."""
    monkeypatch.setattr("bench.measure.launch.supervisor.run_local", start_ranks)
    nanoseconds = [[4_000_000_000] * 9] * 2
    save(place / "runs" / "old.jsonl", header(label="old"), measurement("tiny/first", nanoseconds), end())
    quick = ("--device", "cpu", "--set", "op=first", "--preset", "smoke", "--budget", "10m", "--label", "new")
    runs = str(place / "runs")
    code = call(["run", TINY, *quick, "-o", runs, "--against", runs])
    out, err = capsys.readouterr()
    assert code == 0, err
    compared = out.partition("again: bench run --like ")[2]
    assert "new takes under 0.01x as long as old in tiny" in compared  # 4 s in the other file
    (row,) = [line for line in compared.splitlines() if line.startswith("tiny first ")]
    assert row.split()[-1] == "unclear"  # one launch a side
    assert "Same in all" not in compared


def test_a_comparison_that_is_no_longer_possible_does_not_spoil_the_run(place: Path) -> None:
    result = load(place / "good.jsonl")
    gone = compare_with_earlier(place / "gone.jsonl", result, colour=False)
    assert gone.startswith(f"--against {place / 'gone.jsonl'}: no file ")
    assert "no common case" in compare_with_earlier(place / "copies.jsonl", result, colour=False)


@pytest.mark.parametrize("folder", ["a_file", "a_file/under", "a_file/under/that"])
def test_a_result_that_could_not_be_saved(capsys: pytest.CaptureFixture[str], folder: str) -> None:
    said = complaint(capsys, f"run collective --device cpu -o {folder}")
    assert f"'{folder}" in said
    assert "with -o" in said


@pytest.mark.parametrize(
    ("more", "what", "remedy"),
    [
        ("-o a_file.csv", "'a_file.csv' exists", "give another name"),
        ("-o table.xls", "-o table.xls", ".csv, .md, .json, .parquet"),
        ("-o table", "-o table", ".csv, .md, .json, .parquet"),
        ("-o a_file/table.csv", "'a_file/table.csv'", "with -o"),
        ("-o nowhere/table.csv", "'nowhere/table.csv'", "with -o"),
        ("--share", "--share", "-o OUT.jsonl"),
        ("copies.jsonl --share -o public.jsonl", "--share of 2 file(s)", "one file"),
        ("--share -o good.jsonl", "'good.jsonl'", "never overwrites; give another name"),
        ("--share -o public.csv", "-o public.csv", ".jsonl"),
    ],
)
def test_an_export_that_cannot_be_made(
    capsys: pytest.CaptureFixture[str], place: Path, more: str, what: str, remedy: str
) -> None:
    (place / "a_file.csv").write_text("precious\n")
    before = (place / "good.jsonl").read_bytes()
    said = complaint(capsys, f"show good.jsonl {more}")
    assert what in said
    assert remedy in said
    assert (place / "a_file.csv").read_text() == "precious\n"
    assert (place / "good.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("device", "vendor", "variable"),
    [("proc/driver/nvidia/gpus/0000:01:00.0", "1 NVIDIA GPU", "CUDA_VISIBLE_DEVICES"), ("dev/kfd", "AMD", "HIP_")],
)
@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_accelerators_that_torch_cannot_use_are_not_passed_over(
    capsys: pytest.CaptureFixture[str],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    vendor: str,
    variable: str,
    wanted: str,
) -> None:
    (place / "root" / device).mkdir(parents=True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    looked = partial(host.unusable_accelerators, root=place / "root")
    monkeypatch.setattr("bench.measure.system.host.unusable_accelerators", looked)
    said = complaint(capsys, f"run --device {wanted}")
    assert vendor in said
    assert variable in said
    assert said.count("--device cpu") == 1
    with pytest.raises(Started):  # asked for by name, the CPU is measured
        call(["run", "--device", "cpu"])


def test_a_gpu_that_is_not_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("bench.measure.system.host.unusable_accelerators", lambda num_visible: None)
    said = complaint(capsys, "run --device cuda")
    assert "--device cuda: torch sees no GPU here" in said
    assert "--device cpu" in said


def test_an_expectation_of_the_machine_is_a_gate(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["doctor", "--expect", f"gpus={ENOUGH_GPUS}"]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    (failed,) = [line for line in out.splitlines() if line.startswith("fail: expected gpus: ")]
    assert f"not {ENOUGH_GPUS}" in failed
    assert out.splitlines()[0].startswith("Not ready: 1 failure: expected gpus")


@pytest.mark.parametrize(
    ("levels", "strict", "verdict"),
    [
        ("", False, "Ready."),
        ("load:warn", False, "Ready, with 1 warning: load."),
        ("load:warn", True, "Not ready: 1 warning: load."),
        ("torch:fail GPUs:fail load:warn", False, "Not ready: 2 failures: torch, GPUs; 1 warning: load."),
    ],
)
def test_the_doctor_begins_with_its_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, levels: str, strict: bool, verdict: str
) -> None:
    pairs = [text.split(":") for text in levels.split()]
    findings = [Finding("ok", "memory", "8 GiB"), *(Finding(cast("Level", level), what, "so") for what, level in pairs)]
    monkeypatch.setattr("bench.measure.doctor.checks.gather", lambda: None)
    monkeypatch.setattr("bench.measure.doctor.checks.examine", lambda facts, expect: findings)
    code = call(["doctor", *(["--strict"] if strict else [])])
    first, *others = capsys.readouterr().out.splitlines()
    assert (code, first) == (int("Not" in verdict), verdict)
    order = [line.partition(":")[0] for line in others]
    assert order == sorted(order, key=("fail", "warn", "ok").index)
    assert len(order) == len(findings)


@pytest.mark.parametrize(
    ("actions", "step"),
    [
        ("reset", "reset the device"),
        ("reset reboot", "reboot this node"),
        ("reboot isolate reset", "isolate this node"),
    ],
)
def test_the_verdict_names_the_hardest_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, actions: str, step: str
) -> None:
    findings = [Finding("fail", "GPU 0", "x", "so", cast("Action", action)) for action in actions.split()]
    monkeypatch.setattr("bench.measure.doctor.checks.gather", lambda: None)
    monkeypatch.setattr("bench.measure.doctor.checks.examine", lambda facts, expect: findings)
    assert call(["doctor"]) == 1
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.endswith(f" Next: {step}.")
    assert second == f"fail: GPU 0: x; {step.split()[0]}: so"


def test_the_package_shows_its_public_names_alone() -> None:
    assert dir(bench) == ["__version__", "load"]


def test_ctrl_c_before_a_record_names_no_file_that_is_gone(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("bench.measure.launch.supervisor.run_local", interrupted)
    assert call(["run", "collective", "--device", "cpu"]) == 130
    _, err = capsys.readouterr()
    assert err.splitlines()[-1] == "interrupted; nothing was measured"
    assert not list((place / "results").iterdir())


def test_no_command_shows_what_there_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert call([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert all(f"  {name} " in err for name in COMMANDS)


def test_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    lines = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert {"bench", "torch", "cuda", "python"} <= set(lines)
    assert lines["python"] == ".".join(map(str, sys.version_info[:3]))


_ASK_FOR_HELP = """
import json, sys
from bench.cli import COMMANDS, call
codes = [call([*name, "--help"]) for name in ([], *([name] for name in COMMANDS))]
print(json.dumps({"codes": codes, "heavy": [name for name in ("torch", "pandas", "numpy") if name in sys.modules]}))
"""


def test_help_of_every_command_has_an_example_and_is_light() -> None:
    root = str(SUITES.parent.parent)
    asked = [sys.executable, "-c", _ASK_FOR_HELP]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, env=environ(PYTHONPATH=root), timeout=60)
    *pages, found = done.stdout.strip().rsplit("\n", 1)
    assert json.loads(found) == {"codes": [0] * (1 + len(COMMANDS)), "heavy": []}
    parts = "\n".join(pages).split("Usage: ")[1:]
    assert [part.split()[:2] for part in parts] == [["bench", "[OPTIONS]"], *(["bench", name] for name in COMMANDS)]
    for part, name in zip(parts, ("run", *COMMANDS), strict=True):
        assert f"\n    bench {name}" in part.partition("Examples:")[2]


@pytest.mark.parametrize("words", [["list"], ["--help"], ["show", "--help"]])
def test_a_reader_that_goes_away_is_no_error(words: list[str]) -> None:
    """As in `bench list | head -1`."""
    command = subprocess.Popen([*BENCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ())
    assert command.stdout is not None
    command.stdout.close()
    _, err = command.communicate(timeout=60)
    assert (command.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    ("variables", "has_colour"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_colour_reaches_a_pipe_if_it_is_forced(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    has_colour: bool,
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    emulated = ROOT / "results" / "emulated"
    assert call(["compare", str(emulated / "plain"), str(emulated / "slow-rank")]) == 0
    out = capsys.readouterr().out
    assert ("\x1b[31mslower" in out) is has_colour
    assert "slower" in out
