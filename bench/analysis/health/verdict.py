"""Is this machine healthy? Rules over one result file, and the line in which they end.

A run with a preset that promises a verdict (`bench.measure.planning.presets.Preset.judged`) ends with it, and
`bench show` says it again from the file alone. Every rule gives a level with its figure:

    ok       judged, and nothing is wrong
    bad      the machine is not healthy
    note     worth knowing, and no fault of the machine by itself
    unknown  could not be judged here, with the reason
    void     no verdict on this machine is possible, with the reason

The machine is healthy if no rule is bad or void: results that others disturbed, or that are not there, say nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from bench.analysis.health.rank_verdict import few_ranks, many_ranks
from bench.core import exit_codes
from bench.core.table import DisplayTable, text_column
from bench.core.values import first_few, show_percent
from bench.records.lines.kinds import Measurement
from bench.records.rows import case_rows
from bench.records.visits import was_left_out
from bench.stats import intervals

if TYPE_CHECKING:
    from bench.records.file import Result
    from bench.records.rows import Row

Level = Literal["ok", "bad", "note", "unknown", "void"]

JUDGED_PRESETS = frozenset({"node"})
"""Presets whose runs end in a verdict on the machine."""
MAX_SLOWDOWN = 0.05
"""Share by which the end of a soak may be slower than its beginning."""
MAX_CONTENTION: Mapping[str, tuple[float, Level]] = {"cuda": (1.10, "bad"), "cpu": (1.50, "note")}
"""Device type -> time of a matrix product with all ranks at once / alone. GPUs have nothing to take from each other but
power and cooling; cores of a CPU share clocks and caches by design."""
MAX_DISTURBED, SPOILING = 0.05, 0.25
"""Shares of the CPU time of the median case that others may take before it is mentioned, and before it spoils every
figure: at a quarter of two cores one rank shares its core for half of the time."""
HARMLESS_LIMITS = frozenset({"GPU power cap"})
"""A GPU under load runs into its power cap by design."""


@dataclass(frozen=True)
class RuleOutcome:
    """Outcome of one rule over a result."""

    level: Level
    figure: str
    """Figure in words, with its limit if there is one."""


@dataclass(frozen=True)
class Evidence:
    """A result as the rules see it."""

    result: Result

    @cached_property
    def rows(self) -> list[Row]:
        return case_rows([self.result])

    def measured(self, suite: str) -> list[Row]:
        return [row for row in self.rows if row["suite"] == suite and row["status"] == "ok"]

    def values(self, suite: str, name: str) -> list[float]:
        return [row[name] for row in self.measured(suite) if row.get(name) is not None]

    @property
    def device_type(self) -> str:
        return str(self.result.plan.device_type)


Rule = Callable[[Evidence], RuleOutcome]


def _doctor(evidence: Evidence) -> RuleOutcome:
    """Failures are bad; warnings say what may make figures lower."""
    doctor = evidence.result.header.doctor
    if doctor is None:
        return RuleOutcome("unknown", "the file has no findings of the doctor")
    findings = doctor.findings
    texts = {level: [f"{f.what}: {f.value}" for f in findings if f.level == level] for level in ("fail", "warn")}
    if texts["fail"]:
        actions = {finding.action for finding in findings if finding.level == "fail"}
        named = [action for action in ("isolate", "reboot", "reset") if action in actions]
        return RuleOutcome("bad", first_few(texts["fail"]) + (f"; {named[0]}" if named else ""))
    if texts["warn"]:
        return RuleOutcome("note", first_few(texts["warn"]))
    return RuleOutcome("ok", f"{len(findings)} findings, all ok")


def _enumerate(things: Sequence[str]) -> str:
    """`a was`, `a and b were`, `a, b and c were`."""
    *others, last = things
    return f"{', '.join(others)} and {last} were" if others else f"{last} was"


def _checks(evidence: Evidence) -> RuleOutcome:
    wrong = [row for row in evidence.rows if row["status"] in ("invalid", "failed")]
    measured = sum(row["status"] == "ok" for row in evidence.rows)
    right = f"{measured} of {measured + len(wrong)} results right"
    if wrong:
        named = first_few([f"{row['case']} {row['status']}: {row['reason']}" for row in wrong])
        return RuleOutcome("bad", f"{right}: {named}")
    return RuleOutcome("ok", right) if measured else RuleOutcome("void", "no case was measured")


def _measured(evidence: Evidence) -> RuleOutcome:
    """Every suite of the plan has a measured case, or has none that makes sense on this machine."""
    lacking, without = [], []
    for suite in evidence.result.plan.suites:
        records = [record for record in evidence.result.measurements if record.suite == suite.name]
        if any(record.status != "skipped" for record in records):
            continue
        if not records or any(map(was_left_out, records)):
            lacking.append(suite.name)
        else:
            without.append(f"{suite.name} ({records[0].reason})")
    if lacking:
        end = evidence.result.end
        was_stopped = end is None or end.status == "interrupted"
        why = "because the run was stopped before" if was_stopped else "because no time was left"
        return RuleOutcome("void", f"{_enumerate(lacking)} not run {why}")
    return (
        RuleOutcome("note", f"nothing to measure: {first_few(without)}")
        if without
        else RuleOutcome("ok", "every suite")
    )


def _ranks(evidence: Evidence) -> RuleOutcome:
    """A rank whose own compute is slower than its siblings'."""
    num_ranks = evidence.result.plan.world_size or 1
    if num_ranks < 2:
        return RuleOutcome("unknown", "one rank has no siblings")
    ruling = many_ranks(evidence.result) or few_ranks(evidence.result)
    if ruling is None:
        return RuleOutcome("unknown", f"too few cases to tell {num_ranks} ranks apart")
    return RuleOutcome("bad", ruling.slow) if ruling.slow else RuleOutcome("ok", ruling.said)


