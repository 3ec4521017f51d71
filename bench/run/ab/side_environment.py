"""Environment of one side of `bench ab --base`: a project installed in a virtual environment of its own.

All other packages come from the running environment, behind the side's own, since two installations of torch take
gigabytes and minutes. A project that needs another version of one gets it in its own environment. The project itself is
never taken from there, in any version: a module that one side lacks must not be found in another one's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO

import click

from bench.errors import BenchError
from bench.run.ab.git_trees import variables_without_git

SHOWN_LINES = 15
"""Last lines that are shown of what pip says when it fails."""
_PACKAGING_TABLES = ("project", "build-system")
_FIND = """
import json, sys
from importlib import metadata, util
places = {}
for name in json.loads(sys.argv[1]):
    try:
        spec = util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    places[name] = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
versions = [each.version for each in metadata.distributions(name="torch")]
print(json.dumps({"places": places, "torch": versions[0] if versions else None}))
"""


@dataclass(frozen=True)
class InstalledProject:
    """The project of a side, as its environment has it."""

    name: str
    version: str
    modules: tuple[str, ...]
    """Packages and modules that it brings."""


@dataclass(frozen=True)
class SideEnvironment:
    """A virtual environment, and the packages of others that it uses."""

    side: str
    """"a" or "b"."""
    folder: Path
    project: Path
    """Folder of the project in the side's tree."""

    @property
    def python(self) -> Path:
        return self.folder / "env" / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Folder of its own packages."""
        (found,) = (self.folder / "env").glob("lib/python*/site-packages")
        return found

    @property
    def is_packaged(self) -> bool:
        return is_packaged(self.project)

    def lend(self, hidden: Collection[str] = ()) -> None:
        """Make the running environment's packages visible behind its own, without distributions of these names."""
        lines = []
        for number, source in enumerate(lent_folders()):
            # Outside the environment: pip would take packages inside it for its own, and remove them through the links.
            target = self.folder / f"lent{len(hidden)}" / str(number)
            target.mkdir(parents=True)
            link_packages(source, target, files_of(source, hidden))
            lines.append(f"import site; site.addsitedir({str(target)!r})\n")  # and not the path: it may have .pth files
        (self.packages / "lent.pth").write_text("".join(lines))

    def pip_words(self, constraints: Path | None) -> list[str]:
        words = [str(self.python), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
        return [*words, *(() if constraints is None else ("--constraint", str(constraints))), "--", str(self.project)]

    def installed(self) -> InstalledProject:
        """The project that pip has just installed from the side's tree."""
        for found in metadata.distributions(path=[str(self.packages)]):
            origin = json.loads(found.read_text("direct_url.json") or "{}")
            if origin.get("url") == self.project.as_uri():
                return InstalledProject(found.name, found.version, tuple(modules_of(found)))
        raise BenchError(f"side {self.side}: pip installed no project from {self.project}; see to its pyproject.toml")

    def find_torch(self, modules: Sequence[str], variables: Mapping[str, str]) -> str | None:
        """The version of torch on this side. Raises BenchError if a module of the project would be another one's."""
        words = [str(self.python), "-P", "-c", _FIND, json.dumps(list(modules))]
        environ = variables_without_git() | dict(variables)
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"side {self.side}: its environment does not work: {last_line(done.stderr)}")
        facts = json.loads(done.stdout)
        for module, places in facts["places"].items():
            if not any(place and Path(place).is_relative_to(self.folder) for place in places):
                where = next((place for place in places if place), "nowhere")
                raise BenchError(
                    f"side {self.side}: its module {module} would be imported from {where}, and not from its own tree; "
                    "uninstall the project in the environment that bench runs in, or take it off PYTHONPATH"
                )
        return None if facts["torch"] is None else str(facts["torch"])


def is_packaged(folder: Path) -> bool:
    """True if pip can install what is in a folder."""
    if (folder / "setup.py").is_file():
        return True
    try:
        table = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BenchError(f"{folder / 'pyproject.toml'}: cannot be read ({error}); fix it") from error
    return any(name in table for name in _PACKAGING_TABLES)


def lent_folders() -> list[Path]:
    """Folders of packages that the running interpreter sees."""
    paths = dict.fromkeys(Path(path) for path in sys.path if path)
    return [path for path in paths if path.name in ("site-packages", "dist-packages") and path.is_dir()]


