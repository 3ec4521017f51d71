"""What is built holds the two packages with their data files, and its command works beside a stranger's bench.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest

import bench
from tests import ROOT

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
# The build backend's own entry point (PEP 517), so that the package `build` is not needed.
BUILD_SDIST = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
NOT_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "results")


def done(command: Sequence[str], folder: Path, **variables: str) -> str:
    """What a command said on stdout; fails with all it said where it did not succeed."""
    environ: Mapping[str, str] = os.environ | variables
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the checkout, so that nothing is left in it and no old build folder is taken in."""
    copy = shutil.copytree(ROOT, tmp_path_factory.mktemp("checkout") / "bench", ignore=NOT_SOURCES)
    done([sys.executable, "-P", "-c", BUILD_SDIST, str(copy / "dist")], copy)
    (archive,) = (copy / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, without a network: so the sdist lacks nothing either."""
    folder = tmp_path_factory.mktemp("wheel")
    done([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(sdist)], folder)
    (archive,) = folder.glob("*.whl")
    return archive


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed alone; what it needs comes from the interpreter of the tests."""
    folder = tmp_path_factory.mktemp("site")
    done([*PIP, "install", "--no-deps", "--no-index", "--target", str(folder), str(wheel)], folder)
    return folder


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the wheel in a new environment that has nothing else; what it needs is appended to its path."""
    folder = tmp_path_factory.mktemp("bare") / "env"
    done([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder.parent)
    done([*PIP, "--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel)], folder)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "bench"


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def source_files() -> set[str]:
    """All files of the two packages in the checkout, whatever pyproject.toml says of them."""
    files = [path for package in ("bench", "suites") for path in (ROOT / package).rglob("*") if path.is_file()]
    names = [path.relative_to(ROOT) for path in files]
    return {name.as_posix() for name in names if not any(p[0] == "." or p == "__pycache__" for p in name.parts)}


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == source_files()
    assert {"bench/py.typed", "bench/catalog/data/accelerators.csv", "bench/catalog/data/template_suite.py.txt"} <= held
    assert {"bench/cli/__init__.py", "suites/__init__.py", "suites/collective.py"} <= held
    assert {"bench/docs/changelog.md", "bench/docs/versions.md", "bench/catalog/data/SOURCES.md"} <= held


def test_the_metadata_says_what_a_stranger_asks(wheel: Path) -> None:
    facts = metadata(wheel)
    assert facts["Version"] == bench.__version__
    assert facts["Author"] == "The bench authors"
    assert facts["Author-email"] is facts["License"] is facts["License-Expression"] is None
    assert "distributed training" in facts["Keywords"].split(",")
    assert "Topic :: System :: Benchmark" in facts.get_all("Classifier", [])
    assert facts["Requires-Python"] == ">=3.11"
    assert f"## {bench.__version__}\n" in (ROOT / "bench" / "docs" / "changelog.md").read_text()


def test_every_data_file_has_its_source() -> None:
    folder = ROOT / "bench" / "catalog" / "data"
    text = (folder / "SOURCES.md").read_text()
    data = {path.name for path in folder.iterdir() if path.suffix in (".csv", ".json", ".txt")}
    assert not {name for name in data if f"`{name}`" not in text}


def test_the_command_works_in_a_bare_environment(bare: Path, tmp_path: Path) -> None:
    def said(*arguments: str) -> str:
        return done([str(bare), *arguments], tmp_path, PYTHONPATH="", PYTHONSAFEPATH="1", PIP_NO_INDEX="1")

    assert said("--version").splitlines()[0] == f"bench {bench.__version__}"
    assert "compute" in said("list")
    assert said("help", "versions").startswith("# Versions\n")
    assert "H100-SXM-80GB" in said("predict", "--model", "llama3-8b", "--accelerator", "h100", "--gpus", "8")


def test_the_sdist_holds_no_results_and_no_environment(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        paths = [Path(name).parts[1:] for name in archive.getnames()]
    top = {parts[0] for parts in paths if parts}
    assert {"pyproject.toml", "bench", "suites"} <= top
    assert not top & {"results", "shared", "build", "dist"}
    assert not [name for name in top if name.startswith(".")]


def test_the_command_works_beside_a_bench_py_and_suites_of_the_users_own(site: Path, tmp_path: Path) -> None:
    (tmp_path / "bench.py").write_text("raise SystemExit('the wrong bench')\n")
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "__init__.py").write_text("raise SystemExit('the wrong suites')\n")
    # The checkout may be on the path of the tests (an editable install): the wheel's folder comes first.
    table = done([str(site / "bin" / "bench"), "list"], tmp_path, PYTHONPATH=str(site))
    for suite in ("compute", "collective", "tensor_parallel", "pipeline_parallel"):
        assert suite in table
    template = done([str(site / "bin" / "bench"), "list", "--template"], tmp_path, PYTHONPATH=str(site))
    assert template == (ROOT / "bench" / "catalog" / "data" / "template_suite.py.txt").read_text()
    where = "import bench, suites, bench.catalog.accelerators; print(bench.__file__, suites.__file__)"
    found = done([sys.executable, "-P", "-c", where], tmp_path, PYTHONPATH=str(site)).split()
    assert found == [str(site / "bench" / "__init__.py"), str(site / "suites" / "__init__.py")]


def test_the_wheel_asks_for_what_the_constraints_pin(wheel: Path) -> None:
    """Each requirement has its tested version, so that no package is left to what the day brings."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "scripts" / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    asked = metadata(wheel).get_all("Requires-Dist", [])
    assert asked
    for line in asked:
        requirement = Requirement(line)
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, requirement
