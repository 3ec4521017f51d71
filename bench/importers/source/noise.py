"""Lines of logs that are known not to be data: a name, and the pattern of such a line. A further kind is a further row.

Sources: NCCL src/debug.cc; aws-ofi-nccl and libfabric (their log functions); Open MPI, PMIx and UCX; Slurm's commands;
ssh; CommonMark for fences.
"""

from __future__ import annotations

import re

NOISE: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (why, re.compile(pattern))
    for why, pattern in (
        ("empty", r"[#>|*]*$"),
        ("debug line of NCCL", r".*\b[NR]CCL (?:INFO|WARN|TRACE|ERROR)\b"),
        ("debug line of NCCL", r"(?:\[[\d :.-]+\]\s*)?[\w.-]+:\d+:\d+(?: \[\d+\])?\s"),
        ("version of NCCL", r"(?:[NR]CCL|HIP|ROCm) version\b"),
        ("place of a library", r"(?:Hostname|Librccl path)\s*: \S+$"),
        ("debug line of a network plugin", r".*\b(?:NET/(?:OFI|IB|Socket|Plugin)|libfabric:|fi_info|efa:|EFA\b|OFI\b)"),
        ("line of UCX", r"(?:\[\d+\.\d+\]\s*)?\[[\w.:-]+\]\s+\S+\.c:\d+\s"),
        ("line of the launcher", r"(?:mpirun|mpiexec|prterun|orterun|srun|salloc|sbatch|slurmstepd|torchrun)\b\S*:"),
        ("line of the launcher", r"\[[\w.-]+:\d+\]\s"),
        ("line of the launcher", r"submitted batch job \d+|salloc: |Submitted batch job \d+"),
        ("line of ssh", r"Warning: Permanently added\b|Authorized uses only|Connection to \S+ closed"),
        ("command", r"(?:[\w.@~:/\[\]() -]{0,80})?[$%](?:\s|$)|\++ \S"),
        (
            "command",
            r"[`'\"]?(?:\w+=\S+\s+)*(?:env|mpirun|mpiexec|srun|sbatch|salloc|prun|kubectl|docker|podman|singularity|apptainer|"
            r"make|sudo|numactl|torchrun|flux|jsrun|aprun)\b(?:\[\d+\]:)?\s",
        ),
        ("command", r".*\\$"),
        ("line of the compiler", r"(?:Compiling|Linking|Grabbing|Archiving)\s"),
        ("command", r"(?:export|module (?:load|purge|list|swap)|source|cd|set -x|ulimit|LD_LIBRARY_PATH=)\b"),
        ("rule", r"[-=+*_~#]{3,}\s*$|[-=+*_~#]{3,}.*[-=+*_~#]{3,}\s*$"),
        ("fence of Markdown", r"(?:```|~~~)\s*\w*\s*$"),
        ("left out in the text", r"[#|>-]*\s*(?:\.{2,}|\u2026|\[\.\.\.\]|\[\u2026\]|<snip>|\[snip\])\s*$"),
    )
)
"""Reason why a line has no data, and its pattern."""
ELIDED = "left out in the text"


def noise(text: str) -> str | None:
    """Reason why a line has no data; None if that is not known."""
    text = text.strip()
    return next((why for why, pattern in NOISE if pattern.match(text)), None)


def is_elision(text: str) -> bool:
    """True for a line that stands for lines which the author left out."""
    return noise(text) == ELIDED
