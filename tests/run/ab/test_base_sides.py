"""`bench ab --base REF`: each side measures its own version of the project, and nothing is left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from bench.cli.run_command import given_options
from bench.core import clock, exit_codes
from bench.errors import BenchError
from bench.records.file import load
from bench.records.saved_plan import pair_of
from bench.run.ab.ab_sides import Setting, asking_words, first_words, next_words, schedule, side
from bench.run.ab.ab_sides import parse_pair_request as parse
from bench.run.ab.base_sides import find_project, own_reference, python_path, sides_from_base
from bench.run.ab.child import probe, start
from tests import ROOT
from tests.support import command
from tests.support.command import BENCH, environ
from tests.support.toy_repository import OFFLINE, git, make_repository, write_project

ASK = "import counted_toy, sys; print(counted_toy.UNITS, counted_toy.__file__)"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for what is temporary, empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    for name, value in (OFFLINE | {"TMPDIR": str(folder)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    yield folder
    assert [path.name for path in folder.iterdir() if path.name.startswith("bench-ab-")] == []


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = make_repository(tmp_path / "repository")
    monkeypatch.chdir(made)
    return made.resolve()


def unchanged(name: str, *texts: str) -> Setting:
    return side(name, texts, None, sys.executable, given_options)


def both(*texts: str) -> tuple[Setting, Setting]:
    return unchanged("a"), unchanged("b", *texts)


def said_by(chosen: Setting, code: str) -> str:
    """What a side's interpreter prints, with the side's variables."""
    variables = dict(os.environ) | dict(chosen.variables)
    done = subprocess.run([chosen.python, "-P", "-c", code], env=variables, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_each_side_has_its_own_version(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = git(root, "rev-parse", "HEAD")[:7]
    write_project(root, 40_000, "1.3")
    (root / "counted_toy" / "added.py").write_text("")
    with sides_from_base("main", both("X=1"), ["speed.py"]) as (a, b):
        assert said_by(a, ASK).startswith("20000 ")
        assert said_by(b, ASK).startswith("40000 ")
        assert "No module named" in said_by(a, "import counted_toy.added")
        assert said_by(b, "import counted_toy.added; print('there')") == "there"
        assert (a.setting, b.setting[:20]) == (f"main {commit}", f"working tree {commit}")
        assert b.setting.endswith(" X=1")
        assert (a.suites, a.folder, a.bench_root) == (None, None, None)  # the suite of the working tree
        ours = f"Python {sys.version.split()[0]}, torch {metadata.version('torch')}"
        assert [probe(each) for each in (a, b)] == [ours, ours]
    said = capsys.readouterr().err
    assert f"making two environments: main ({commit}) and the working tree ({commit}, 3 changed files)" in said
    assert f"a: Counted.Toy 1.2 from main {commit}" in said
    assert f"b: Counted.Toy 1.3 from working tree {commit}+" in said
    assert "both environments are made: " in said
    assert git(root, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert not list(root.glob("*.egg-info"))
    assert not (root / "build").exists()


def test_a_version_that_is_installed_here_is_not_lent(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running environment has the project already, as an environment in which one develops does."""
    site = tmp_path / "here" / "site-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(root)]
    (root / "counted_toy" / "only_here.py").write_text("")
    subprocess.run(pip, check=True, env=environ(**OFFLINE))
    git(root, "clean", "--quiet", "--force", "-d", "-x")
    monkeypatch.syspath_prepend(str(site))
    with sides_from_base("main", both("X=1"), ["speed.py"]) as (a, b):
        for each in (a, b):
            assert "/env/lib/" in said_by(each, ASK)
            assert "No module named" in said_by(each, "import counted_toy.only_here")
    assert (site / "counted_toy" / "only_here.py").exists()


