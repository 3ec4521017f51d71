"""What nobody foresaw, wherever in a run it happens: one line, exit code 70, the traceback in a file, an end line."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from tests.run.test_run_attached import ends, free_port
from tests.support.command import BENCH, SUITES, call, environ, saved

TINY = (SUITES / "tiny.py").read_text()
SMOKE = ("--preset", "smoke", "--budget", "10m")
FALL = """
import os, sys
{module} = sys.modules.get("{path}")
if {module} is not None and not hasattr({module}, "seeded"):
    {module}.seeded = True
    def break_at(name, rank, nth, error, own=getattr({module}, "Generation", None)):
        genuine, calls = getattr(own, name), []
        def broken(self, *arguments):
            calls.append(1)
            if self.rank.index == rank and len(calls) == nth:
                raise error
            return genuine(self, *arguments)
        setattr(own, name, broken)
    break_at({arguments})
"""
LINE = re.compile(
    r"^bench: error: (?:rank \d+ on \S+: )?(\w+Error.*); a mistake in bench itself, please report it; "
    r"traceback: (\S+)$",
    re.MULTILINE,
)


def falling(folder: Path, arguments: str) -> str:
    """A suite in whose ranks a part of the engine raises, as `break_at` of FALL is told."""
    path = folder / "falling.py"
    path.write_text(TINY + FALL.format(module="worker", path="bench.measure.engine.worker", arguments=arguments))
    return str(path)


def the_line(errors: str) -> tuple[str, Path]:
    """The one line on the error, and the file with its traceback."""
    assert "Traceback" not in errors
    ((what, path),) = LINE.findall(errors)
    return what, Path(path)


def test_a_rank_s_own_mistake_between_cases_ends_the_run(tmp_path: Path) -> None:
    suite = falling(tmp_path, "'_account', 1, 2, KeyError('seeded')")
    done = call("run", suite, *SMOKE, "-o", str(tmp_path), TMPDIR=str(tmp_path))
    assert done.returncode == 70, done.stderr
    what, traceback = the_line(done.stderr)
    assert what == "KeyError: 'seeded'"
    assert "in broken" in traceback.read_text()
    file = saved(tmp_path)
    assert [m["status"] for m in file.measurements] == ["ok"] * len(file.measurements) != []
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 70)
    assert file.end["reason"].startswith("rank 1 on ")
    assert str(traceback) in file.end["reason"]
    assert call("show", str(file.path), "--status").returncode == 70


@pytest.mark.long
def test_a_rank_s_own_mistake_within_a_case_fails_the_case(tmp_path: Path) -> None:
    suite = falling(tmp_path, "'_case_run', 0, 2, TypeError('seeded')")
    done = call("run", suite, *SMOKE, "-o", str(tmp_path), TMPDIR=str(tmp_path))
    assert done.returncode == 3, done.stderr
    file = saved(tmp_path)
    assert sorted(m["status"] for m in file.measurements) == ["failed", "ok", "ok"]
    (reason,) = [m["reason"] for m in file.measurements if m["status"] == "failed"]
    assert "TypeError: seeded; a mistake in bench itself" in reason


@pytest.mark.launchers
@pytest.mark.parametrize("fallen", [pytest.param(0, marks=pytest.mark.long), 1])
def test_a_mistake_on_a_joined_rank_is_heard_by_all(fallen: int, tmp_path: Path) -> None:
    suite = falling(tmp_path, f"'_account', {fallen}, 2, AssertionError('seeded')")
    command = [*BENCH, "run", suite, *SMOKE, "-o", str(tmp_path), "--join-timeout", "30"]
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TMPDIR": str(tmp_path)}
    ranks = ends([(command, {"RANK": str(index), **where}) for index in (0, 1)])
    assert [code for code, _, _ in ranks] == [70, 70], ranks
    what, traceback = the_line(ranks[fallen][2])
    assert what == "AssertionError: seeded"
    assert traceback.exists()
    file = saved(tmp_path)
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("failed", 70)
    assert all("Traceback" not in errors for _, _, errors in ranks)
    reasons = [m["reason"] for m in file.measurements if m["status"] == "failed"] + [file.end.get("reason", "")]
    assert any(str(traceback) in reason for reason in reasons if reason)


MISTAKES = {
    "while events are kept": "import bench.measure.launch.recorder as m; m._HANDLERS[m.Recorded] = broken",
    "in the supervisor": "import bench.measure.launch.supervisor as m; m.Supervisor._launches = broken",
    "when it ends": "import bench.measure.launch.recorder as m; m.Recorder.finish = broken",
    "on the last screen": "import bench.run.closing as m; m.close = broken",
    "in planning": "import bench.run.run as m; m.open_run = broken",
}


@pytest.mark.parametrize(
    "where",
    [pytest.param(name, marks=pytest.mark.long) if name.startswith(("wh", "on")) else name for name in MISTAKES],
)
def test_a_mistake_in_the_parent_ends_the_file_too(where: str, tmp_path: Path) -> None:
    broken = "def broken(*_, **__): raise LookupError('seeded')"
    program = f"{broken}\n{MISTAKES[where]}\nfrom bench.cli import main; main()"
    command = [sys.executable, "-P", "-c", program, "run", str(SUITES / "tiny.py"), *SMOKE, "-o", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, env=environ(TMPDIR=str(tmp_path), PYTHONPATH=str(ROOT))
    )
    assert done.returncode == 70, done.stderr
    what, traceback = the_line(done.stderr)
    assert what == "LookupError: seeded"
    assert stat.S_IMODE(traceback.stat().st_mode) == 0o600
    if where in ("in planning", "in the supervisor", "while events are kept"):
        files = list(tmp_path.glob("*.jsonl"))
        assert all('"kind":"end"' in file.read_text() for file in files)
    else:
        assert saved(tmp_path).end is not None
    left = [path.name for path in tmp_path.iterdir() if path.is_dir()]
    assert left == []


@pytest.mark.long
def test_a_suite_that_leaves_in_its_case_fails_it_alone(tmp_path: Path) -> None:
    """Whatever a suite raises there: one that no `except Exception` sees, or an exit that says success."""
    ends_of = {"first": "raise SystemExit(0)", "second": "raise BaseException('mine')", "third": "pass"}
    suite = tmp_path / "leaving.py"
    body = "\n".join(f"    if params['op'] == {op!r}:\n        {end}" for op, end in ends_of.items())
    suite.write_text(TINY.replace("    import torch\n", f"{body}\n    import torch\n", 1))
    done = call("run", str(suite), *SMOKE, "-o", str(tmp_path))
    assert done.returncode == 3, done.stderr
    file = saved(tmp_path)
    assert file.statuses() == {"first": "failed", "second": "failed", "third": "ok"}
    assert "SystemExit: 0" in file.of("first")["reason"]
    assert "BaseException: mine" in file.of("second")["reason"]
