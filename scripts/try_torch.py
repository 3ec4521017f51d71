"""Try versions of torch: the smoke preset with each of them, on two CPU ranks, and a Markdown table of how it went.

    scripts/try_torch [--budget TIME] VERSION... > table.md

Each version has an environment of its own for as long as it is tried, one at a time: a build for CUDA with NVIDIA's
libraries, without which it cannot be imported, takes about 5 GB. Triton is left out, since smoke compiles nothing; all
else is lent by the environment of this checkout. pip takes the wheels from where it is told to by its own settings
(PIP_FIND_LINKS, PIP_INDEX_URL). A run gets more time than the preset's minute, so that no case is skipped for time.
Exit 1 where a case failed, was invalid, or a run did not end as it should.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterable
from pathlib import Path

from bench.measure.launch import bootstrap
from bench.records import file
from bench.records.lines.kinds import Measurement

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "try_torch"
NUM_RANKS = 2
BUDGET = "10m"
LIBRARIES = re.compile(r"nvidia-|cuda-toolkit\b")
"""Requirements of torch that its builds for CUDA load when they are imported."""
COLUMNS = ("torch", "cases ok", "skipped, and why", "failed or invalid")


class TrialError(Exception):
    """A version that could not be tried: which, and why."""


def pip(python: Path, *arguments: str) -> None:
    """Install into another environment, which has no pip of its own."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install"]
    # Its words are kept back: it finds fault with the requirements that are left out, or lent.
    command += ["--quiet", "--no-cache-dir", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise TrialError(f"pip could not install {' '.join(arguments)}:\n{done.stderr}")


def make_environment(folder: Path, version: str) -> Path:
    """The interpreter of a new environment with this torch; what it lacks it takes from the one that runs this."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", scheme="venv", vars={"base": str(folder), "platbase": str(folder)}))
    pip(python, "--no-deps", f"torch=={version}")
    (torch,) = importlib.metadata.distributions(name="torch", path=[str(site)])
    libraries = [requirement for requirement in torch.requires or () if LIBRARIES.match(requirement)]
    if libraries:
        pip(python, *libraries)
    # Behind the environment's own packages, so that its torch comes first.
    lent = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (site / "lent.pth").write_text(lent)
    return python


def measure(python: Path, folder: Path, budget: str) -> file.Result:
    """The run of the preset with an interpreter; its table goes to stderr."""
    arguments = ["run", "--preset", "smoke", "--device", "cpu", "--ranks", str(NUM_RANKS), "--budget", budget]
    command = bootstrap.command(str(python), "bench.cli:main", *arguments, "-o", str(folder))
    done = subprocess.run(command, check=False, stdout=sys.stderr)
    files = list(folder.glob("*.jsonl"))
    if not files:
        raise TrialError(f"bench run ended with {done.returncode} and saved nothing; its words are above")
    return file.load(files[0])


def tried(version: str, budget: str) -> tuple[str, str, str, str]:
    """The row of a version, whose environment is gone again afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    print(f"torch {version}: fetching it ...", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=f"{version}-", dir=CACHE) as folder:
        python = make_environment(Path(folder) / "env", version)
        return row(measure(python, Path(folder) / "results", budget))


def row(found: file.Result) -> tuple[str, str, str, str]:
    """The cells of a version: its build, the number of cases that were ok, and the others by name with their reason."""
    records = found.latest()
    ok = sum(record.status == "ok" for record in records)
    skipped = [record for record in records if record.status == "skipped"]
    bad = [record for record in records if record.status not in ("ok", "skipped")]
    status = "unfinished" if found.end is None else found.end.status
    ended = () if status == "complete" else (f"the run ended as `{status}`",)
    version = str(found.environment.versions["torch"])
    return version, str(ok), told(skipped), told(bad, ended)


def told(records: Iterable[Measurement], more: Iterable[str] = ()) -> str:
    """Cases by their reason: the name without parameters, and how many there are of that name."""
    by_reason: dict[str, list[str]] = {}
    for record in records:
        by_reason.setdefault(first_line(record.reason), []).append(record.case.partition("[")[0])
    words = [f"{', '.join(counted(names))}: {reason}" for reason, names in by_reason.items()]
    return "<br>".join((*words, *more)).replace("|", "\\|") or "none"


def first_line(reason: object) -> str:
    return (str(reason).splitlines() or ["no reason given"])[0]


def counted(names: list[str]) -> list[str]:
    """`compute/matmul` once, `compute/matmul (3)` where there are three."""
    return [name if names.count(name) == 1 else f"{name} ({names.count(name)})" for name in dict.fromkeys(names)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="+", metavar="VERSION", help="such as 2.8.0")
    parser.add_argument("--budget", default=BUDGET, help=f"of each run [default: {BUDGET}]")
    chosen = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    sound = True
    for version in chosen.versions:
        cells = tried(version, chosen.budget)
        sound = sound and cells[-1] == "none"
        print(f"| {' | '.join(cells)} |", flush=True)
    return 0 if sound else 1


if __name__ == "__main__":
    # A folder of gigabytes is to be gone however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except TrialError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
