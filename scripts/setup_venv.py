"""Make or mend the virtual environment of this checkout, and print the path of its Python.

    python3 scripts/setup_venv.py [EXTRA...]

Uses only the standard library of the interpreter that runs it. An interpreter that has torch already keeps it: its
packages are made visible in the new environment, and pip is told that just that torch will do. A stamp, written last,
says that an installation is whole; without it the environment is made anew, so an interrupted one mends itself. A lock
lets one call install while others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"


def existing_torch() -> str | None:
    """Version of the torch that this interpreter has."""
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return None


def fingerprint(torch: str | None) -> str:
    """Of everything that decides what is installed."""
    parts = [platform.python_version(), sys.prefix, str(torch), str(ROOT)]
    files = [(ROOT / "pyproject.toml").read_text(), CONSTRAINTS.read_text()]
    return hashlib.sha256("\n".join(parts + files).encode()).hexdigest()


def folder() -> Path:
    """`.venv`, or one of its own for an interpreter that was named with PYTHON."""
    named = os.environ.get("PYTHON")
    if not named:
        return ROOT / ".venv"
    return ROOT / f".venv-{hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]}"


def read_stamp(target: Path) -> dict[str, object]:
    try:
        stamp = json.loads((target / "stamp.json").read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_ready(target: Path, mark: str, extras: set[str]) -> bool:
    stamp = read_stamp(target)
    installed = stamp.get("extras")
    return stamp.get("fingerprint") == mark and isinstance(installed, list) and extras <= set(installed)


def constraints_for(torch: str | None, target: Path) -> Path:
    """The tested versions; with an existing torch, that one in place of ours."""
    if torch is None:
        return CONSTRAINTS
    others = [line for line in CONSTRAINTS.read_text().splitlines() if not line.startswith("torch==")]
    path = target / "constraints.txt"
    path.write_text("\n".join([*others, f"torch=={torch}", ""]))
    return path


def lend_packages(target: Path) -> None:
    """Make the packages of this interpreter visible in the new environment, through a .pth file."""
    mine = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(target), "installed_base": str(target)}))
    if not site.is_dir():
        site = target / "lib" / version / "site-packages"
    (site / "lent.pth").write_text("\n".join([*mine, ""]))


def install(target: Path, mark: str, extras: set[str], torch: str | None) -> None:
    keep = read_stamp(target).get("fingerprint") == mark
    before = read_stamp(target).get("extras")
    (target / "stamp.json").unlink(missing_ok=True)
    python = target / "bin" / "python"
    if not keep:
        shutil.rmtree(target, ignore_errors=True)
        venv.create(target, with_pip=True, symlinks=True)
        if torch is not None:
            lend_packages(target)
    wanted = extras | (set(before) if keep and isinstance(before, list) else set())
    product = f"{ROOT}[{','.join(sorted(wanted))}]" if wanted else str(ROOT)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += ["--constraint", str(constraints_for(torch, target)), "--editable", product]
    # pip's own word goes to stderr: stdout is for the path alone.
    subprocess.run(command, check=True, stdout=sys.stderr)
    (target / "stamp.json").write_text(json.dumps({"fingerprint": mark, "extras": sorted(wanted)}))


def main() -> int:
    if sys.version_info < (3, 11):
        print(
            f"Python {platform.python_version()} is too old: 3.11 or newer is needed; name one with PYTHON=python3.12",
            file=sys.stderr,
        )
        return 2
    extras, torch, target = set(sys.argv[1:]), existing_torch(), folder()
    mark = fingerprint(torch)
    with (ROOT / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready(target, mark, extras):
            print(f"setting up {target.name} (once) ...", file=sys.stderr)
            try:
                install(target, mark, extras, torch)
            except subprocess.CalledProcessError:
                print(
                    "pip could not install what is needed (its words are above); call this again to go on. "
                    "With no network: PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER_OF_WHEELS, see README.md",
                    file=sys.stderr,
                )
                return 2
    print(target / "bin" / "python")
    return 0


if __name__ == "__main__":
    sys.exit(main())
