"""An environment of a side: what is lent and what is hidden, and how a project is known."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

from bench.errors import BenchError
from bench.run.ab.side_environment import (
    canonical,
    files_of,
    is_packaged,
    lent_folders,
    link_packages,
    modules_of,
    run_at_once,
)


def install(folder: Path, name: str, *files: str) -> metadata.Distribution:
    """A distribution as pip leaves it."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(
        "".join(f"{file},,\n" for file in (*files, f"{info.name}/METADATA", f"{info.name}/RECORD"))
    )
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (found,) = metadata.distributions(path=[str(folder)], name=name)
    return found


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pyproject.toml", "[project]\nname = 'x'\n", True),
        ("pyproject.toml", "[build-system]\nrequires = []\n", True),
        ("pyproject.toml", "[tool.ruff]\nline-length = 120\n", False),
        ("setup.py", "", True),
        ("README.md", "", False),
    ],
)
def test_a_project_is_what_pip_can_install(tmp_path: Path, name: str, text: str, expected: bool) -> None:
    (tmp_path / name).write_text(text)
    assert is_packaged(tmp_path) == expected


def test_a_broken_pyproject_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project\n")
    with pytest.raises(BenchError, match=r"pyproject\.toml: cannot be read"):
        is_packaged(tmp_path)


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        (("toy/__init__.py", "toy/part/__init__.py", "toy/part/x.py"), ["toy"]),
        (("single.py", "_fast.cpython-311-x86_64-linux-gnu.so"), ["_fast", "single"]),
        (("space/one/__init__.py", "space/two/__init__.py", "space/two/in/__init__.py"), ["space.one", "space.two"]),
        (("../../../bin/toy", "toy/__init__.py", "toy/__pycache__/x.pyc"), ["toy"]),
        (("share/data.txt",), []),
    ],
)
def test_the_modules_of_a_project(tmp_path: Path, files: tuple[str, ...], modules: list[str]) -> None:
    folder = tmp_path / "lib" / "python3" / "site-packages"
    assert modules_of(install(folder, "toy", *files)) == modules


def test_all_is_lent_but_what_is_hidden(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    install(source, "other", "other/__init__.py", "space/other/__init__.py", "other.pth")
    install(
        source, "My.Toy", "toy/__init__.py", "toy/x.py", "space/toy/__init__.py", "__editable__.toy.pth", "single.py"
    )
    (source / "toy" / "__pycache__").mkdir()
    hidden = files_of(source, ["my-toy"])
    assert PurePosixPath("toy/x.py") in hidden
    target.mkdir()
    link_packages(source, target, hidden)
    assert sorted(path.name for path in target.iterdir()) == ["other", "other-1.0.dist-info", "other.pth", "space"]
    assert [path.name for path in (target / "space").iterdir()] == ["other"]
    assert (target / "other").is_symlink()
    assert not (target / "space").is_symlink()
    assert [each.name for each in metadata.distributions(path=[str(target)])] == ["other"]
    assert files_of(source, []) == set()


def test_names_are_compared_as_the_index_does() -> None:
    assert canonical("My_Toy.kit") == canonical("my-toy--kit") == "my-toy-kit"


def test_what_is_lent_is_what_this_interpreter_sees() -> None:
    folders = lent_folders()
    assert Path(pytest.__file__).parent.parent in folders
    assert set(map(str, folders)) <= set(sys.path)


def test_commands_run_at_once_and_say_how_they_ended() -> None:
    ends = run_at_once([[sys.executable, "-c", f"import sys; print({n}); sys.exit({n})"] for n in (0, 3)])
    assert ends == [(0, "0\n"), (3, "3\n")]
