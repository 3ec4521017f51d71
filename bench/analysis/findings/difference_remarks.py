"""Remarks on why two sides may differ: facts of their environments that change speed and are not the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.findings.comparison_answer import side_name
from bench.analysis.findings.kinds import Remark
from bench.core.values import brief_text
from bench.records.environments import emulation_label

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.records.rows import Row


class Cause(NamedTuple):
    """A fact that changes speed, by the beginning of its field's name."""

    field: str
    words: str
    remedy: str


DIGEST_MARK = " (SHA-256)"
"""End of fields that hold digests: their values say nothing to people."""
_SAME = "To compare the machines alone, have the same on both sides"
CAUSES = (
    Cause("rank.device_name", "device", "This compares machines, not versions of a program"),
    Cause("ranks", "number of ranks", "Compare equal numbers: bench run --ranks N"),
    Cause("hosts", "number of hosts", "Messages between hosts cross a network: bench explain shows what that costs"),
    Cause("backend", "backend", f"{_SAME}: bench run --backend NAME"),
    Cause("device_type", "kind of device", _SAME),
    Cause("threads_per_rank", "threads per rank", _SAME),
    Cause("preset", "preset", "Measure one with the plan of the other: bench run --like FILE"),
    Cause("suite ", "code of the suite", "The sides did not measure the same code: measure both with one version"),
    Cause("versions.torch", "version of torch", _SAME),
    Cause("versions.nccl", "version of NCCL", _SAME),
    Cause("versions.cuda", "version of CUDA", _SAME),
    Cause("host.gpu_driver", "GPU driver", _SAME),
    Cause("host.cpu_model", "processor", _SAME),
    Cause("host.cpu_quota_cores", "CPU quota in cores", _SAME),
    Cause("host.usable_cores", "usable cores", _SAME),
    Cause("variables.", "environment variable", _SAME),
    Cause("settings.", "setting of torch", _SAME),
    Cause("precision", "aimed-at precision", "Measure one with the plan of the other: bench run --like FILE"),
)
"""Facts that explain a difference, the most informative first; others are in the environments' table."""


def difference_remarks(comparison: Comparison) -> list[Remark]:
    """Remarks on emulation, then on differing facts, the weightiest first."""
    found = [*_emulated(comparison.sides), *_causes(comparison.differences, comparison.sides)]
    return [Remark(text=text, remedy=remedy, weight=float(len(found) - n)) for n, (text, remedy) in enumerate(found)]


def _emulated(sides: tuple[Side, ...]) -> Iterator[tuple[str, str]]:
    for side in sides:
        label = emulation_label(side.results[0].environment.ranks)
        if label:
            what = label.strip().removeprefix("(emulated: ").removesuffix(")")
            yield f"{side_name(side)} is not real hardware: {what} of its speed", ""


def _causes(differences: tuple[Row, ...], sides: tuple[Side, ...]) -> Iterator[tuple[str, str]]:
    has_device = any(row["field"] == "rank.device_name" for row in differences)
    for cause in CAUSES:
        if cause.field == "host.cpu_model" and has_device:  # of ranks on CPUs they are one fact
            continue
        of_cause = [row for row in differences if row["field"].startswith(cause.field)]
        exact = [row for row in of_cause if row["field"] == cause.field]
        rows = of_cause if cause.field.endswith((".", " ")) else exact
        if len(rows) > 2:
            yield f"{len(rows)} differ in {cause.words}: --environments lists them", cause.remedy
            continue
        for row in rows:
            name = row["field"].removeprefix(cause.field).removesuffix(DIGEST_MARK)
            words = f"{cause.words} {name}".strip()
            values = "" if row["field"].endswith(DIGEST_MARK) else f": {_values(row['values'], sides)}"
            yield f"The {words} differs{values}", cause.remedy


def _values(values: list[Any], sides: tuple[Side, ...]) -> str:
    """`2.13.0 on old, 2.14.0 on new`."""
    return ", ".join(f"{brief_text(value)} on {side.name}" for value, side in zip(values, sides, strict=True))
