"""Reading a result file: line by line, each checked down to its leaves; what is wrong is said in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core import jsonl
from bench.errors import BenchError
from bench.records.lines import decoding

Record = dict[str, Any]

SCHEMA = 1
UPGRADES: dict[int, Callable[[Record], Record]] = {}
"""Version v -> what makes a record of v + 1 of a record of v; a new schema adds one row."""


def read_lines(path: Path) -> FileRecords:
    """The records of a file of any schema ever written. Raises BenchError as `bench.records.file.load` says."""
    reading = FileRecords(path)
    source = jsonl.LineReader(path)
    for number, line in enumerate(source, 1):
        if line.strip():
            reading.take(number, line)
    reading.finish(source.is_whole)
    return reading


class FileRecords:
    """Records of a file by kind, as far as it is read; only the last line may be torn."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds: dict[str, list[Record]] = {kind: [] for kind in decoding.KINDS}
        self.warnings: list[str] = []
        self.unknown: dict[str, None] = {}
        self.schema: int | None = None
        self.last_kind: str | None = None
        self.torn: int | None = None
        """Number of a line that is no JSON."""

    def take(self, number: int, line: bytes) -> None:
        """Decode a line. Raises BenchError for one that is damaged and not the last, or has a wrong field."""
        if self.torn is not None:
            raise BenchError(
                f"{str(self.path)!r} is damaged at line {self.torn}; take the original, or remove that line"
            )
        kind = decoding.kind_of(line)
        if self.schema is None:
            self.schema = _schema(self.path, line, kind)
        if kind is None:
            self.torn = number
        elif kind not in decoding.KINDS:
            self.unknown[f"lines of the kind {kind!r:.40}"] = None
        else:
            self._keep(number, kind, line)

    def _keep(self, number: int, kind: str, line: bytes) -> None:
        if kind == "header" and self.kinds["header"]:
            raise BenchError(f"{str(self.path)!r}: line {number} is a second header; take the original file")
        assert self.schema is not None
        for version in range(self.schema, SCHEMA):
            line = decoding.changed(line, UPGRADES[version])
        record = decoding.plain(decoding.decode(self.path, number, line))
        self.unknown |= dict.fromkeys(f"{kind}.{name}" for name in decoding.unknown_fields(kind, line))
        if kind == "header":
            # A plan of which a part is not known cannot be taken up again; `Plan.from_json` refuses this field.
            unknown = decoding.unknown_plan_fields(line)
            record["plan"] |= {"unknown_fields": unknown} if unknown else {}
            self.unknown |= dict.fromkeys(f"header.plan.{name}" for name in unknown)
        self.kinds[kind].append(record)
        self.last_kind = kind

    def finish(self, is_whole: bool) -> None:
        """Say what is missing or was left out. Raises BenchError for a file without a line."""
        path = self.path
        if not self.kinds["header"]:
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


def _schema(path: Path, line: bytes, kind: str | None) -> int:
    """The schema of the header line. Raises BenchError for a first line that is no header, or of another schema."""
    if kind is None and line.startswith(b'{"kind":"header"') and jsonl.parse(line) is None:
        raise BenchError(f"{str(path)!r} breaks off within its first line and holds no case; delete it, measure again")
    if kind is None and not _is_text(line):
        raise BenchError(f"{str(path)!r} is a binary file, not a bench result; name a .jsonl that `bench run` wrote")
    if kind != "header":
        raise BenchError(
            f"{str(path)!r} is not a bench result (its first line is no header); name a .jsonl that `bench run` wrote"
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
