"""Faults of timed calls: a case is prepared and checked, then a call that leaves work out is looked at.

`look_at(...)` says what a look made of a variant; `check` passes before and after, as it would around timed calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

from bench.suite import Check, TimedCheck, Work

Fault = Callable[[Work], Any]
"""A context manager within which the first variant is called."""


@dataclass(frozen=True)
class Outcome:
    """What was seen of one case on one rank."""

    checks: tuple[bool, bool]
    """Passed before and after."""
    idle: Mapping[str, bool]
    """Variant -> True if the look at a call that did nothing passed."""
    honest: Mapping[str, bool]
    """Variant -> True if the look at an honest call passed."""
    faulty: Mapping[str, bool]
    """Fault -> True if the look at the first variant with it passed."""


def look_at(work: Work, variant: str, run: Callable[[], object]) -> bool:
    """Arm, restore the inputs, call, look: what the sampler does; True if the look passed, or if there is none."""
    check = work.timed_checks.get(variant) or TimedCheck(arm=lambda: None, look=lambda calls: Check(0.0, 0.0))
    check.arm()
    if work.reset is not None:
        work.reset()
    run()
    return Check(*check.look(1)).passed


def outcome(context: Any, reference: str, params: dict[str, Any], faults: Mapping[str, Fault]) -> Outcome:
    """What looks say of a case whose calls do nothing, do part of their work, and do it all."""
    from bench.measure.planning.suite_loader import load

    suite = load(reference)
    work = suite.prepare(suite.defaults | params, context)
    before = Check(*work.check()).passed
    honest = {name: look_at(work, name, run) for name, run in work.variants.items()}
    # A rank that rests in a variant has nothing to look at there.
    idle = {name: look_at(work, name, lambda: None) for name in work.variants}
    main, faulty = next(iter(work.variants)), {}
    for name, fault in faults.items():
        with fault(work):
            faulty[name] = look_at(work, main, lambda: work.variants[main]())
    look_at(work, main, work.variants[main])  # what a load left out is put right
    after = Check(*work.check()).passed
    if work.close is not None:
        work.close()
    idle = {name: passed for name, passed in idle.items() if name in work.timed_checks}
    return Outcome((before, after), idle, honest, faulty)


def other_variant(name: str) -> Fault:
    """`full` does only what another variant does."""

    @contextmanager
    def fault(work: Work) -> Iterator[None]:
        with mock.patch.dict(work.variants, {"full": work.variants[name]}):  # type: ignore[arg-type]
            yield

    return fault


def half_done(half: Callable[[Any], object]) -> Fault:
    """`half` is called with what is timed in place of it, and does half of its work."""

    @contextmanager
    def fault(work: Work) -> Iterator[None]:
        run = next(iter(work.variants.values()))
        with mock.patch.dict(work.variants, {"full": lambda: half(run)}):  # type: ignore[arg-type]
            yield

    return fault


def replaced(target: Any, *names: str, by: Callable[..., Any]) -> Fault:
    """Attributes of a class or module are replaced, those that there are."""

    @contextmanager
    def fault(_work: Work) -> Iterator[None]:
        present = {name: by for name in names if hasattr(target, name)}
        with mock.patch.multiple(target, **present):
            yield

    return fault


def first_call_only(target: Any, name: str) -> Fault:
    """Only the first call of a method does anything."""

    @contextmanager
    def fault(_work: Work) -> Iterator[None]:
        method, calls = getattr(target, name), []

        def once(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            return method(*arguments, **named) if len(calls) == 1 else None

        with mock.patch.object(target, name, once):
            yield

    return fault


class Done:
    """What an asynchronous operation gives that did nothing."""

    def wait(self) -> bool:
        return True
