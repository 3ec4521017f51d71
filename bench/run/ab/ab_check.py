"""Checks of both sides' plans that refuse a useless alternation before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.analysis.compare import selection
from bench.errors import BenchError
from bench.records.metrics import suite_metric
from bench.records.saved_plan import SIDES
from bench.run.ab.ab_sides import Setting, asking_words
from bench.run.ab.child import ask
from bench.run.outlook import Outlook

if TYPE_CHECKING:
    from bench.analysis.comparison_output.presentation import CompareOptions as Comparing


def outlooks(both: Sequence[Setting], given: Sequence[str], suites: Sequence[str]) -> list[Outlook]:
    """Plan of each side, from its own interpreter with its own settings. Raises BenchError."""
    return [Outlook.from_text(text) for text in ask([(side, asking_words(given, suites, side)) for side in both])]


def refuse_useless(plans: Sequence[Outlook], comparing: Comparing) -> None:
    """Raises BenchError if the sides have no case in common, where what is to be compared is none of it, and where
    a gate would not rule since the sides are different machines."""
    a, b = plans
    common = [case for case in a.cases if case.id in {other.id for other in b.cases}]
    if not common:
        raise BenchError(
            f"the sides have no case in common (a measures {a.cases[0].id}, b {b.cases[0].id}), so they cannot be "
            "compared in pairs; give parameters of cases with --set KEY=V1,V2 to both sides"
        )
    settings = comparing.settings()
    if settings.where:
        records = [selection.CaseIdentity(case.suite, case.id, case.params) for case in common]
        selection.refuse_none(records, settings.where)
    suites = [suite for outlook in plans for suite in outlook.plan.suites]
    metrics = {name: suite_metric(name, *row) for suite in suites for name, row in suite.metrics.items()}
    for name in settings.metrics:
        selection.named_metric(name, metrics)
    refuse_unlike([outlook.architecture for outlook in plans], comparing)


def refuse_unlike(architectures: Sequence[str], comparing: Comparing) -> None:
    """Check the architectures. Raises BenchError if they differ and a gate was asked for."""
    gate = comparing.gate()
    if not gate.is_requested or gate.allow_unlike or len(set(architectures)) == 1:
        return
    sides = ", ".join(f"side {name} is {text}" for name, text in zip(SIDES, architectures, strict=True))
    raise BenchError(f"{sides}: a gate compares machines of one kind; add --allow-unlike to gate all the same")