def canonical(name: str) -> str:
    """A distribution's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def files_of(folder: Path, names: Collection[str]) -> set[PurePosixPath]:
    """All files in a folder of packages that belong to distributions of these names."""
    wanted = set(map(canonical, names))
    found = [each for each in metadata.distributions(path=[str(folder)]) if canonical(each.name or "") in wanted]
    return {PurePosixPath(file) for each in found for file in each.files or () if ".." not in file.parts}


def link_packages(source: Path, target: Path, hidden: Collection[PurePosixPath]) -> None:
    """Link all of a folder of packages into another folder, without some files.

    A folder of which nothing is hidden is one link. A folder that would have nothing else is not made at all, since an
    empty one could still be imported.
    """
    holding = {parent for file in hidden for parent in file.parents}

    def link(path: PurePosixPath) -> None:
        for entry in os.scandir(source / path):
            inside = path / entry.name
            if inside in hidden or entry.name == "__pycache__":
                continue
            if inside in holding and entry.is_dir():
                link(inside)
            else:
                (target / inside).parent.mkdir(parents=True, exist_ok=True)
                (target / inside).symlink_to(source / inside)

    link(PurePosixPath())


def modules_of(installed: metadata.Distribution) -> list[str]:
    """Outermost packages and modules of a distribution; of a namespace package those inside it."""
    files = [PurePosixPath(file) for file in installed.files or () if ".." not in file.parts]
    code = [file for file in files if file.suffix in (".py", ".so") and not file.parts[0].endswith(".dist-info")]
    packages = {file.parent for file in code if file.name == "__init__.py"}
    outermost = [package for package in packages if package.parent not in packages]
    single = [file.with_name(file.name.partition(".")[0]) for file in code if len(file.parts) == 1]
    return sorted(".".join(path.parts) for path in (*outermost, *single) if all(map(str.isidentifier, path.parts)))


def make_environments(both: Sequence[SideEnvironment]) -> list[InstalledProject | None]:
    """Make both environments, at the same time; returns the project of each. Raises BenchError."""
    own_pip = importlib.util.find_spec("pip") is None  # else pip is lent, too
    options = () if own_pip else ("--without-pip",)
    words = [[sys.executable, "-I", "-m", "venv", *options, str(each.folder / "env")] for each in both]
    for each, (code, said) in zip(both, run_at_once(words), strict=True):
        if code:
            raise BenchError(f"side {each.side}: no virtual environment could be made: {last_line(said)}")
        each.lend()
    packaged = [each for each in both if each.is_packaged]
    _install(packaged)
    installed = {each.side: each.installed() for each in packaged}
    names = {project.name for project in installed.values()}
    if names:
        for each in both:
            each.lend(names)
    return [installed.get(each.side) for each in both]


def _install(both: Sequence[SideEnvironment]) -> None:
    """Install each side's project, with the running torch; with another one only if it asks for that."""
    if not both:
        return
    pin = both[0].folder.parent / "constraints.txt"
    version = torch_here()
    pin.write_text("" if version is None else f"torch=={version}\n")
    ends = run_at_once([each.pip_words(pin) for each in both])
    failed = [each for each, (code, _) in zip(both, ends, strict=True) if code]
    for each, (code, said) in zip(failed, run_at_once([each.pip_words(None) for each in failed]), strict=True):
        if code:
            click.echo("\n".join(said.strip().splitlines()[-SHOWN_LINES:]), err=True)
            raise BenchError(
                f"side {each.side}: pip could not install its project (pip's words are above); fix the project, or "
                "make both environments yourself and name them with --a-python and --b-python"
            )


def torch_here() -> str | None:
    """Version of the running environment's torch."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def run_at_once(commands: Sequence[Sequence[str]]) -> list[tuple[int, str]]:
    """Exit code and words of some commands that run at the same time; none outlives this call."""
    with ExitStack() as stack:
        started = [stack.enter_context(_started(command)) for command in commands]
        codes = [process.wait() for process, _ in started]
        return [(code, _text(log)) for code, (_, log) in zip(codes, started, strict=True)]


@contextmanager
def _started(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[str]]]:
    environ = {name: value for name, value in variables_without_git().items() if name != "PYTHONPATH"}
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield process, log
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # what pip has started, too
                process.wait()


def _text(log: IO[str]) -> str:
    log.seek(0)
    return log.read()


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"
