"""The two result files of `bench ab`, locked for all of its launches, which go on with them one after the other.

A side that runs a bench of its own (`--base` of this very project) locks its file by itself, launch by launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import click

from bench.core.process_environment import HELD_FILE
from bench.records.run_file.run_file import RunFile
from bench.records.saved_plan import SIDES
from bench.run.ab.ab_sides import Setting
from bench.run.ab.child import LaunchEnd, start

PROGRAM = "bench ab"


class HeldFiles:
    """Makes or opens both files, and passes each to its side's launches. Raises BenchError."""

    def __init__(self, both: Sequence[Setting], names: Sequence[Path], is_new: bool) -> None:
        self.paths = list(names)
        """Where the files are now, also if one was lost and its lines were rescued."""
        self._files: list[RunFile | None] = []
        with ExitStack() as stack:
            for side, name in zip(both, names, strict=True):
                file = None
                if side.bench_root is None:
                    file = stack.enter_context((RunFile.create if is_new else RunFile.resume)(name, PROGRAM))
                    file.say = _say
                self._files.append(file)
            self._stack = stack.pop_all()

    def launch(self, side: Setting, words: Sequence[str]) -> LaunchEnd:
        """A launch that goes on with its side's file."""
        number = SIDES.index(side.name)
        file = self._files[number]
        if file is None:
            return start(side, words)
        orders, descriptors = file.pass_on(keeps_note=False)
        ended = start(side, words, {HELD_FILE: orders}, descriptors)
        if ended.file and Path(ended.file) != file.path.absolute():
            self._follow(number, Path(ended.file))
        else:
            file.take_over(mends=True)
            self._check(number)
        return ended

    def _follow(self, number: int, path: Path) -> None:
        """Go on with another file, to which the launch had to write everything."""
        file = self._stack.enter_context(RunFile.resume(path, PROGRAM))
        file.moves, file.say = [f"{self.paths[number]} was lost during a launch"], _say
        _say(f"warning: {file.moves[0]}; everything measured is saved in {path}, and goes on there")
        before, self._files[number], self.paths[number] = self._files[number], file, path
        if before is not None:
            before.close()

    def _check(self, number: int) -> bool:
        file = self._files[number]
        if file is None or file.is_empty:
            return False
        file.check()
        self.paths[number] = file.path
        return bool(file.moves)

    def check(self) -> bool:
        """See that both files have all their lines, or rescue them; returns True if one was lost on the way."""
        lost = [self._check(number) for number in range(len(self._files))]
        return any(lost)

    def __enter__(self) -> HeldFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stack.close()


def _say(text: str) -> None:
    click.echo(text, err=True)
