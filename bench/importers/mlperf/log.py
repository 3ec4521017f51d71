"""Reads logs of MLPerf Training: times of steps, samples and tokens per second, and the time to train.

`mlperf/train_step[...]`: each `train_step_time` of `tracked_stats` is the mean over the steps of a block, and is one
sample. A log without it tells the time of a step by its throughput in samples per second, at its global batch size.
`mlperf/time_to_train[...]`: from `run_start` to `run_stop`; a run that did not reach its target has failed. The
benchmark and the global batch size are parts of a case; runs of one text are its launches.

`throughput` counts samples, unless the time of a step says tokens. A log of gpt3 may count either, so without the time
of a step its throughput stays without a unit. Source: mlcommons/training_policies, training_rules.adoc;
NVIDIA/mlperf-common, mlperf_common/callbacks/logging.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from statistics import median

from bench.errors import BenchError
from bench.importers.mlperf.events import LINE, Event, Log, Run, intervals, parse
from bench.importers.mlperf.system import SETTINGS, TOOL, System, system_of
from bench.importers.reading import (
    ImportedCase,
    ImportedText,
    ImportHints,
    distinct_name,
    mapping,
    mean_note,
    number,
    words,
)
from bench.importers.source.statements import Contradiction
from bench.suite import Params, SuiteMetric

SUITE = "mlperf"
STEP_TIME, THROUGHPUT, SAMPLES, TOKENS = "train_step_time", "throughput", "samples_per_s", "logged_tokens_per_s"
RATES = {
    "throughput": THROUGHPUT,
    "overall_throughput": THROUGHPUT,
    "samples_per_second": SAMPLES,
    "samples_per_sec": SAMPLES,
    "samples/s": SAMPLES,
    "tokens_per_second": TOKENS,
    "tokens_per_sec": TOKENS,
    "tokens/s": TOKENS,
}
"""Keys of rates as programs write them, in `tracked_stats` or as events of their own."""
METRICS = {
    SAMPLES: SuiteMetric("samples/s", "higher", "Median of the samples per second that the log states."),
    TOKENS: SuiteMetric("tokens/s", "higher", "Median of the tokens per second that the log states."),
    THROUGHPUT: SuiteMetric("1/s", "higher", "Median of a throughput whose unit the log does not say."),
}
IDENTITY = ("global_batch_size", "max_sequence_length")
"""Numbers that tell a case from others of its benchmark."""
UNCLEAR = ("gpt3",)
"""Benchmarks whose logs count tokens in some rounds, and samples in others."""
TOLERANCE = 0.1
"""Relative deviation of a throughput from batch size over time of a step: they are of different blocks."""
MIN_TOKENS = 8
"""Tokens that a sequence has at least."""
_CONFIG = {*SETTINGS, "submission_benchmark", "global_batch_size", "max_sequence_length", "number_of_nodes",
           "accelerators_per_node", "number_of_ranks"}  # fmt: skip


@dataclass
class _Stats:
    """Numbers of one run."""

    step_seconds: list[float] = field(default_factory=list)
    rates: dict[str, list[float]] = field(default_factory=dict)
    where: str = ""
    """The place of the first rate."""


def looks_like(text: str) -> bool:
    return any(match["kind"] == "MLLOG" for match in LINE.finditer(text))


def read(text: str, hints: ImportHints) -> ImportedText:
    """The cases of a log. Raises BenchError if neither the log nor the user says the number of accelerators."""
    log = parse(text)
    if not log.runs and not log.ledger.of_kind("unread"):
        raise BenchError("no log of MLPerf: it has no line :::MLLOG {...} with an event")
    system = system_of(log, hints)
    cases: list[ImportedCase] = []
    contradictions: list[Contradiction] = []
    launches: dict[tuple[object, ...], int] = {}
    for run in log.runs:
        params = _params(run)
        contradictions += _of_one_run(run)
        key = tuple(sorted(params.items()))
        of_run = list(_cases(run, log, params, system, launches.get(key, 0), contradictions))
        launches[key] = launches.get(key, 0) + bool(of_run)
        cases += of_run
    return ImportedText(
        tool=TOOL,
        version=None,
        format="text",
        readings=tuple(cases),
        ledger=log.ledger,
        contradictions=tuple(contradictions),
        remarks=tuple(remark for run in log.runs for remark in _of_its_end(run)),
        ranks=system.ranks,
        versions=system.versions,
        settings=system.settings,
    )


def _params(run: Run) -> Params:
    params: Params = {"benchmark": distinct_name(run.text("submission_benchmark") or "unnamed")}
    for key in IDENTITY:
        value = run.count(key)
        params |= {} if value is None else {key: value}
    return params


def _of_one_run(run: Run) -> Iterator[Contradiction]:
    """Parts of a case that a run states twice, and differently."""
    for key in IDENTITY:
        if len(values := run.counts(key)) > 1:
            where = run.of(key)[-1].where
            yield Contradiction(where, f"{key} is {' and '.join(map(str, values))} in one run; the last one is taken")


def _of_its_end(run: Run) -> Iterator[str]:
    """A remark on a run that began and never stopped, so that its time to train is not known."""
    starts, stops = run.of("run_start"), run.of("run_stop")
    if starts and not stops:
        yield f"{starts[0].where}: run_start without a run_stop; the time to train is not known"
    elif stops and not starts:
        yield f"{stops[0].where}: run_stop without a run_start; the time to train is not known"


def _cases(
    run: Run, log: Log, params: Params, system: System, launch: int, contradictions: list[Contradiction]
) -> Iterator[ImportedCase]:
    """The cases of one run, in its launch; each line that is used is noted as read."""
    for event in run.events:
        if event.key in _CONFIG:
            _note(log, event, "set-up")
    stats = _stats(run, log)
    rates = _with_units(stats, params, contradictions)
    step = _step_seconds(stats, rates, params)
    if step is not None:
        seconds, note = step
        yield ImportedCase(
            suite=SUITE,
            params={"op": "train_step", **params},
            num_ranks=system.num_ranks,
            seconds=seconds,
            launch=launch,
            notes=(note,),
            derived={name: median(values) for name, values in rates.items()},
            metrics={name: METRICS[name] for name in rates},
        )
    for found in intervals(run.events, "run_start", "run_stop"):
        _note(log, found.start, "start of a run")
        _note(log, found.stop, "end of a run")
        status = words(found.stop.metadata.get("status")) or words(found.stop.value)
        if found.seconds is None:
            log.ledger.unread(found.stop.index, found.stop.key, "its time is not after that of run_start")
            continue
        has_failed = status not in (None, "success")
        unsaid = () if status else ("imported: the log does not say that the run reached its target",)
        yield ImportedCase(
            suite=SUITE,
            params={"op": "time_to_train", **params},
            num_ranks=system.num_ranks,
            seconds=() if has_failed else (found.seconds,),
            launch=launch,
            status="failed" if has_failed else "ok",
            reason=f"the log says {status}: the run did not reach its target" if has_failed else None,
            notes=("imported: one run, from run_start to run_stop", *unsaid),
            derived={} if step is not None else {name: median(values) for name, values in rates.items()},
            metrics={} if step is not None else {name: METRICS[name] for name in rates},
        )


def _note(log: Log, event: Event, what: str) -> None:
    log.ledger.read(event.index, f":::MLLOG {event.key}", what)


def _stats(run: Run, log: Log) -> _Stats:
    """Times of steps and rates of a run: those of a block in their order."""
    stats = _Stats()
    for event in run.events:
        table = mapping(event.value) if event.key == "tracked_stats" else {event.key: event.value}
        for name, value in table.items():
            amount = number(value)
            if name not in RATES and name != STEP_TIME:
                continue
            if amount is None or amount <= 0:
                log.ledger.unread(event.index, f"{name}: {value}", "is not a time or rate above 0")
                continue
            if name == STEP_TIME:
                stats.step_seconds.append(amount)
            elif event.key == "tracked_stats" or not stats.rates:  # a summary at the end repeats those of the blocks
                stats.rates.setdefault(RATES[name], []).append(amount)
                stats.where = stats.where or event.where
            _note(log, event, f"{name} of a block" if event.key == "tracked_stats" else name)
    return stats


def _with_units(stats: _Stats, params: Params, contradictions: list[Contradiction]) -> dict[str, list[float]]:
    """The rates, with that of `throughput` under its unit, as far as the log tells it."""
    rates = dict(stats.rates)
    values = rates.pop(THROUGHPUT, None)
    if values is None:
        return rates
    unit = _unit_of(median(values), stats, params, contradictions)
    rates.setdefault(unit, values)
    return rates


def _unit_of(throughput: float, stats: _Stats, params: Params, contradictions: list[Contradiction]) -> str:
    batch, length = params.get("global_batch_size"), params.get("max_sequence_length")
    if not stats.step_seconds or not isinstance(batch, int):
        return THROUGHPUT if params["benchmark"] in UNCLEAR else SAMPLES
    samples = batch / median(stats.step_seconds)
    if abs(throughput / samples - 1) <= TOLERANCE:
        return SAMPLES
    if isinstance(length, int) and abs(throughput / (samples * length) - 1) <= TOLERANCE:
        return TOKENS
    if length is None and throughput > MIN_TOKENS * samples:  # tokens, of sequences whose length the log does not say
        return THROUGHPUT
    contradictions.append(
        Contradiction(
            stats.where,
            f"a throughput of {throughput:g} per second, but {batch} samples in {median(stats.step_seconds):g} s are "
            f"{samples:g} samples per second" + (f" of {length} tokens" if isinstance(length, int) else ""),
        )
    )
    return THROUGHPUT


def _step_seconds(
    stats: _Stats, rates: Mapping[str, list[float]], params: Params
) -> tuple[tuple[float, ...], str] | None:
    """Times of a step, one per block, and a note on where they are from; None if the log does not tell them."""
    if stats.step_seconds:
        return tuple(stats.step_seconds), mean_note("each sample is the mean over the steps of a block")
    batch = params.get("global_batch_size")
    if isinstance(batch, int) and (values := rates.get(SAMPLES)):
        note = mean_note("each sample is the global batch size over the samples per second of a block")
        return tuple(batch / value for value in values), note
    return None
