"""Findings of a mixed cluster: the loss of training in lockstep in one sentence, and one figure per kind of work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.analysis.findings.kinds import Answer, DataState, Figure, Findings, Item, NextStep, Remark, Unmeasured
from bench.core.values import counted, show_number
from bench.predict.mix.catalogue_findings import catalogue_remark, equal_peaks
from bench.predict.mix.cluster import SHOWN, WITHIN_CHANCE, MixedCluster, Row, training_rows, use_rows
from bench.predict.mix.sources import CATALOGUE
from bench.predict.mix.tables import WorkloadNames, suite_of

LEADING = ("training_step", "training", "data_parallel", "expert_parallel", "pipeline_parallel", "tensor_parallel")
"""Suites in the order in which the answer is about them; others come after."""
SPLIT_OF = {"tensor_parallel": "tensor", "pipeline_parallel": "pipeline"}
"""Suite -> the way in which its own work can be dealt out unevenly; any other deals out microbatches."""
UNITS = {"data": "microbatches", "tensor": "heads", "pipeline": "layers"}
"""Parallelism -> units that a rank gets more or less of."""
TRAINING = ("training_step", "training", CATALOGUE)
"""Suites, and the workload by catalogue, that are training as a whole."""


def make_findings(cluster: MixedCluster) -> Findings:
    """All findings; the text of a sentence and the figure next to it are made of the same row."""
    rows = training_rows(cluster)
    known = [row for row in rows if row["even_penalty"] is not None]
    lead = _lead(known)
    items: list[Item] = [Answer(_answer(cluster, lead)), *_state(cluster, known)]
    if not equal_peaks(cluster):
        items += [*_losses(cluster, known), *_uses(cluster, lead), *_costs(lead)]
    if cluster.by_catalogue:
        items.append(catalogue_remark(cluster))
    items += [*_remarks(cluster, lead), *_unmeasured(rows), *_next(cluster)]
    return Findings(_head(cluster), tuple(items))


def show_loss(share: float) -> str:
    """A loss with the digits that it is worth: `17%`, `0.3%`."""
    if share < 0.0005:
        return "less than 0.1%"
    return f"{100 * share:.0f}%" if share >= 0.0995 else f"{100 * share:.1f}%"


def _suite(row: Row) -> str:
    return suite_of(str(row["workload"]))


def _work(suite: str) -> str:
    return "training" if suite == CATALOGUE else suite.replace("_", " ")


def _own_split(row: Row) -> bool:
    """True for the row of a workload that is split in the way that its suite can be."""
    return bool(row["parallelism"] == SPLIT_OF.get(_suite(row), "data"))


def _lead(rows: Sequence[Row]) -> Row | None:
    """The row that the answer is about: of the first suite the typical one."""
    own = [row for row in rows if _own_split(row)]
    suites = sorted({_suite(row) for row in own}, key=lambda name: LEADING.index(name) if name in LEADING else 99)
    return _typical([row for row in own if _suite(row) == suites[0]]) if suites else None


def _typical(rows: Sequence[Row]) -> Row:
    """The row of the median loss; of two the smaller."""
    return sorted(rows, key=lambda row: float(row["even_penalty"]))[(len(rows) - 1) // 2]


def _head(cluster: MixedCluster) -> str:
    kinds = " + ".join(f"{kind.count:,} x {kind.name}" for kind in cluster.kinds)
    emulated = [kind.name for kind in cluster.kinds if kind.is_emulated]
    slowed = f"; {', '.join(emulated)} was slowed on purpose (emulated)" if emulated else ""
    source = "peaks of data sheets" if cluster.by_catalogue else "speeds of each kind alone"
    return f"Predicted for {kinds}, from {source}{slowed}"


def _answer(cluster: MixedCluster, lead: Row | None) -> str:
    number = f"{cluster.num_devices:,}"
    if cluster.by_catalogue and (equal := equal_peaks(cluster)):
        return equal
    if lead is None:
        return _answer_without_training(cluster)
    suite = _suite(lead)
    where = f"Training on all {number} in lockstep" if suite in TRAINING else f"Lockstep on all {number}"
    work = "" if suite in TRAINING else f" in {_work(suite)} work (no training step was measured on every kind)"
    if not _is_known(lead):
        return f"{where}: no loss is shown{work}: it is {_reason(lead)}"
    basis = "By peaks in bf16, " if cluster.by_catalogue else ""
    start = f"{basis}{where[0].lower() if basis else where[0]}{where[1:]}"
    if lead["verdict"] == WITHIN_CHANCE:
        return f"{start} loses about {show_loss(lead['even_penalty'])}{work}, which may be chance; {_won_back(lead)}"
    return f"{start} loses {show_loss(lead['even_penalty'])}{work}; {_won_back(lead)}"


def _is_known(row: Row) -> bool:
    """True for a loss that the model's error does not cover; one within chance is known roughly."""
    return row["verdict"] in (SHOWN, WITHIN_CHANCE)