def test_pythonpath_leads_each_side_into_its_own_tree(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_project(root, 40_000)
    monkeypatch.setenv("PYTHONPATH", str(root))
    with sides_from_base("main", both(), ["speed.py"]) as (a, b):
        assert said_by(a, ASK).startswith("20000 ")
        assert said_by(b, ASK).startswith("40000 ")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_project(elsewhere, 1)
    monkeypatch.setenv("PYTHONPATH", str(elsewhere))
    with (
        pytest.raises(BenchError, match=r"side a: its module counted_toy would be imported from .*/elsewhere/"),
        sides_from_base("main", both(), ["speed.py"]),
    ):
        pass


def test_a_project_that_is_not_packaged_is_run_from_its_trees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_repository(tmp_path / "repository", is_packaged=False).resolve()
    monkeypatch.chdir(root)
    (root / "counted_toy" / "__init__.py").write_text("UNITS = 7\n")
    with sides_from_base("main", both(), ["speed.py", str(root / "speed.py"), "compute"]) as (a, b):
        assert said_by(a, ASK).startswith("20000 ")
        assert said_by(b, ASK).startswith("7 ")
        assert a.suites == b.suites == ("speed.py", "speed.py", "compute")
        assert (a.folder, b.folder) == tuple(Path(dict(each.variables)["PYTHONPATH"]) for each in (a, b))
        assert a.folder != b.folder
    said = capsys.readouterr().err
    assert "no pyproject.toml or setup.py: suites that are files are run from each side's own tree" in said


def test_words_of_a_side_hold_wherever_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Setting("a", "python", (), (), None, frozenset(), "main", suites=("mine.py",))
    plan = schedule("smoke", parse(2, None), ())
    words = first_words((), ("given.py",), own, plan, "ab", Path("results/a.jsonl"), "{}")
    assert words[-2:] == asking_words((), ("given.py",), own)[-2:] == ["--", "mine.py"]
    assert str(tmp_path / "results" / "a.jsonl") in words
    assert str(tmp_path / "results" / "a.jsonl") in next_words(1, own, None, Path("results/a.jsonl"))


def test_what_asks_for_other_packages_gets_them(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_project(root, 1, dependencies='"nosuchpackage>=99"')
    with (
        pytest.raises(BenchError, match="side b: pip could not install its project"),
        sides_from_base("main", both(), ["speed.py"]),
    ):
        pass
    assert "nosuchpackage" in capfd.readouterr().err


def test_a_torch_that_is_asked_for_is_allowed_and_said(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "torch-2.0-py3-none-any.whl", "w") as archive:
        archive.writestr("torch-2.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.0\n")
        tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("torch-2.0.dist-info/WHEEL", tag)
        archive.writestr("torch-2.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    here = metadata.version("torch")
    write_project(root, 40_000, dependencies='"torch==2.0"')
    with sides_from_base("main", both(), ["speed.py"]) as (a, _):
        assert probe(a).endswith(f"torch {here}")
    said = capsys.readouterr().err
    assert f"b: its requirements ask for torch 2.0; here it is {here}" in said
    assert "a: its requirements" not in said
    assert metadata.version("torch") == here  # what is lent is not removed


def test_where_pythonpath_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, tree = tmp_path / "repository", tmp_path / "tree"
    root.mkdir()
    monkeypatch.chdir(root)

    def path(text: str, is_first: bool = False) -> str | None:
        monkeypatch.setenv("PYTHONPATH", text)
        return python_path(root, tree, is_first)

    assert path("") is None
    assert path("", is_first=True) == str(tree)
    assert path(f"{root}/src:/elsewhere:.") == f"{tree}/src:/elsewhere:{tree}"
    assert path(f"/elsewhere:{root}", is_first=True) == f"{tree}:/elsewhere"
    assert path(f"{root}/.venv/lib/python3/site-packages") == f"{root}/.venv/lib/python3/site-packages"


def test_a_suite_is_named_as_each_side_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "repository" / "sub")
    root = tmp_path / "repository"
    references = ("compute", "./mine.py", "../mine.py", f"{root}/mine.py", "../../outside.py")
    expected = ["compute", "mine.py", "../mine.py", "../mine.py", f"{tmp_path}/outside.py"]
    assert [own_reference(each, root) for each in references] == expected


def test_the_nearest_project_is_taken(tmp_path: Path) -> None:
    (tmp_path / "part" / "deep").mkdir(parents=True)
    assert find_project(tmp_path, tmp_path / "part" / "deep") == Path()
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "part" / "setup.py").write_text("")
    assert find_project(tmp_path, tmp_path / "part" / "deep") == Path("part")
    assert find_project(tmp_path, tmp_path) == Path()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--base", "nosuch"), "--base nosuch: .* has no such commit"),
        (("--base", "-x"), "--base -x: not the name of a commit"),
        (("--base", "main", "--b-python", "python"), "--base main with --b-python python: leave one of them out"),
        (("--base", "main", "--b", "nonsense"), "--b nonsense: a variable is NAME=VALUE"),
        (("--base", "main", "--pairs", "1"), "--pairs 1: at least 2"),
    ],
)
def test_mistakes_are_told_before_an_environment_is_made(root: Path, words: tuple[str, ...], said: str) -> None:
    done = subprocess.run([*BENCH, "ab", "speed.py", *words], env=environ(PYTHONPATH=str(ROOT)), capture_output=True)
    assert done.returncode == exit_codes.USAGE
    (line,) = done.stderr.decode().splitlines()
    assert re.search(said, line), line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(root: Path, temporary: Path, number: signal.Signals) -> None:
    words = [*BENCH, "ab", "speed.py", "--base", "main", "--ranks", "1", "--device", "cpu"]
    with command.start(words, PYTHONPATH=str(ROOT)) as process:
        try:
            assert process.stderr is not None
            next(line for line in process.stderr if line.startswith("making two environments"))
            deadline = clock.monotonic_seconds() + 30
            while not list(temporary.glob("bench-ab-*/b/env")) and clock.monotonic_seconds() < deadline:
                pass
            assert git(root, "worktree", "list", "--porcelain").count("worktree ") == 3
            process.send_signal(number)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 128 + number
    assert git(root, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert not (root / "results").exists()


@pytest.mark.long
@pytest.mark.seeded
@pytest.mark.parametrize(("units", "code"), [(400_000, exit_codes.GATE), (40_000, exit_codes.OK)])
def test_a_gate_on_a_project_that_has_changed(root: Path, units: int, code: int) -> None:
    """Ten times slower fails the gate, and unchanged passes it, where the machine may wander by 90%."""
    write_project(root, 40_000)
    git(root, "commit", "--quiet", "--all", "--message=Count further")
    write_project(root, units)
    words = ("--pairs", "4", "--budget", "80s", "--ranks", "1", "--device", "cpu", "--format", "json")
    command_line = [*BENCH, "ab", "speed.py", "--base", "main", "--fail-slower", "90%", *words]
    done = subprocess.run(command_line, env=environ(PYTHONPATH=str(ROOT)), capture_output=True, text=True, timeout=280)
    assert done.returncode == code, done.stderr
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["verdict"] == "slower") == (code == exit_codes.GATE)
    a, b = (load(next((root / "results").glob(f"ab_{name}-*.jsonl"))) for name in "ab")
    assert pair_of(a).setting.startswith("main ")  # type: ignore[union-attr]
    assert pair_of(b).setting.startswith("working tree ")  # type: ignore[union-attr]
    assert a.plan.suites[0].reference == b.plan.suites[0].reference == "speed.py"


@pytest.mark.long
def test_each_side_of_bench_itself_measures_with_its_own_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "checkout"
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "bench", "suites", "pyproject.toml", "README.md"],
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    if not any(tracked):
        pytest.skip("this is not a git checkout")
    for name in filter(None, tracked):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((ROOT / name).read_bytes())
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=Base")
    commit = git(root, "rev-parse", "HEAD")
    (root / "suites" / "added.py").write_text("from suites.compute import *\n")
    monkeypatch.chdir(root)
    with sides_from_base("main", both(), []) as (a, b):
        assert (a.bench_root is None, b.bench_root is None) == (False, False)
        for each in (a, b):
            words = ["run", "added", "--plan-only", "--device", "cpu"]
            ended = start(each, words)
            assert (ended.code == 0) == (each is b), ended.last_words
        file = tmp_path / "a.jsonl"
        case = ("--case", "compute/matmul[shape=square,size=256]")
        assert (
            start(
                a,
                ["run", "compute", *case, "--budget", "20s", "--ranks", "1", "--device", "cpu", "--save-as", str(file)],
            ).code
            == 0
        )
        assert load(file).environment.commit == commit
