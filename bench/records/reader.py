"""Reading a result file: line by line, each checked down to its leaves; an error is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core import jsonl
from bench.errors import BenchError
from bench.records.lines import decoding
from bench.records.lines.kinds import Header, Line

SCHEMA = 1
UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Version v -> what makes a record of v + 1 of a record of v; a new schema adds one row."""


def read_lines(path: Path) -> FileRecords:
    """The records of a file of any schema ever written. Raises BenchError as `bench.records.file.load` says."""
    reading = FileRecords(path)
    source = jsonl.LineReader(path)
    with jsonl.enough_memory(path):
        for number, line in enumerate(source, 1):
            if line.strip():
                reading.take(number, line)
    reading.finish(source.is_whole)
    return reading


class FileRecords:
    """Records of a file by kind, as far as it is read; only the last line may be torn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        """The records in the order written; the first is the header."""
        self.warnings: list[str] = []
        self.unknown: dict[str, None] = {}
        """Kinds of lines and places of fields that this program does not know."""
        self.schema: int | None = None
        self.torn: int | None = None
        """Number of a line that is not JSON."""

    def take(self, number: int, line: bytes) -> None:
        """Decode a line. Raises BenchError for one that is damaged and not the last, or has a wrong field."""
        if self.torn is not None:
            raise BenchError(
                f"{str(self.path)!r} is damaged at line {self.torn}; take the original, or remove that line"
            )
        if self.schema is None:
            self.schema = _schema(self.path, line)
        try:
            for version in range(self.schema, SCHEMA):
                line = decoding.changed(line, UPGRADES[version])
            record = decoding.decode(line)
        except decoding.UnreadableLineError:
            self._take_unlike(number, line)
        else:
            self._keep(number, record)

    def _take_unlike(self, number: int, line: bytes) -> None:
        """Take a line that is torn, or that a newer program wrote. Raises BenchError for one with a wrong field."""
        kind = decoding.kind_of(line)
        if kind is None:
            self.torn = number
        elif kind not in decoding.KINDS:
            self.unknown[f"lines of the kind {kind!r:.40}"] = None
        else:
            try:
                record, names = decoding.decode_known(line)
            except decoding.UnreadableLineError as error:
                raise BenchError(
                    f"{str(self.path)!r}: record {number}, a {kind}, cannot be read: {error}; take the original file"
                ) from error
            self.unknown |= dict.fromkeys(names)
            self._keep(number, record)

    def _keep(self, number: int, record: Line) -> None:
        if isinstance(record, Header) and self.lines:
            raise BenchError(f"{str(self.path)!r}: line {number} is a second header; take the original file")
        self.lines.append(record)

    def finish(self, is_whole: bool) -> None:
        """Say what is missing or was left out. Raises BenchError for a file without a line."""
        path = self.path
        if not self.lines:
            raise BenchError(f"{str(path)!r} is empty; measure again with `bench run`")
        if self.torn is not None:
            self.warnings.append(
                f"{path}: the last line ({self.torn}) is torn and left out; the run ended as it was written"
            )
        elif not is_whole:
            self.warnings.append(f"{path}: the compressed file breaks off after its last whole line")
        if self.unknown:
            names = ", ".join(self.unknown)
            self.warnings.append(f"{path}: a newer bench wrote it; left out what this one does not know: {names:.300}")


def _schema(path: Path, line: bytes) -> int:
    """The schema of the header line. Raises BenchError for a first line that is not a header, or of another schema."""
    kind = decoding.kind_of(line)
    if kind is None and line.startswith(b'{"kind":"header"') and jsonl.parse(line) is None:
        raise BenchError(f"{str(path)!r} breaks off within its first line and holds no case; delete it, measure again")
    if kind is None and not _is_text(line):
        raise BenchError(f"{str(path)!r} is a binary file, not a bench result; name a .jsonl that `bench run` wrote")
    if kind != "header":
        raise BenchError(
            f"{str(path)!r} is not a bench result (no header in its first line); name a .jsonl that `bench run` wrote"
        )
    schema: Any = decoding.field_of(line, "schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise BenchError(f"{str(path)!r} is not a bench result (schema {schema!r:.40}); name a .jsonl of `bench run`")
    if schema > SCHEMA:
        raise BenchError(f"{str(path)!r} has schema {schema}, this bench reads up to {SCHEMA}; update bench to read it")
    return schema


def _is_text(line: bytes) -> bool:
    try:
        return all(char.isprintable() or char in "\t\r\ufeff" for char in line.decode())
    except UnicodeDecodeError:
        return False