def _reason(row: Row) -> str:
    return str(row["verdict"]).partition(": ")[2]


def _won_back(row: Row) -> str:
    units = UNITS[row["parallelism"]]
    if row["balanced"] is None:
        return f"no other split of {units} fits the memory"
    if row["balanced"] <= row["even"] * (1 + 1e-9):
        return f"no other split into whole {units} is faster"
    return f"dealing {units} out {row['balanced_units']} wins back all but {show_loss(row['balanced_penalty'])}"


def _answer_without_training(cluster: MixedCluster) -> str:
    served = [one for one in cluster.serving if not one.missing]
    if not served:
        return "Nothing was measured on every kind, so no mix can be predicted: run the same cases on each kind"
    one = served[0]
    total = sum(kind.count * speed.value for kind, speed in zip(cluster.kinds, one.alone, strict=True) if speed)
    name = WorkloadNames([one.workload]).across(one.workload)
    return (
        f"No training was measured on every kind. Replicas that serve on all {cluster.num_devices:,} give "
        f"{show_number(total)} tokens/s ({name}), the sum of the kinds: they do not wait for each other"
    )


def _state(cluster: MixedCluster, known: Sequence[Row]) -> Iterator[DataState]:
    if cluster.by_catalogue:
        yield DataState(
            "rough", "catalogue peaks, not measured: peak dense bf16 of the data sheets, which no program reaches"
        )
        return
    ranks = sorted({number for kind in cluster.kinds for number in (kind.num_ranks or {}).values()})
    if known:
        text = f"measured on {_either(ranks)}; communication is taken to cost the same share on {cluster.num_devices:,}"
        if cluster.model_error is not None:
            text += f"; on {cluster.measured} the model is off by up to {show_loss(cluster.model_error)}"
        yield DataState("rough", text)


def _either(ranks: Sequence[int]) -> str:
    return " and ".join(map(str, ranks[:-1])) + (" and " if ranks[:-1] else "") + counted(ranks[-1], "rank")


def _losses(cluster: MixedCluster, known: Sequence[Row]) -> Iterator[Figure]:
    """One figure per kind of work; by catalogue one per way to split it."""
    if cluster.by_catalogue:
        yield from (_loss(f"training, split by {UNITS[row['parallelism']]}", [row]) for row in known)
        return
    own = [row for row in known if _own_split(row)]
    suites = sorted(
        {_suite(row) for row in own}, key=lambda name: (LEADING.index(name) if name in LEADING else 99, name)
    )
    for suite in suites:
        yield _loss(_work(suite), [row for row in own if _suite(row) == suite])


