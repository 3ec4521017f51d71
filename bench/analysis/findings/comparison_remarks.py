"""Remarks on a comparison: the run as a whole, cases that stand out of it, controls, facts that are not the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.analysis.compare.change_text import brief_factor, brief_interval, show_factor, verdict_words
from bench.analysis.findings.comparison_answer import side_name
from bench.analysis.findings.kinds import Figure, Remark
from bench.core.values import brief_text
from bench.records.environments import emulation_label

if TYPE_CHECKING:
    from bench.analysis.compare.comparison import Comparison
    from bench.analysis.compare.sides import Side
    from bench.analysis.compare.whole_run import WholeRun
    from bench.records.rows import Row


WHOLE_RUN = "the run as a whole"
"""Name of its figure."""
MOST_NAMED = 2
"""Cases against the rest that are remarked on; the table and JSON have all."""


def whole_figure(comparison: Comparison, new: Side, prefix: str = "") -> list[Figure]:
    """The common change of a new side, as one figure; none if it was not judged."""
    whole = comparison.whole(new.name)
    if whole is None:
        return []
    judged, interval = whole.judged, brief_interval(whole.judged)
    words = [interval or "no error bar", verdict_words(judged, comparison.threshold) if interval else None]
    words.append(f"what all {whole.num_cases} cases share")
    return [
        Figure(
            group="change",
            name=prefix + WHOLE_RUN,
            text=brief_factor(1 + judged.change),
            value=1 + judged.change,
            unit="x",
            low=None if judged.change_low is None else 1 + judged.change_low,
            high=None if judged.change_high is None else 1 + judged.change_high,
            of=", ".join(word for word in words if word),
        )
    ]


def whole_words(whole: WholeRun, threshold: float) -> str:
    """`the run as a whole: no difference shown (0.95x to 1.04x)`."""
    interval = brief_interval(whole.judged) or "no error bar"
    words = verdict_words(whole.judged, threshold) or f"{brief_factor(1 + whole.judged.change)} as long"
    return f"{WHOLE_RUN}: {words} ({interval})"


def stands_out(row: Row) -> bool:
    """True for a case that is undecided as it is, and slower or faster than the rest of its run."""
    return row["verdict"] == "unclear" and row.get("relative_verdict") in ("slower", "faster")


def whole_remarks(comparison: Comparison) -> Iterator[Remark]:
    """Remarks on cases against the rest of a run, and on controls that differ."""
    # In a run that changed as a whole an unchanged case stands out of the rest, which tells nobody anything new.
    for whole in [whole for whole in comparison.wholes if whole.judged.verdict in ("unclear", "same")]:
        rows = [row for row in comparison.cases if row["name"] == whole.name and stands_out(row)]
        for row in sorted(rows, key=lambda row: -abs(row["relative_change"]))[:MOST_NAMED]:
            yield Remark(
                text=f"{comparison.name_of(row['case'])} on {whole.name} is {_against_rest(row)}; "
                f"{whole_words(whole, comparison.threshold)}",
                remedy="",
                weight=1 + abs(row["relative_change"]),
                case=row["case"],
            )
    for name in dict.fromkeys(control.name for control in comparison.controls):
        differ = [one for one in comparison.controls if one.name == name and one.judged.verdict in ("slower", "faster")]
        if differ:
            texts = [
                f"{one.control} {brief_factor(1 + one.judged.change)} ({brief_interval(one.judged)})" for one in differ
            ]
            yield Remark(
                text=f"bench's own kernels, the same on both sides, took another time on {name}: {', '.join(texts)}",
                remedy="The machine was not the same: measure again, or in pairs with bench ab",
                weight=2.0,
            )


def _against_rest(row: Row) -> str:
    """`1.18x the rest of the run (1.09x to 1.28x), slower`."""
    low, high = show_factor(1 + row["relative_low"]), show_factor(1 + row["relative_high"])
    change = show_factor(1 + row["relative_change"])
    return f"{row['relative_verdict']} than the rest of the run: {change} ({low} to {high})"


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
