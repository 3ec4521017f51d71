"""JSON Lines as they lie on a disk: plain or gzipped, whole or broken off; as many lines as possible are saved.

Strict JSON only: NaN and Infinity, which Python's parser takes, are refused.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from bench.errors import BenchError

_GZIP_MAGIC = b"\x1f\x8b"

_DISK_FULL = "free some space, or choose another folder with -o; all lines written before are kept"
_REMEDIES = {
    errno.EEXIST: "saving never overwrites; give another name",
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
}


def cannot_write(path: Path, error: OSError) -> BenchError:
    """The user's side of an error of the system."""
    remedy = _REMEDIES.get(error.errno or 0, "choose a folder you may write to with -o")
    return BenchError(f"cannot write {str(path)!r}: {error.strerror or error}; {remedy}")


def exists(path: Path) -> bool:
    """True if there is something at the path; for a name that no file system takes `Path.exists` raises."""
    return os.path.exists(path)  # noqa: PTH110


MAX_UNPACKED = 8 * 2**30
"""Bytes that a compressed file may unpack to: a few kB can hold terabytes of zeros. An option raises it."""
MAX_RATIO, FREE_OF_RATIO = 200, 2**26
"""Bytes that one byte may unpack to on average, and bytes of the text from which on that counts. Numbers reach 3 to 10,
and one and the same line again and again 100. An option that raises the limit lifts this one too."""
MAX_LINE = 2**29
"""Bytes of a line: 50 million samples. The whole of a line has to fit into memory, several times."""
_limit = ContextVar("unpack limit", default=MAX_UNPACKED)
_CHUNK = 2**20


def set_unpack_limit(num_bytes: int) -> None:
    """Bytes that compressed files may unpack to, for the rest of this process."""
    _limit.set(num_bytes)


class LineReader:
    """Lines of a plain or gzipped file, one after the other, without holding the file; `is_whole` is known at the end.

    A gzipped file counts as whole if its last member is. Each iteration reads the file again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_whole = True

    def __iter__(self) -> Iterator[bytes]:
        """Raises BenchError for what is missing, a folder, a device, not to be read, or unpacks to too much."""
        rest: list[bytes] = []
        length = number = 0
        for block in self._blocks():
            first, *others = block.split(b"\n")
            rest.append(first)
            length += len(first)
            if length > MAX_LINE:
                raise BenchError(
                    f"{str(self.path)!r}: line {number + 1} has more than {MAX_LINE / 2**20:.0f} MiB; "
                    "it is no result file, or damaged: take the original"
                )
            if others:
                yield b"".join(rest)
                yield from others[:-1]
                rest, length, number = [others[-1]], len(others[-1]), number + len(others)
        yield b"".join(rest)

    def _blocks(self) -> Iterator[bytes]:
        path = self.path
        try:
            if path.is_dir():
                raise BenchError(f"{str(path)!r} is a folder; name one of the result files in it")
            if path.exists() and not path.is_file():
                raise BenchError(f"{str(path)!r} is not a regular file; name a result file (.jsonl)")
            with path.open("rb") as stream:
                blocks = iter(partial(stream.read, _CHUNK), b"")
                start = next(blocks, b"")
                blocks = chain((start,), blocks)
                yield from self._unpacked(blocks) if start.startswith(_GZIP_MAGIC) else blocks
        except FileNotFoundError as error:
            raise BenchError(f"no file {str(path)!r}; name a result file, such as those in results/") from error
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise BenchError(f"cannot read {str(path)!r}: {reason}; check its name and permissions") from error

    def _unpacked(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        num_bytes = packed = 0
        limit = _limit.get()
        member = zlib.decompressobj(wbits=31)
        for block in blocks:
            data = block
            packed += len(block)
            while data:
                self.is_whole = False
                try:
                    part = member.decompress(data, _CHUNK)
                except zlib.error:
                    return
                num_bytes += len(part)
                self._refuse_bomb(num_bytes, packed, limit)
                yield part
                data = member.unconsumed_tail
                if member.eof:
                    data = member.unused_data
                    self.is_whole = not data
                    member = zlib.decompressobj(wbits=31)
                    if data and not data.startswith(_GZIP_MAGIC[: len(data)]):
                        return

    def _refuse_bomb(self, num_bytes: int, packed: int, limit: int) -> None:
        """Raises BenchError for what has unpacked to too much, or to too much for its size."""
        is_dense = limit <= MAX_UNPACKED and num_bytes > max(FREE_OF_RATIO, MAX_RATIO * packed)
        if num_bytes > limit or is_dense:
            what = f"{limit / 2**30:.3g} GiB" if num_bytes > limit else f"{MAX_RATIO} times its size"
            raise BenchError(
                f"{str(self.path)!r} unpacks to more than {what}; if it is a result of yours, raise the limit: "
                "bench --unpack-limit 64GiB ..."
            )


def read(path: Path, most: int | None = None) -> tuple[bytes, bool]:
    """Text of a plain or gzipped file as far as it goes, and whether it is whole.

    Raises BenchError as `LineReader`, and for a text of more than `most` bytes.
    """
    lines, kept, num_bytes = LineReader(path), [], 0
    with enough_memory(path):
        for line in lines:
            num_bytes += len(line) + 1
            if most is not None and num_bytes > most + 1:
                raise BenchError(f"{str(path)!r} has more than {most / 2**20:.0f} MiB; take the original, or split it")
            kept.append(line)
        return b"\n".join(kept), lines.is_whole


@contextmanager
def enough_memory(path: Path) -> Iterator[None]:
    """Raises BenchError if there is not enough memory to read a file."""
    try:
        yield
    except MemoryError as error:
        raise BenchError(
            f"cannot read {str(path)!r}: it takes more memory than this process may have; take the original file, or a "
            "machine with more memory"
        ) from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse(line: bytes) -> Any:
    """The value of a line, or None if it is not strict JSON (no record is null)."""
    try:
        return _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return None


def repair_end(path: Path) -> None:
    """Leave only whole lines, the last with its newline. Raises OSError."""
    raw = path.read_bytes()
    text, is_whole = read(path)
    kept = _whole_lines(text)
    if kept == text and is_whole:
        return
    if raw.startswith(_GZIP_MAGIC):
        repaired = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        repaired.write_bytes(gzip.compress(kept))
        repaired.replace(path)
        return
    with path.open("r+b") as stream:
        stream.truncate(min(len(kept), len(raw)))
        stream.seek(0, os.SEEK_END)
        stream.write(kept[len(raw) :])


def _whole_lines(text: bytes) -> bytes:
    start = text.rstrip(b"\n").rfind(b"\n") + 1
    if parse(text[start:]) is None:
        return text[:start]
    return text if text.endswith(b"\n") else text + b"\n"
