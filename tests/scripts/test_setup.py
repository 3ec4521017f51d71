"""The set-up keeps the torch that an interpreter has, a vendor's pre-release too, and refuses one that is too old."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

from tests import ROOT
from tests.core.test_torch_versions import VENDORS, requirement

SCRIPTS = ROOT / "scripts"


def script(name: str) -> ModuleType:
    """A file of scripts/ as a module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_venv = script("setup_venv")


@pytest.mark.parametrize(
    "version", ["2.6.0", "2.7.1+cu128", "2.8", "2.8.0a0+abc.nv25.6", "2.8.0+cu128", "2.10.0", VENDORS, "3.0"]
)
def test_what_the_set_up_refuses_is_what_pip_would(version: str) -> None:
    if requirement().specifier.contains(version):
        setup_venv.refuse_old_torch(version)
        return
    with pytest.raises(setup_venv.SetupError, match=r"^torch 2\..* is too old: 2\.8 or newer is needed; name an"):
        setup_venv.refuse_old_torch(version)


def wheel(folder: Path, name: str, version: str, *requires: str) -> None:
    """A package without files."""
    described = f"{name.replace('-', '_')}-{version}"
    tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    head = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {text}" for text in requires),
    ]
    with zipfile.ZipFile(folder / f"{described}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{described}.dist-info/METADATA", "\n".join([*head, ""]))
        archive.writestr(f"{described}.dist-info/WHEEL", tag)
        archive.writestr(f"{described}.dist-info/RECORD", "")


def test_pip_says_its_errors_and_no_warnings(tmp_path: Path) -> None:
    nowhere = ["--no-index", "--find-links", str(tmp_path / "no-such-folder"), "--find-links", str(tmp_path)]
    wanted = ["--dry-run", *nowhere, "no-such-package"]
    done = subprocess.run(
        [sys.executable, *setup_venv.PIP_INSTALL, *wanted], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode != 0
    assert "ERROR: No matching distribution found for no-such-package" in done.stderr
    assert "WARNING" not in done.stderr + done.stdout
    loud = [sys.executable, "-m", "pip", "install", *wanted]
    assert "WARNING" in subprocess.run(loud, capture_output=True, text=True, timeout=100, check=False).stderr


def test_pip_keeps_a_vendor_s_pre_release(tmp_path: Path) -> None:
    """Of the lent torch and a newer release, under the constraints that the set-up writes, pip takes the lent one."""
    wheel(tmp_path, "torch", VENDORS)
    wheel(tmp_path, "torch", "2.99.0")
    wheel(tmp_path, "product", "1", str(requirement()))
    wanted = setup_venv.Plan(tmp_path, VENDORS, "", frozenset())
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--dry-run", "--ignore-installed", "--no-index", "--find-links", str(tmp_path), "--report", str(report)]
    command += ["--constraint", str(setup_venv.constraints(wanted)), "product"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    chosen = {
        item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(report.read_text())["install"]
    }
    assert Version(chosen["torch"]) == Version(VENDORS)