def _pairs(evidence: Evidence) -> RuleOutcome:
    """A rank or pair whose link is slower than the others'."""
    judged = [row for row in evidence.measured("point_to_point") if row.get("slow_links") is not None]
    if not judged:
        return RuleOutcome("unknown", "too few pairs of ranks to tell them apart")
    if not any(row["slow_links"] > 0 for row in judged):
        return RuleOutcome("ok", f"none stands out in {len(judged)} cases")
    named = [name for record in evidence.result.latest() for name in _named_links(record)]
    return RuleOutcome(
        "bad", first_few(list(dict.fromkeys(named)) or [f"{row['case']}" for row in judged if row["slow_links"]])
    )


def _named_links(record: Measurement) -> list[str]:
    """Links in the suite's table of those that stand out, such as `rank 2: each of its pairs (1.9x the time)`."""
    table = record.tables.get("stands_out")
    rows = [] if table is None else [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return [f"{row.get('slow link')} ({row.get('times as long') or 0:.2g}x the time)" for row in rows]


def _throttling(evidence: Evidence) -> RuleOutcome:
    readable = [row for row in evidence.rows if row["status"] == "ok" and row.get("throttled") is not None]
    if not readable:
        return RuleOutcome("unknown", "nothing here tells what holds clocks down")
    harmful: dict[str, int] = {}
    for row in readable:
        for reason in row["throttle_reasons"] or ():
            harmful[reason] = harmful.get(reason, 0) + 1
    bad = [f"{reason} in {count} cases" for reason, count in harmful.items() if reason not in HARMLESS_LIMITS]
    soak = max(evidence.values("soak", "throttled_share"), default=0.0)
    if soak > 0:
        bad.append(f"clocks held down for {soak:.0%} of the soak")
    if bad:
        return RuleOutcome("bad", first_few(bad))
    hottest = evidence.values("soak", "hottest_celsius")
    return RuleOutcome(
        "ok", f"none in {len(readable)} cases" + (f", hottest device {max(hottest):.0f} C" if hottest else "")
    )


def _soak(evidence: Evidence) -> RuleOutcome:
    rows = [row for row in evidence.measured("soak") if row.get("slowdown_low") is not None]
    if not rows:
        return RuleOutcome("unknown", "no soak long enough was measured")
    worst = max(rows, key=lambda row: row["slowdown_low"])
    low, high = worst["slowdown_low"], worst["slowdown_high"]
    bounds = f"{100 * low:+.1f} to {100 * high:+.1f}%"
    figure = f"the last fifth is slower than the first by {bounds} (limit {MAX_SLOWDOWN:.0%})"
    if low > MAX_SLOWDOWN:
        return RuleOutcome("bad", figure)
    if high > MAX_SLOWDOWN:
        return RuleOutcome("unknown", f"{figure}: a longer soak would tell, --set seconds=600")
    return RuleOutcome("ok", figure)


def _contention(evidence: Evidence) -> RuleOutcome:
    products = [row for row in evidence.measured("compute") if (row["params"] or {}).get("op") == "matmul"]
    values = [row["contention"] for row in products if row.get("contention") is not None]
    if not values:
        return RuleOutcome("unknown", "no rank was timed together with others of its host")
    limit, level = MAX_CONTENTION.get(evidence.device_type, MAX_CONTENTION["cpu"])
    middle = intervals.median(values)
    figure = f"matrix products take {middle:.2f}x the time when all ranks work (limit {limit:.2f}x)"
    return RuleOutcome(level if middle > limit else "ok", figure)


def _disturbance(evidence: Evidence) -> RuleOutcome:
    """CPU time that other work took while cases were measured: no fault of the machine, and it spoils figures."""
    rows = [row for row in evidence.rows if row["status"] == "ok"]
    other = [
        max(0.0, row["other_load_share"] - (row.get("other_load_noise_share") or 0.0))
        for row in rows
        if row.get("other_load_share") is not None
    ]
    steal = [row["steal_share"] for row in rows if row.get("steal_share") is not None]
    if not other and not steal:
        return RuleOutcome("unknown", "nothing here tells what else ran")
    taken = {"other processes": other, "the hypervisor": steal}
    middles = {who: intervals.median(shares) for who, shares in taken.items() if shares}
    much = {who: share for who, share in middles.items() if share > MAX_DISTURBED}
    figure = ", ".join(f"{who} took {show_percent(share)}%" for who, share in (much or middles).items())
    level: Level = "void" if max(middles.values()) > SPOILING else "note" if much else "ok"
    return RuleOutcome(level, f"{figure} of the CPU time (median of the cases)")


RULES: Mapping[str, Rule] = {
    "results": _checks,
    "doctor": _doctor,
    "disturbance": _disturbance,
    "measured": _measured,
    "throttling": _throttling,
    "ranks": _ranks,
    "pairs": _pairs,
    "soak": _soak,
    "contention": _contention,
}
"""Name -> rule, the weightiest reason first; a new rule is a function and a row."""
TIME_RULES = ("ranks", "pairs", "soak", "contention")
"""Rules that judge by times: others' work makes a rank or a link slow that is not."""


@dataclass(frozen=True)
class Health:
    """Every rule's outcome."""

    outcomes: Mapping[str, RuleOutcome]

    def of(self, level: Level) -> dict[str, str]:
        """Rule -> figure, of those with a level."""
        return {rule: outcome.figure for rule, outcome in self.outcomes.items() if outcome.level == level}

    @property
    def exit_code(self) -> int:
        """0 healthy, 1 not (a gate that the preset asks for), 2 if no verdict is possible."""
        if self.of("bad"):
            return exit_codes.GATE
        return exit_codes.USAGE if self.of("void") else exit_codes.OK

    def line(self) -> str:
        """The verdict, why, and how many results are right: the last line of a run."""
        right = [
            outcome.figure for rule, outcome in self.outcomes.items() if rule == "results" and outcome.level == "ok"
        ]
        return "; ".join([*self._verdict(), *right])

    def _verdict(self) -> list[str]:
        unknown, notes, void = self.of("unknown"), self.of("note"), self.of("void")
        if bad := self.of("bad"):
            return [f"Machine: not healthy: {_reasons(bad)}", *void.values()]
        if void:
            return [f"Machine: cannot say: {'; '.join(void.values())}"]
        judged = len(self.outcomes) - len(unknown)
        more = [f"not judged: {', '.join(unknown)}"] if unknown else []
        more += [f"mind: {_reasons(notes)}"] if notes else []
        return [f"Machine: healthy: {judged} of {len(self.outcomes)} rules hold", *more]

    def table(self) -> DisplayTable:
        rows = tuple({"rule": r, "verdict": o.level, "figure": o.figure} for r, o in self.outcomes.items())
        columns = (text_column("rule"), text_column("verdict"), text_column("figure"))
        return DisplayTable("Is this machine healthy?", columns, rows, (self.line(),))


def _reasons(figures: Mapping[str, str]) -> str:
    return "; ".join(f"{rule}: {figure}" for rule, figure in figures.items())


def judge(result: Result) -> Health:
    """Every rule over a result file; measures and imports nothing heavy."""
    evidence = Evidence(result)
    outcomes = {name: rule(evidence) for name, rule in RULES.items()}
    if outcomes["disturbance"].level == "void":
        accused = {name: outcomes[name].figure for name in TIME_RULES if outcomes[name].level == "bad"}
        outcomes |= {
            name: RuleOutcome("unknown", f"{figure}, while others were at work") for name, figure in accused.items()
        }
    return Health(outcomes)


def is_judged(result: Result) -> bool:
    """True if the run's preset promised a verdict."""
    return result.plan.preset in JUDGED_PRESETS
