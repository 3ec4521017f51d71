"""Expectations: the range in which a figure should lie by what others measured, and on how many sources it rests.

A range needs three independent sources of one kind of loop, and is at most a fifth of its middle wide. Fewer sources,
or sources that are further apart, are shown without one. Collectives below 16 MiB are not judged, and those up
to 256 MiB only by sources with the same kind of loop: there the sources disagree. A kind of figure without published
ones gets its range from a rule (`bench.catalog.expectation_rules`), if there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from bench.catalog.expectation_rules import by_rule
from bench.catalog.questions import ENOUGH, MEASURED, Expectation, Question, of_values, question_of, sources
from bench.catalog.reference import ReferenceNumber, reference_numbers, size_class, vendor

MIN_BYTES, ANY_LOOP_BYTES = 16 << 20, 256 << 20
"""Bytes from which on a collective is judged at all, and by sources of any one loop."""
SAME_SIZE = 0.1
"""Difference of two sizes, in natural logarithms, below which they are one: 1 GB is 1 GiB."""


def expectation(question: Question, numbers: Sequence[ReferenceNumber] | None = None) -> Expectation | None:
    """What the published figures make one expect; None if they say nothing about this kind of case."""
    rows = reference_numbers() if numbers is None else numbers
    if not is_judged(question):
        return None
    return of_values(like(question, rows), MEASURED) or by_rule(question, rows)


def is_judged(question: Question) -> bool:
    """True unless sources are known to disagree about such a case, or what decides it is not known."""
    if question.num_nodes is None or (question.num_nodes > 1 and question.node_gbit_per_s is None):
        return False
    return not question.kind.endswith("_busbw") or (question.num_bytes or 0) >= MIN_BYTES


def like(question: Question, numbers: Iterable[ReferenceNumber]) -> list[tuple[str, float]]:
    """Publishers and figures of one loop that answer the question: its own, if not another that more have used."""
    by_loop: dict[str, list[tuple[str, float]]] = {}
    for number in numbers:
        if number.loop is not None and number.kind == question.kind and _is_like(question_of(number), question):
            by_loop.setdefault(number.loop, []).append((vendor(number), number.value))
    own = by_loop.get(question.loop or "", [])
    if len(sources(own)) >= ENOUGH or not _allows_any_loop(question):
        return own
    return max([own, *by_loop.values()], key=lambda found: len(sources(found)))


def _allows_any_loop(question: Question) -> bool:
    return not question.kind.endswith("_busbw") or (question.num_bytes or 0) >= ANY_LOOP_BYTES


def _is_like(published: Question, question: Question) -> bool:
    """True if two figures may be compared: one device, ranks, nodes, network, reduction and size."""
    same = ("accelerator", "num_ranks", "num_nodes", "size", "node_gbit_per_s", "reduces_in")
    if any(getattr(published, name) != getattr(question, name) for name in same):
        return False
    if question.num_nodes != 1 and (published.fabric is None or published.fabric != question.fabric):
        return False
    return not question.kind.endswith("_busbw") or is_same_size(published.num_bytes, question.num_bytes)


def is_same_size(published: int | None, asked: int | None) -> bool:
    """True if two payloads are about the same; all from about 8 GB on are."""
    if published is None or asked is None:
        return False
    return abs(math.log(size_class(published) / size_class(asked))) < SAME_SIZE
