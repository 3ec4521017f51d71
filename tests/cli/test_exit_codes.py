"""Exit code 1 means that a gate failed: each other way to end has another one, and one line or none on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import call, main
from tests import ROOT
from tests.support.command import BENCH, environ
from tests.support.plugins import install_package
from tests.support.results import end, header, measurement, save, save_unchecked

UNFORESEEN = "a mistake in bench itself, please report it; traceback: "


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of sh, in which `$BENCH` is the command."""
    variables = {"BENCH": " ".join(BENCH), "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, env=environ(**variables))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return save(tmp_path / "good.jsonl", header(), measurement("sum/one"), end())


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("$BENCH show good.jsonl > /dev/full", 2, "cannot write the output: No space left on device"),
        ("$BENCH list 2>&1 >/dev/full", 2, ""),
        ("$BENCH show nothing 2>/dev/full", 2, ""),
        ("$BENCH show nothing >&- 2>&-", 2, ""),
        ("$BENCH show good.jsonl <&- >&- 2>&-", 0, ""),
        ("PYTHONIOENCODING=ascii $BENCH show good.jsonl", 0, ""),
        ("LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 $BENCH list", 0, ""),
        (f"$BENCH show {'x' * 300}.jsonl", 2, "File name too long"),
        ("ln -s loop loop; $BENCH show loop", 2, "Too many levels of symbolic links"),
        ("mkdir gone; cd gone; rmdir ../gone; $BENCH show last", 2, "no result here"),
        ("COLUMNS=-3 $BENCH list", 0, ""),
    ],
)
def test_no_state_of_the_shell_makes_a_1(line: str, code: int, says: str, good: Path) -> None:
    done = shell(f"cd {good.parent}; {line}")
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == bool(says)


@pytest.mark.parametrize(
    ("raised", "says"),
    [
        ("KeyError('seeded')", f"KeyError: 'seeded'; {UNFORESEEN}"),
        ("SystemExit(1)", f"SystemExit: 1; {UNFORESEEN}"),
        ("SystemExit(0)", f"SystemExit: 0; {UNFORESEEN}"),
        ("SystemExit('words')", f"SystemExit: words; {UNFORESEEN}"),
        ("MemoryError()", "MemoryError; the memory did not suffice"),
        ("RecursionError('deep')", f"RecursionError: deep; {UNFORESEEN}"),
        ("OSError(5, 'Input/output error')", "cannot write the output: Input/output error"),
        ("PermissionError(13, 'Permission denied', 'f')", "cannot use 'f': Permission denied"),
        ("FileNotFoundError(2, 'No such file', 'f')", f"FileNotFoundError: [Errno 2] No such file: 'f'; {UNFORESEEN}"),
        ("ModuleNotFoundError('No module', name='pandas.core')", "the package pandas is missing"),
        ("ModuleNotFoundError('No module', name='suites')", f"ModuleNotFoundError: No module; {UNFORESEEN}"),
        ("type('Own', (BaseException,), {})('x')", f"Own: x; {UNFORESEEN}"),
        ("KeyboardInterrupt()", "interrupted"),
        ("BrokenPipeError()", ""),
    ],
)
def test_any_error_of_a_command_has_its_code(
    raised: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise eval(raised)

    monkeypatch.setattr("bench.measure.planning.listing.suites", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("threading.excepthook", None)
    monkeypatch.setattr("bench.cli._drop_output", lambda: None)  # it would close pytest's own
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    errors = capfd.readouterr().err
    foreseen = {"interrupted": 130, "": 141}.get(says, 2)
    assert ended.value.code == (70 if "traceback: " in errors else foreseen)
    assert ("traceback: " in errors) == ("Memory" in says or UNFORESEEN in says)
    assert says in errors
    assert len(errors.strip().splitlines()) == bool(says)  # click begins a new line after ^C
    assert len(list(tmp_path.iterdir())) == ("traceback: " in errors)


def test_so_has_any_error_before_there_is_a_command(tmp_path: Path) -> None:
    """A module of bench that cannot be imported; without an installed package; and both as the installed command."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['bench.core.terminal_table'] = None\n")
    done = shell("$BENCH show nothing", PYTHONPATH=f"{tmp_path}:{ROOT}", TMPDIR=str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) in ((2, 1), (70, 1)), done.stderr
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['bench.core.exit_codes'] = None\n")
    program = "import bench.__main__ as m; m.main()"
    lines = f"import sys\nsys.modules['click'] = None\n{program}"
    missing = subprocess.run(
        [sys.executable, "-c", lines, "list"], capture_output=True, text=True, timeout=60, env=environ(), cwd=ROOT
    )
    assert missing.returncode == 2
    (line,) = missing.stderr.splitlines()
    assert line.endswith("install what bench needs for this Python")


@pytest.mark.parametrize("code", [0, 1, 2, 3, 70, 130, 143, 255])
def test_the_status_of_a_run_is_passed_on(code: int, tmp_path: Path) -> None:
    file = save(tmp_path / "run.jsonl", header(), measurement("sum/one"), end("failed" if code else "complete", code))
    assert call(["show", str(file), "--status"]) == code


@pytest.mark.parametrize("code", [256, 257, 512, -1, -9, 2**31, 2**64, 2**70, 1.5, 1e300, "0", "1", True, [], {}])
def test_another_status_is_a_damaged_file(code: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [header(), measurement("sum/one"), end() | {"exit_code": code}, end()]
    file = save_unchecked(tmp_path / "run.jsonl", *rows)
    assert call(["show", str(file), "--status"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "exit_code" in line


def test_a_plugin_costs_a_row_and_the_others_work(tmp_path: Path) -> None:
    ends = {
        "skips": "import pytest\npytest.skip('here', allow_module_level=True)",
        "leaves": "import os\nos._exit(1)",
        "stops": "raise KeyboardInterrupt",
        "exits": "raise SystemExit(1)",
        "torn": "def cases(:",
        "works": "'Works: well.'\ndef cases(machine): yield {'size': 1}\ndef prepare(params, rank): ...",
    }
    modules = {f"plugin_that_{name}": source for name, source in ends.items()}
    install_package(tmp_path, "strangers", {name: f"plugin_that_{name}" for name in ends}, **modules)
    done = shell("$BENCH list --format json", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["suite"]: row["summary"] for row in json.loads(done.stdout)}
    assert rows["works"] == "Works: well."
    assert {name for name in ends if rows[name].startswith("cannot be used: ")} == ends.keys() - {"works"}
    assert len(rows) > len(ends)
