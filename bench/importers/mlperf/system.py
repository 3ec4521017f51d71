"""The system that an MLPerf log describes: nodes, accelerators, versions, and how the model was spread over them.

Source: mlcommons/policies, submission_rules.adoc (system_desc_id.json); NVIDIA/mlperf-common, client/mlperf-sysjson.sh;
mlcommons/logging, mlperf_logging/compliance_checker/hpc_1.0.0/common.yaml (number_of_ranks and the like).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError
from bench.importers.mlperf.events import Log, Run
from bench.importers.reading import ImportHints, mapping, number, words
from bench.importers.source.statements import Statements
from bench.records.lines.header import RankFacts
from bench.records.lines.parts import Fact

TOOL = "MLPerf"
SETTINGS = (
    "submission_org", "submission_division", "submission_status", "submission_platform", "micro_batch_size",
    "gradient_accumulation_steps", "tensor_parallelism", "pipeline_parallelism", "context_parallelism",
    "expert_parallelism", "data_parallelism", "lowest_numerical_precision_linear", "opt_name",
)  # fmt: skip
"""Events that say how a run was set up, and that the result keeps."""
SYSTEM_SETTINGS = ("submitter", "division", "status", "system_name", "framework", "accelerator_interconnect")
"""Fields of the system's description that the result keeps as settings; empty ones are left out."""
VERSIONS = ("cuda", "nccl", "cudnn", "openmpi")
_UNKNOWN = re.compile(r"FIXME|UNKNOWN", re.I)
"""Placeholders of mlperf-sysjson.sh."""


@dataclass(frozen=True)
class System:
    """The system as far as the log and the user say it."""

    num_ranks: int
    ranks: tuple[RankFacts, ...]
    settings: Mapping[str, Fact]
    versions: Mapping[str, str]


def system_of(log: Log, hints: ImportHints) -> System:
    """The system of a log.

    Raises BenchError if neither the log nor the user says how many accelerators there were, or the log says two
    numbers.
    """
    statements = Statements()
    for description in log.systems:
        nodes, each = _count(description.get("number_of_nodes")), _count(description.get("accelerators_per_node"))
        if nodes and each:
            statements.state("accelerators", nodes * each, f"{nodes} nodes of {each} in :::SYSJSON")
    for run in log.runs:
        nodes, each = run.count("number_of_nodes"), run.count("accelerators_per_node")
        if nodes and each:
            statements.state("accelerators", nodes * each, f"number_of_nodes {nodes}, accelerators_per_node {each}")
        for number_of_ranks in run.counts("number_of_ranks") if not (nodes and each) else ():
            statements.state("accelerators", number_of_ranks, "number_of_ranks")
    stated = statements.agreed("accelerators", "import the log of one system")
    num_ranks = hints.ranks(stated if isinstance(stated, int) else None, TOOL)
    name = _device_name(log.systems)
    rank = RankFacts(device_name=name, device_type="cuda" if name and re.search("NVIDIA|AMD", name) else None)
    return System(num_ranks, (rank,) * num_ranks, _settings(log), _versions(log.systems))


def _device_name(systems: Sequence[Mapping[str, Any]]) -> str | None:
    """Raises BenchError for two kinds of accelerators."""
    names = {name for description in systems if (name := _known(description.get("accelerator_model_name")))}
    if len(names) > 1:
        raise BenchError(
            f"the log describes several accelerators: {', '.join(sorted(names))}; import one log at a time"
        )
    return names.pop() if names else None


def _settings(log: Log) -> dict[str, Fact]:
    """Set-up that all runs share."""
    settings: dict[str, Fact] = {}
    for key in SETTINGS:
        values = {repr(value): value for run in log.runs if (value := _setting(run, key)) is not None}
        if len(values) == 1:
            settings[key] = values.popitem()[1]
    for key in SYSTEM_SETTINGS:
        texts = {text for description in log.systems if (text := _known(description.get(key)))}
        if len(texts) == 1:
            settings[key] = texts.pop()
    return settings


def _setting(run: Run, key: str) -> str | float | None:
    found = run.text(key)
    return found if found is not None else run.number(key)


def _versions(systems: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    versions: dict[str, str] = {}
    for description in systems:
        stack = mapping(description.get("other_software_stack"))
        for name in VERSIONS:
            if text := _known(stack.get(f"{name}_version")):
                versions[name] = text
    return versions


def _known(value: Any) -> str | None:
    text = words(value)
    return None if text is None or _UNKNOWN.search(text) else text


def _count(value: Any) -> int | None:
    """A whole number above zero; descriptions write it as a text."""
    found = number(value)
    return int(found) if found is not None and 0 < found < 2**31 and found.is_integer() else None
