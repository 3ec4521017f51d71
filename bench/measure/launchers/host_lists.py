"""Lists of hosts, and of the tasks on each, as schedulers write them."""

from __future__ import annotations

import re
from pathlib import Path


def first_host(nodes: str) -> str:
    """The first host of a Slurm host list: `gpu[003-007,9],login1` gives `gpu003`."""
    first = re.match(r"(\[[^\]]*\]|[^\[,])*", nodes.strip())
    assert first is not None
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first.group())


def tasks_on_node(counts: str, node: int) -> int | None:
    """Number of tasks on a node of a Slurm step: node 3 of `2(x3),1` has 1; None: the text does not say."""
    for part in counts.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:\(x(\d+)\))?\s*", part)
        if found is None:
            return None
        repeated = int(found.group(2) or 1)
        if node < repeated:
            return int(found.group(1))
        node -= repeated
    return None


def first_host_of_file(path: Path) -> str | None:
    """The first host of a host file (`node0`, `node0 slots=4`, `node0:4`, one per line); None: it names none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    words = (line.partition("#")[0].split() for line in lines)
    first = next((line[0] for line in words if line), None)
    return None if first is None else re.sub(r"(?<=[^:]):\d+$", "", first)


def expand(nodes: str) -> list[str]:
    """All hosts of a Slurm host list, in its order: `gpu[003-004,9]-ib,login1` gives four."""
    hosts: list[str] = []
    for part in re.findall(r"(?:\[[^\]]*\]|[^\[,])+", nodes.strip()):
        names = [""]
        for text in re.findall(r"\[[^\]]*\]|[^\[]+", part):
            ends = _numbers(text[1:-1]) if text.startswith("[") else [text]
            names = [name + end for name in names for end in ends]
        hosts += names
    return hosts


def _numbers(ranges: str) -> list[str]:
    """Numbers of `003-005,9`, with their zeros."""
    numbers: list[str] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        if last.isdecimal() and first.isdecimal():
            numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            numbers.append(part)
    return numbers


def rank_hosts(nodes: str, counts: str, distribution: str) -> dict[int, str]:
    """Rank -> host of a Slurm step that fills its nodes one by one; empty if it does not, or does not say.

    `counts` are tasks by node such as `2(x3),1` (SLURM_STEP_TASKS_PER_NODE). srun(1) calls the order `block`.
    """
    if distribution.partition(":")[0] not in ("", "block"):
        return {}
    hosts = expand(nodes)
    sizes = [tasks_on_node(counts, node) for node in range(len(hosts))]
    ranks = [host for host, size in zip(hosts, sizes, strict=True) for _ in range(size or 0)]
    return {} if None in sizes else dict(enumerate(ranks))
