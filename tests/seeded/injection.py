"""Puts a fault into the ranks of a real run: patches of torch, of a library or of the clock, never of the product.

`run_with` starts the real command with the folder `injected` first on PYTHONPATH, whose sitecustomize calls `inject`
in every rank. A fault patches once torch is imported, since only then there is something to patch; one of the clock at
once, before anything has read it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType
from typing import Any

INJECTED = Path(__file__).parent / "injected"


@dataclass(frozen=True)
class When:
    """Calls that the fault strikes, of those that it could strike."""

    ranks: tuple[int, ...] | None = None
    """None: on every rank."""
    only_timed: bool = False
    """True: only while the engine takes a sample, so that no check of its own sees it."""
    first: int = 0
    """Calls before it are right."""
    every: int = 1
    """Of the others, each so-manieth is struck."""


@dataclass
class Injection:
    """One fault in one rank."""

    rank: int
    when: When
    num_calls: int = 0

    def strikes(self) -> bool:
        """Count a call that could be struck, and say if it is."""
        when = self.when
        if when.ranks is not None and self.rank not in when.ranks:
            return False
        if when.only_timed and not is_timed():
            return False
        self.num_calls += 1
        late = self.num_calls - when.first
        return late > 0 and late % when.every == 0

    def instead(
        self,
        owner: Any,
        name: str,
        faulty: Callable[..., Any],
        concerns: Callable[..., bool] = lambda *_args, **_named: True,
    ) -> None:
        """Have `owner.name(...)` call `faulty(original, ...)`, if the call `concerns` the fault and is struck."""
        original = getattr(owner, name)

        @wraps(original)
        def patched(*args: Any, **named: Any) -> Any:
            if concerns(*args, **named) and self.strikes():
                return faulty(original, *args, **named)
            return original(*args, **named)

        setattr(owner, name, patched)

    def after(
        self,
        owner: Any,
        name: str,
        spoil: Callable[..., object],
        concerns: Callable[..., bool] = lambda *_args, **_named: True,
    ) -> None:
        """Let `owner.name(...)` do its work, then call `spoil(result, ...)`."""

        def faulty(original: Callable[..., Any], *args: Any, **named: Any) -> Any:
            result = original(*args, **named)
            spoil(result, *args, **named)
            return result

        self.instead(owner, name, faulty, concerns)


def is_timed() -> bool:
    """True between the two marks of a sample: the engine's `take_sample` is among the callers."""
    frame = sys._getframe(1)
    while frame is not None:
        code: CodeType = frame.f_code
        if code.co_name == "take_sample":
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def inject(name: str, orders: str) -> None:
    """Put the fault of this name into the rank with these orders (`bench.measure.launch.rank_process.Orders`)."""
    from tests.seeded.table import FAULTS

    fault = FAULTS[name]
    injection = Injection(int(json.loads(orders)["index"]), fault.when)
    if fault.is_at_start:
        fault.install(injection)
    else:
        sys.meta_path.insert(0, _AfterTorch(lambda: fault.install(injection)))


@dataclass
class _AfterTorch(MetaPathFinder):
    """Calls something as soon as torch is imported."""

    call: Callable[[], object]

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torch")
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            self.call()

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def environment(fault: str) -> dict[str, str]:
    """Variables with which a run has the fault of this name; empty: none."""
    folders = [str(INJECTED), str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(folders)} | ({"SEEDED_FAULT": fault} if fault else {})
