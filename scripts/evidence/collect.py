"""Make the data for the evidence: many separate runs of unchanged code, each of three launches, one after the other.

    python scripts/evidence/collect.py FOLDER NUMBER

Each is a `bench run` of its own of `slowed.py`, with 54 s for all; they differ in nothing but the seed, which shuffles
the cases. The files lie in FOLDER; more runs may be added later. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = Path(__file__).with_name("slowed.py")
OPTIONS = ("--launches", "3", "--visits", "3", "--budget", "54s", "--label", "evidence")


def main(folder: Path, number: int) -> int:
    done = len(list(folder.glob("*.jsonl")))
    for seed in range(done, done + number):
        command = [sys.executable, "-m", "bench", "run", str(SUITE), *OPTIONS, "--seed", str(seed), "-o", str(folder)]
        code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        print(f"run {seed}: exit {code}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
