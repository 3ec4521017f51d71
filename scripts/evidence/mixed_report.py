"""Prints results/evidence/mixed.md from the files that scripts/evidence/mixed_measure.sh left in a folder:

scripts/evidence/mixed_report.py results/evidence/mixed > results/evidence/mixed.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.analysis.explain import explain_run, suspects
from bench.core.table import DisplayTable, column, render, text_column
from bench.core.values import show_number, show_percent
from bench.predict.mix import tables as mix_tables
from bench.predict.mix.cluster import mix
from bench.records.file import Result, load_many
from bench.records.rows import case_groups, case_rows

FLEET = ("H100-SXM-80GB=150000", "H200-SXM-141GB=50000", "GB200-SXM=30000")
NOTES = Path("results/evidence/mixed/NOTES.md")
"""What a reader has to know of these very files; printed as it is."""
REPORTED_MFU, UNIFORM_MFU = 0.11, 0.40
"""Of the fleet, as the press reported it, and what uniform fleets reach."""


def results(folder: Path, label: str) -> list[Result]:
    return [result for result in load_many([str(folder)]) if result.label == label]


def split_rows(found: Sequence[Result]) -> Iterator[dict[str, Any]]:
    groups = case_groups(found)
    for row in case_rows(found):
        if row["suite"] != "heterogeneous" or row["status"] != "ok":
            continue
        launches = groups[row["case"]].view.derived
        even, balanced = row["seconds_median"], row["balanced_seconds"]
        yield {
            "what": f"{row['params']['op']}, {row['num_ranks']} ranks, busy {row['params']['busy']:g}",
            "speed": float(row["params"]["speed"]),
            "uniform": 1e3 * row["uniform_seconds"],
            "even": 1e3 * even,
            "even_predicted": 1e3 * row["predicted_even_seconds"],
            "even_off": row["even_prediction_error"],
            "even_launches": spread(launches["even_prediction_error"]),
            "balanced": 1e3 * balanced,
            "balanced_predicted": 1e3 * row["predicted_balanced_seconds"],
            "balanced_off": row["balanced_prediction_error"],
            "balanced_launches": spread(launches["balanced_prediction_error"]),
            "bound": 1e3 * row["bound_seconds"],
            "penalty": row["mixing_penalty"],
            "won_back": row["won_back"],
        }


def spread(errors: Sequence[float]) -> str:
    """Of the launches, of which the median stands beside it."""
    return f"{100 * min(errors):.1f} to {100 * max(errors):.1f} ({len(errors)})"


def split_table(rows: Sequence[dict[str, Any]]) -> DisplayTable:
    def number(key: str, head: str) -> Any:
        return column(key, head, show_number)

    def share(key: str, head: str) -> Any:
        return column(key, head, show_percent)

    columns = (
        text_column("run", "started, UTC"),
        text_column("what", ""),
        number("speed", "slow rank's speed"),
        number("uniform", "uniform ms"),
        number("even", "even ms"),
        number("even_predicted", "predicted"),
        share("even_off", "off by %"),
        text_column("even_launches", "launches"),
        number("balanced", "balanced ms"),
        number("balanced_predicted", "predicted"),
        share("balanced_off", "off by %"),
        text_column("balanced_launches", "launches"),
        number("bound", "bound ms"),
        share("penalty", "penalty %"),
        share("won_back", "won back %"),
    )
    return DisplayTable("", columns, tuple(rows))


def within(rows: Sequence[dict[str, Any]], share: float) -> str:
    errors = [abs(row[key]) for row in rows for key in ("even_off", "balanced_off")]
    return f"{sum(error <= share for error in errors)} of {len(errors)} predictions lie within {share:.0%}"


def lab_lines(folder: Path) -> Iterator[str]:
    """The two runs of the lab, in the order in which the script makes them."""
    runs = [result for result in load_many([str(folder)]) if result.label.startswith("lab")]
    for result in sorted(runs, key=lambda each: str(each.header.started)):
        rows = {row["case"]: row for row in case_rows([result]) if row["status"] == "ok"}
        sums = next(row for case, row in rows.items() if case.startswith("collective/all_reduce"))
        yield (
            f"- started {result.header.started}: all-reduce of 16 MiB {1e3 * sums['seconds_median']:.0f} ms, "
            f"{8 * sums['busbw_gb_per_s']:.2f} Gbit/s of bus bandwidth."
        )
        yield from (f"  - {line}" for line in said(result) if "link" in line)


def said(result: Result) -> list[str]:
    return suspects.sentences([record for group in case_groups([result]).values() for record in group.records])


def waterfalls(found: Sequence[Result]) -> str:
    first = min(found, key=lambda each: str(each.header.started))
    explanation = explain_run.explain(first.path)
    said_of_ranks = tuple(suspects.sentences(explanation.records))
    head = DisplayTable(f"{explanation.path}: {explanation.architecture}", (), (), said_of_ranks)
    return render([head, *explain_run.tables(explanation, explanation.waterfalls)], "markdown")


def fleet_text() -> Iterator[str]:
    cluster = mix(FLEET, (), None, None)
    yield render(mix_tables.tables(cluster), "markdown")
    peaks = [(kind.count, next(iter(kind.speeds.values()))["peak"].value) for kind in cluster.kinds]
    kept = sum(count for count, _ in peaks) * min(peak for _, peak in peaks) / sum(c * p for c, p in peaks)
    lost, missing, rest = UNIFORM_MFU * (1 - kept), UNIFORM_MFU - REPORTED_MFU, UNIFORM_MFU * kept - REPORTED_MFU
    yield (
        f"Catalogue peaks, not measurements. Waiting for the kind with the least compute leaves {kept:.1%} of the sum "
        f"of peaks: of {UNIFORM_MFU:.0%} MFU, which uniform fleets reach, {UNIFORM_MFU * kept:.1%} would be left, and "
        f"{REPORTED_MFU:.0%} was reported. So unequal compute explains {lost:.1%} of the {missing:.0%} of MFU that are "
        f"missing, and a balanced split could win back nearly all of that part. The other {rest:.1%} have other causes "
        "(memory that caps the batch, fabrics of unequal speed and the links between them, pipelines, data, failures), "
        "none of which a data sheet shows: each takes a measurement on such a fleet, which is not to be had here."
    )


def main() -> None:
    folder = Path(sys.argv[1])
    two, four = results(folder, "two"), results(folder, "four")
    runs = sorted([*two, *four], key=lambda each: str(each.header.started))
    rows = [row | {"run": str(run.header.started)[11:16]} for run in runs for row in split_rows([run])]
    print("# Mixed architectures, emulated: measured, predicted, explained\n")
    print(
        f"Measured by `scripts/evidence/mixed_measure.sh` on {two[0].architecture}, gloo, torch "
        f"{two[0].environment.versions['torch']}; this page is what `scripts/evidence/mixed_report.py` printed. The "
        "slow rank is emulated. With `busy` below 1 all ranks sleep the rest of their time, so that they do not get in "
        "each other's way on two cores.\n"
    )
    if NOTES.exists():
        print(NOTES.read_text(encoding="utf-8"))
    print("## Emulated slow rank: uniform, even and balanced, and the prediction from the uniform step's spans\n")
    print(render([split_table(rows)], "markdown"))
    print("off by: predicted / measured - 1, the median of the launches, with the lowest and highest beside it.\n")
    print(f"{within(rows, 0.05)}, {within(rows, 0.10)}.\n")
    print("## Emulated hosts: four with shaped links (`scripts/lab`): all at 1 Gbit/s, then host 3 at 250 Mbit/s\n")
    print("\n".join(lab_lines(folder)) + "\n")
    print("## Emulated slow rank, found or not: two runs of the compute suite\n")
    for label in ("healthy", "slowed"):
        for result in results(folder, label):
            print(f"- `{label}`: {said(result)[0]}")
    print("\n## From peak to achieved: the run on two ranks, one slowed\n")
    print(waterfalls(two))
    print("## 150,000 H100 + 50,000 H200 + 30,000 GB200\n")
    print("\n".join(fleet_text()))


if __name__ == "__main__":
    main()
