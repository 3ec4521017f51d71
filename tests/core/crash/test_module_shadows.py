"""A file in the place of a module of Python or of a library is named in one line, by each command."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.core.crash.module_shadows import ShadowsNamed, describe_shadow
from bench.errors import BenchError
from tests import ROOT
from tests.support.command import call

SHADOWS = [
    ("statistics.py", "", "list"),
    ("random.py", "", "list"),
    ("click.py", "", "list"),
    ("numpy/__init__.py", "", "list"),
    ("random.py", "print(f'{1:')", "list"),  # the message of a syntax error varies
    ("statistics.py", "raise SystemExit('usage: statistics FILE')", "doctor"),
    ("typing_extensions.py", "", "doctor"),
    ("torch.py", "", "doctor"),
    ("socket.py", "", "doctor"),
]


@pytest.mark.parametrize(("name", "text", "command"), SHADOWS)
def test_a_file_in_the_way_is_named(name: str, text: str, command: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    done = call(command, PYTHONPATH=os.pathsep.join((str(tmp_path), str(ROOT))))
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    module = name.partition("/")[0].removesuffix(".py")
    assert line.startswith(f"bench: error: a file named like the module {module} is in the way: {file} (")
    assert line.endswith("); rename it, or take its folder off PYTHONPATH")


@pytest.mark.parametrize("launcher", [{}, {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}])
def test_a_run_names_it_before_ranks_start_or_meet(launcher: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "statistics.py").touch()
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = call("run", "collective", "--preset", "smoke", "-o", str(tmp_path), PYTHONPATH=path, **launcher)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert f"in the way: {tmp_path / 'statistics.py'} (" in line
    assert not list(tmp_path.glob("*.jsonl"))


def test_the_current_folder_has_another_remedy(tmp_path: Path) -> None:
    (tmp_path / "statistics.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", "bench", "list"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("; rename or move it\n")


SCRIPTS_RUN = {
    "scripts/setup": f"echo {sys.executable}",
    "bench/__init__.py": "",
    "bench/__main__.py": "print('own')",
}


def test_scripts_run_takes_its_own_checkout(tmp_path: Path) -> None:
    for place, text in SCRIPTS_RUN.items():
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(text)
    (tmp_path / "scripts" / "run").write_bytes((ROOT / "scripts" / "run").read_bytes())
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "bench.py").write_text("print('another')")
    environ = os.environ | {"PYTHONPATH": str(tmp_path / "theirs")}
    words = ["bash", str(tmp_path / "scripts" / "run")]
    assert subprocess.run(words, env=environ, capture_output=True, text=True, timeout=60, check=True).stdout == "own\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the user's on the path, whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _error_of(module: str) -> ImportError:
    with pytest.raises(ImportError) as raised:
        importlib.import_module(module)
    return raised.value


def test_errors_of_the_user_s_own_modules_stay_as_they_are(folder: Path) -> None:
    (folder / "my_helper.py").write_text("")
    (folder / "my_code.py").write_text("from my_helper import nothing")
    (folder / "my_broken_code.py").write_text("import no_such_module_anywhere")
    for module in ("my_code", "my_broken_code"):
        error = _error_of(module)
        assert describe_shadow(error) is None
        with pytest.raises(type(error)), ShadowsNamed():
            raise error


def test_a_second_copy_of_a_library_that_the_user_s_code_fails_on_is_the_user_s(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "msgspec")
    (folder / "msgspec.py").write_text("")
    (folder / "my_code.py").write_text("from msgspec import Struct")
    assert describe_shadow(_error_of("my_code")) is None


def test_it_is_found_behind_other_errors(folder: Path) -> None:
    (folder / "sched.py").write_text("value = {}['missing']")
    (folder / "my_code.py").write_text(
        "try:\n    import sched\nexcept KeyError as error:\n    raise OSError from error"
    )
    with pytest.raises(BenchError, match=r"^a file named like the module sched is .*\(KeyError: .*"), ShadowsNamed():
        importlib.import_module("my_code")


def test_an_error_that_has_nothing_to_do_with_it_stays(folder: Path) -> None:
    (folder / "sched.py").write_text("")
    importlib.import_module("sched")
    with pytest.raises(ZeroDivisionError), ShadowsNamed():
        _ = 1 / 0


def test_an_error_for_the_user_stays() -> None:
    with pytest.raises(BenchError, match=r"^as it was$"), ShadowsNamed():
        raise BenchError("as it was")
