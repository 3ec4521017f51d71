"""Make or mend the virtual environment of this checkout, and print the path of its Python.

    scripts/setup [EXTRA...]

Uses only the standard library of the interpreter that runs it. An interpreter that has a torch keeps it: its packages
are lent to an environment of its own, and those that will do are taken as they are. A stamp, written last, says that
an installation is whole; without it the environment is made anew, so an interrupted one mends itself. A lock lets one
call install while others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
CONSTRAINTS = ROOT / "scripts" / "constraints.txt"
PIP_INSTALL = ("-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--quiet")
"""Quiet twice: a warning per page of an index would bury what is asked for. Errors are shown."""
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


class SetupError(Exception):
    """What is wrong and what to do, in one line."""


@dataclass(frozen=True)
class Plan:
    """The environment to have."""

    folder: Path
    torch: str | None
    """Version of the torch that this interpreter has and lends."""
    fingerprint: str
    """Of everything that decides what is installed; another one means that the environment is made anew."""
    extras: frozenset[str]


def plan(extras: set[str]) -> Plan:
    """`.venv`, or a folder of its own for an interpreter that was named, or that has a torch to lend."""
    torch = version_here("torch")
    own = bool(os.environ.get("PYTHON")) or torch is not None
    name = f".venv-{digest(sys.prefix)[:8]}" if own else ".venv"
    # Without a lent torch any interpreter of this version makes the same environment.
    parts = [platform.python_version(), str(ROOT), PROJECT.read_text(), CONSTRAINTS.read_text()]
    parts += [sys.prefix, torch] if torch is not None else []
    wanted = extras | ({"cuda"} if NVIDIA_DRIVER.exists() else set())
    return Plan(ROOT / name, torch, digest("\n".join(parts)), frozenset(wanted))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def version_here(package: str) -> str | None:
    """Version of a package that this interpreter has."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def read_stamp(folder: Path) -> dict[str, object]:
    try:
        stamp = json.loads((folder / "stamp.json").read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(folder: Path, **facts: object) -> None:
    (folder / "stamp.json").write_text(json.dumps({"made_by": sys.executable, **facts}))


def installed_extras(wanted: Plan) -> frozenset[str] | None:
    """The extras of an environment that is whole and as it should be; None where it is to be made anew."""
    stamp = read_stamp(wanted.folder)
    extras = stamp.get("extras")
    whole = stamp.get("fingerprint") == wanted.fingerprint and isinstance(extras, list)
    return frozenset(extras) if whole and isinstance(extras, list) and python_of(wanted.folder).exists() else None


def refuse_old_torch(torch: str) -> None:
    """Said here, since pip's own words for it are two pages."""
    dependencies = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    (lowest,) = [text.removeprefix("torch>=") for text in dependencies if text.startswith("torch>=")]
    if numbers(torch) < numbers(lowest):
        raise SetupError(
            f"torch {torch} of {sys.executable} is too old: {'.'.join(map(str, numbers(lowest)))} or newer is needed; "
            "name an interpreter that has a newer one, or none, with PYTHON"
        )


def numbers(version: str) -> tuple[int, ...]:
    """`2.13.0a0+cu130` gives (2, 13): a vendor's pre-release has what its release has, as pip takes it by the `.dev0`
    of the lowest version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def make(wanted: Plan) -> None:
    """An empty environment, which sees what its interpreter lends."""
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments (it has no ensurepip): install its venv package "
            "(Debian: python3-venv), or name another interpreter with PYTHON"
        )
    if wanted.folder.exists():
        shutil.rmtree(wanted.folder)
    venv.create(wanted.folder, with_pip=True, symlinks=True)
    write_stamp(wanted.folder)
    if wanted.torch is not None:
        lend_packages(wanted.folder)


def lend_packages(folder: Path) -> None:
    """Make the packages of this interpreter visible in the environment, behind its own."""
    lent = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    own = sysconfig.get_path("purelib", scheme="venv", vars={"base": str(folder), "platbase": str(folder)})
    # addsitedir, and not the bare path: a torch built from source is installed as a .pth file, which it reads.
    lines = [f"import site; site.addsitedir({path!r})\n" for path in lent]
    (Path(own) / "lent.pth").write_text("".join(lines))


def constraints(wanted: Plan) -> Path:
    """The tested versions. Where packages are lent, without theirs: what stands beside the lent torch stays."""
    if wanted.torch is None:
        return CONSTRAINTS
    pins = [line for line in CONSTRAINTS.read_text().splitlines() if "==" in line]
    ours = [line for line in pins if version_here(line.partition("==")[0]) is None]
    path = wanted.folder / "constraints.txt"
    path.write_text("\n".join([*ours, f"torch=={wanted.torch}", ""]))
    return path


def requirements_of(extras: frozenset[str]) -> list[str]:
    """The packages of extras, by name: so the product itself, which may be running, is not installed again."""
    table = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    unknown = extras - set(table)
    if unknown:
        raise SetupError(f"no extra named {', '.join(sorted(unknown))}; there are: {', '.join(table)}")
    return [requirement for extra in sorted(extras) for requirement in table[extra]]


def pip_install(wanted: Plan, what: list[str], lock: TextIO) -> None:
    command = [str(python_of(wanted.folder)), *PIP_INSTALL, "--constraint", str(constraints(wanted)), *what]
    # pip's own words go to stderr: stdout is for the path alone. It inherits the lock, which so holds until pip has
    # ended too, even where this process was killed.
    done = subprocess.run(command, check=False, stdout=sys.stderr, pass_fds=[lock.fileno()])
    if done.returncode != 0:
        raise SetupError(
            "pip could not install what is needed (its words are above); call this again to go on. "
            "With no network: PIP_NO_INDEX=1 PIP_FIND_LINKS=/FOLDER/OF/WHEELS, see README.md"
        )


def install(wanted: Plan, lock: TextIO) -> None:
    """Bring the environment to what is wanted; the stamp is whole only after the last step."""
    have = installed_extras(wanted)
    if have is not None and wanted.extras <= have:
        return
    if wanted.torch is not None:
        refuse_old_torch(wanted.torch)
    requirements = requirements_of(wanted.extras - (have or frozenset()))
    print(
        f"setting up {wanted.folder.name} (once: a minute or two, longer where a GPU build of torch is fetched) ...",
        file=sys.stderr,
    )
    if have is None:
        make(wanted)
        requirements += ["--editable", str(ROOT)]
    else:
        write_stamp(wanted.folder)
    pip_install(wanted, requirements, lock)
    write_stamp(wanted.folder, fingerprint=wanted.fingerprint, extras=sorted(wanted.extras | (have or frozenset())))


def leave_own_environment() -> None:
    """Called with this checkout's own environment activated: go on as the interpreter that made it, to mend it."""
    here = Path(sys.prefix)
    if here.parent != ROOT or not re.fullmatch(r"\.venv(-\w+)?", here.name):
        return
    maker = str(read_stamp(here).get("made_by") or Path(sys.base_prefix) / "bin" / "python3")
    os.environ.pop("PYTHON", None)
    if here.name != ".venv":
        os.environ["PYTHON"] = maker
    os.execv(maker, [maker, __file__, *sys.argv[1:]])


def main() -> int:
    leave_own_environment()
    wanted = plan(set(sys.argv[1:]))
    try:
        with (ROOT / f"{wanted.folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            install(wanted, lock)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"cannot make {wanted.folder}: {error}; see to it, and call this again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the next call starts the set-up again", file=sys.stderr)
        return 130
    print(python_of(wanted.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
