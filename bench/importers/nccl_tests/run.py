"""One run of nccl-tests: what it says before its table, its rows, and whether the two agree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.errors import BenchError
from bench.importers.nccl_tests.checks import CheckedRun, check_run, fitting_operations
from bench.importers.nccl_tests.rows import TOOL, NcclTestsSetup, Row, readings
from bench.importers.nccl_tests.table import TableHead
from bench.importers.reading import ImportedCase, ImportHints, distinct_name, whole
from bench.importers.source.ledger import Ledger
from bench.importers.source.statements import Statements, check_listed_ranks
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import Fact
from bench.suite import Params

_OPTION = re.compile(r"(nThread|nGpus|minBytes|maxBytes):? (\d+)|(?<!warmup )(agg iters|iters|graph|unalign): (\d+)")
_STEP = re.compile(r"step: (\d+)\((factor|bytes)\)")


@dataclass
class NcclRun:
    """One run of the program: what it says before its table, and the table."""

    setup: NcclTestsSetup = field(default_factory=NcclTestsSetup)
    statements: Statements = field(default_factory=Statements)
    ranks: list[int] = field(default_factory=list)
    devices: list[tuple[int, str, str]] = field(default_factory=list)
    """(group, host, device's name) of every rank, in their order."""
    is_elided: bool = False
    head: TableHead = field(default_factory=TableHead)
    has_head: bool = False
    rows: list[Row] = field(default_factory=list)
    average: float | None = None
    out_of_bounds: int = 0
    variables: dict[str, str] = field(default_factory=dict)
    """Variables of NCCL on its command line and before it."""

    def again(self) -> NcclRun:
        """A further table of the same program."""
        return NcclRun(replace(self.setup), self.statements, self.ranks, self.devices, self.is_elided)


def configure(setup: NcclTestsSetup, text: str) -> None:
    """Take up the set-up that a text states in one line."""
    options = {(name or other): whole(value or more) for name, value, other, more in _OPTION.findall(text)}
    setup.iterations = options.get("iters")
    setup.aggregated = options.get("agg iters", 1)
    setup.graph = options.get("graph", 0)
    setup.unalign = options.get("unalign", 0)
    setup.min_bytes, setup.max_bytes = options.get("minBytes"), options.get("maxBytes")
    if "nThread" in options and "nGpus" in options:
        setup.ranks_per_process = options["nThread"] * options["nGpus"]
    if step := _STEP.search(text):
        setup.step_factor = whole(step[1]) if step[2] == "factor" else None
        setup.step_bytes = whole(step[1]) if step[2] == "bytes" else None


def settings_of(runs: Sequence[NcclRun]) -> dict[str, Fact]:
    """The settings of the first run, and the variables and options that all runs share: others are parts of cases."""
    names = ("iterations", "aggregated", "graph", "unalign", "is_blocking")
    setup, variables = runs[0].setup, runs[0].variables
    shared = {name for name in variables if all(run.variables.get(name) == variables[name] for run in runs)}
    settings = {name: getattr(setup, name) for name in names if getattr(setup, name) is not None}
    return settings | {name.lower(): variables[name] for name in sorted(shared)}


def rank_facts(devices: list[tuple[int, str, str]], num_ranks: int | None) -> tuple[RankFacts, ...]:
    """Facts of every rank; of those that the text leaves out there is only the kind of device."""
    listed = [RankFacts(host=host, device_type="cuda", device_name=name) for _, host, name in devices]
    if num_ranks is None or len(listed) == num_ranks:
        return tuple(listed)
    names = {name for _, _, name in devices}
    unlisted = RankFacts(device_type="cuda", device_name=names.pop() if len(names) == 1 else None)
    return (unlisted,) * num_ranks


def distinct_settings(runs: Sequence[NcclRun]) -> list[Params]:
    """For each run, the variables of NCCL in which the runs of a text differ: they make different cases."""
    names = sorted({name for run in runs for name in run.variables})
    differing = [name for name in names if len({run.variables.get(name) for run in runs}) > 1]
    return [{name.lower(): distinct_name(run.variables.get(name, "default")) for name in differing} for run in runs]


def checked_cases(run: NcclRun, hints: ImportHints, ledger: Ledger) -> tuple[CheckedRun, list[ImportedCase]]:
    """Findings on the run, and its cases. Raises BenchError if it contradicts itself, or the user."""
    stated_op = run.statements.agreed("operation", "import the output of one program")
    op = str(stated_op) if stated_op is not None else run.setup.op
    if hints.op is not None and op not in (None, hints.op):
        raise BenchError(f"--op {hints.op}: the text says {op}; leave the option out")
    num_ranks, groups = _num_ranks(run, hints)
    setup = replace(run.setup, op=op or hints.op, num_ranks=num_ranks, groups=groups)
    if setup.op is None:
        fitting = fitting_operations(run.rows, num_ranks)
        fit = f" (its bandwidths fit {', '.join(fitting)})" if fitting else ""
        raise BenchError(f"the text does not say which collective it measured{fit}; add --op, such as --op all_reduce")
    checked = check_run(run.rows, setup.op, num_ranks, run.average, run.out_of_bounds)
    if checked.contradictions and (hints.op is not None or (hints.num_ranks is not None and not run.devices)):
        said = " ".join(
            f"--{name} {value}" for name, value in (("op", hints.op), ("ranks", hints.num_ranks)) if value is not None
        )
        raise BenchError(f"{said}: {checked.contradictions[0].note()}")
    for row, reason in checked.refused:
        ledger.unread(row.line, ledger.lines[f"line {row.line}"].text, reason)
    checked.groups = groups
    setup.fits_factor = checked.fits_factor
    checked.remarks += _ends_early(run, setup)
    return checked, [case for row in checked.rows for case in readings(row, setup)]


def _ends_early(run: NcclRun, setup: NcclTestsSetup) -> list[str]:
    """A remark on a table that ends before its last size, and has no average after it as whole tables do."""
    last = max((row.num_bytes for row in run.rows), default=0)
    after = setup.size_after(last)
    if run.average is not None or after is None:
        return []
    return [
        f"the set-up says sizes up to {setup.max_bytes:,} bytes, and the table ends at {last:,}: the text was cut off, "
        "or the run failed"
    ]


def _num_ranks(run: NcclRun, hints: ImportHints) -> tuple[int, int]:
    """Ranks of a group, and the number of groups."""
    counts = {group: sum(1 for other, _, _ in run.devices if other == group) for group, _, _ in run.devices}
    if len(counts) > 1:
        if len(set(counts.values())) > 1:
            sizes = ", ".join(f"group {group}: {number}" for group, number in counts.items())
            raise BenchError(f"the text lists groups of different numbers of ranks ({sizes}); take the original file")
        return hints.ranks(next(iter(counts.values())), TOOL), len(counts)
    listed = check_listed_ranks(run.ranks, hints.num_ranks, _shortened(run))
    told = listed is not None and (_shortened(run) is not None or len(run.ranks) != listed)
    run.statements.state("number of ranks", None if told else listed, "its list of devices")
    agreed = run.statements.agreed("number of ranks", "import the output of one run")
    return hints.ranks(int(agreed) if agreed is not None else None, TOOL), 1


def _shortened(run: NcclRun) -> str | None:
    """Why the list of devices may lack its end; None if it need not."""
    per_process = run.setup.ranks_per_process
    if run.is_elided:
        return "shortens its list"
    if per_process and len(run.ranks) % per_process:
        return f"a process has {per_process} (nThread x nGpus)"
    return None
