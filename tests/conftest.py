"""Marks each test that starts real ranks as `ranks`, and lets workers begin with the files that have such tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dis import get_instructions
from functools import cache, cached_property
from types import CodeType, FunctionType
from typing import Any

import pytest
from hypothesis import settings

from bench.core.process.stop_signals import SIGNALS
from tests.support import command, ranks

STARTERS = (ranks.on_ranks, command.start)
COMMANDS = {"run", "ab"}
"""Of `bench`: those that start ranks."""

settings.register_profile("long", max_examples=5000)  # here, since hypothesis looks for it before it imports tests


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Handlers of signals as they were before the test: a command that ends ignores them, and children inherit that."""
    kept = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in kept.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and any(map(starts_ranks, _functions(item))):
            item.add_marker("ranks")
    if hasattr(config, "workerinput"):
        # The last files that are handed out should be short ones, so that no worker is left alone with a long one.
        slow = {item.path for item in items if item.get_closest_marker("ranks") or item.get_closest_marker("long")}
        items.sort(key=lambda item: item.path not in slow)


def _functions(item: pytest.Function) -> Iterator[FunctionType]:
    """The test and the fixtures that it takes."""
    yield item.function
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield from (each.func for each in definitions if isinstance(each.func, FunctionType))


@cache
def starts_ranks(function: FunctionType) -> bool:
    """Whether a function of the tests, or one of the tests that it names, starts processes that join a group."""
    return _reaches(function, set())


def _reaches(function: FunctionType, seen: set[Any]) -> bool:
    if function in seen or not function.__module__.startswith("tests."):
        return False
    seen.add(function)
    for code in _codes(function.__code__):
        named = (each.argval for each in get_instructions(code) if each.opname == "LOAD_GLOBAL")
        for value in map(function.__globals__.get, named):
            if value in STARTERS or (value is command.call and COMMANDS & set(_texts(code.co_consts))):
                return True
            if any(_reaches(each, seen) for each in _members(value)):
                return True
    return False


def _members(value: Any) -> Iterator[FunctionType]:
    """The functions of a class, or the one that it is."""
    for each in vars(value).values() if isinstance(value, type) else (value,):
        each = each.func if isinstance(each, cached_property) else each
        if isinstance(each, FunctionType):
            yield each


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Of a function and of those inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)


def _texts(constants: tuple[Any, ...]) -> Iterator[str]:
    for each in constants:
        if isinstance(each, str):
            yield each
        elif isinstance(each, tuple):
            yield from _texts(each)
