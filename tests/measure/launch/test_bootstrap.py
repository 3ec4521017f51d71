"""Another interpreter runs this source of `bench`, and gets nothing else from where this one lies."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.measure.launch import bootstrap

WHO = """
import importlib.util, sys
import bench

def main():
    print(bench.__file__, importlib.util.find_spec("decoy"), sys.argv[1:])
"""


def run(*command: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_this_source_comes_first_wherever_another_lies(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "installed"):  # the working directory, and another one on the path
        (place / "bench").mkdir(parents=True)
        (place / "bench" / "__init__.py").write_text("raise ImportError('another bench')")
    command = bootstrap.command(sys.executable, "bench.cli:main", "--help")
    assert "Usage: bench" in run(*command, folder=tmp_path, PYTHONPATH=str(tmp_path / "installed"))


def test_of_an_installation_nothing_but_the_product_comes_along(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    launch = site / "bench" / "measure" / "launch"
    launch.mkdir(parents=True)
    (site / "bench" / "__init__.py").touch()
    (launch / "bootstrap.py").write_bytes(Path(bootstrap.__file__).read_bytes())
    (site / "bench" / "who.py").write_text(WHO)
    (site / "decoy.py").touch()
    ask = (
        "from bench.measure.launch import bootstrap; import json; "
        "print(json.dumps(bootstrap.command('x', 'bench.who:main', '--word', 'a b')))"
    )
    _, *words = json.loads(run(sys.executable, "-c", ask, folder=site))
    assert run(sys.executable, *words, folder=tmp_path) == f"{site}/bench/__init__.py None ['--word', 'a b']"
    # A checkout holds nothing else, and is on the path for what the ranks may start themselves.
    (site / "pyproject.toml").touch()
    assert "None" not in run(sys.executable, *words, folder=tmp_path)