def _loss(name: str, rows: Sequence[Row]) -> Figure:
    """The loss of the typical case, and the range of all."""
    row = _typical(rows)
    losses = [float(each["even_penalty"]) for each in rows]
    spread = f"; {len(rows)} cases: {show_loss(min(losses))} to {show_loss(max(losses))}" if len(rows) > 1 else ""
    is_known = _is_known(row)
    roughly = "~" if row["verdict"] == WITHIN_CHANCE else ""
    chance = "; may be chance" if roughly else ""
    return Figure(
        group="loss",
        name=name,
        text=f"{roughly}{show_loss(row['even_penalty'])}" if is_known else "not shown",
        value=row["even_penalty"] if is_known else None,
        unit="share",
        share=row["even_penalty"] if is_known else None,
        of=f"{_dealt(row)}{chance}{spread}" if is_known else _reason(row),
        case=str(row["workload"]),
    )


def _dealt(row: Row) -> str:
    if row["balanced"] is None:
        return "no balanced split fits the memory"
    return f"{row['balanced_units']} {UNITS[row['parallelism']]} loses {show_loss(row['balanced_penalty'])}"


def _uses(cluster: MixedCluster, lead: Row | None) -> Iterator[Figure]:
    """One kind trains on the leading workload while the others serve."""
    for use in use_rows(cluster) if lead is not None else ():
        if use["workload"] == lead["workload"] and use["serving"] and use["training"]:  # type: ignore[index]
            served = WorkloadNames([use["served"]]).across(use["served"])
            yield Figure(
                group="uses",
                name=f"{use['train_on']} trains",
                text=f"{show_number(use['training'])} tokens/s",
                value=use["training"],
                unit="tokens/s",
                of=f"{use['serve_on']} serves {show_number(use['serving'])} tokens/s ({served})",
            )


def _costs(lead: Row | None) -> Iterator[Figure]:
    for name, words in (("even", "equal shares"), ("balanced", "best split")):
        usd = None if lead is None else lead.get(f"{name}_usd_per_million_tokens")
        if lead is not None and usd:
            lost = lead[f"{name}_usd_lost_per_hour"]
            yield Figure(
                group="cost",
                name=words,
                text=f"{show_number(usd)} USD per million tokens",
                value=usd,
                unit="USD per million tokens",
                low=lead[f"{name}_usd_per_million_tokens_low"],
                high=lead[f"{name}_usd_per_million_tokens_high"],
                of=f"{show_number(lost)} USD per hour are lost to waiting",
            )


def _remarks(cluster: MixedCluster, lead: Row | None) -> Iterator[Remark]:
    """A plan at a configuration that is not a kind's best costs that kind, whatever the split."""
    if lead is None or lead["bound"] is None or not lead["sum_alone"] or cluster.by_catalogue:
        return
    kept = lead["bound"] / lead["sum_alone"]
    if kept < 0.98:
        yield Remark(
            text=f"{show_loss(1 - kept)} are lost to a configuration that every kind was measured at "
            f"({lead['configuration']}), if some kind alone is faster at another",
            remedy="Measure the faster configuration on every kind that can hold it",
            weight=1.0 / kept,
            case=str(lead["workload"]),
        )


def _unmeasured(rows: Sequence[Row]) -> Iterator[Unmeasured]:
    missing = {row["workload"] for row in rows if row["even_penalty"] is None}
    if missing:
        names = WorkloadNames(sorted(map(str, missing)))
        shown = ", ".join(names.across(str(name)) for name in sorted(map(str, missing))[:2])
        more = ", ..." if len(missing) > 2 else ""
        yield Unmeasured(
            num_cases=len(missing),
            text=f"not measured alike on every kind ({shown}{more})",
            remedy="run the same cases on each",
        )


def _next(cluster: MixedCluster) -> Iterator[NextStep]:
    if cluster.by_catalogue:
        files = " ".join(f"{kind.name.partition('-')[0].lower()}.jsonl={kind.count}" for kind in cluster.kinds)
        yield NextStep(purpose="measure each kind", command="bench run training_step tensor_parallel")
        yield NextStep(purpose="then", command=f"bench mix {files}")
        return
    yield NextStep(purpose="every case, split each way, with rates", command="add --all")
    if cluster.measured is None:
        yield NextStep(
            purpose="error of this model", command="bench run heterogeneous on the mix, then --measured FILE"
        )
