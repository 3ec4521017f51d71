"""JSON Lines as they lie on a disk: plain or gzipped, whole or broken off; what can be saved of them is.

Strict JSON only: NaN and Infinity, which Python's parser takes, are refused.
"""

from __future__ import annotations

import errno
import gzip
import json
import os
import secrets
import zlib
from pathlib import Path
from typing import Any

from bench.errors import BenchError

_GZIP_MAGIC = b"\x1f\x8b"

_DISK_FULL = "free some space, or choose another folder with -o; what was written before is kept"
_REMEDIES = {
    errno.EEXIST: "saving never overwrites; give another name",
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
}


def cannot_write(path: Path, error: OSError) -> BenchError:
    """The user's side of an error of the system."""
    remedy = _REMEDIES.get(error.errno or 0, "choose a folder you may write to with -o")
    return BenchError(f"cannot write {str(path)!r}: {error.strerror or error}; {remedy}")


def read(path: Path) -> bytes:
    """A file's bytes. Raises BenchError for what is missing, a folder, a device, or not to be read."""
    try:
        if path.is_dir():
            raise BenchError(f"{str(path)!r} is a folder; name one of the result files in it")
        if path.exists() and not path.is_file():
            raise BenchError(f"{str(path)!r} is no regular file; name a result file (.jsonl)")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BenchError(f"no file {str(path)!r}; name a result file, such as those in results/") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise BenchError(f"cannot read {str(path)!r}: {reason}; check its name and permissions") from error


def unpack(data: bytes) -> tuple[bytes, bool]:
    """The text of a plain or gzipped file as far as it goes, and whether the last gzip member is whole."""
    if not data.startswith(_GZIP_MAGIC):
        return data, True
    parts: list[bytes] = []
    while data.startswith(_GZIP_MAGIC):
        member = zlib.decompressobj(wbits=31)
        try:
            parts.append(member.decompress(data))
        except zlib.error:
            return b"".join(parts), False
        if not member.eof:
            return b"".join(parts), False
        data = member.unused_data
    return b"".join(parts), not data


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


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
    text, is_whole = unpack(raw)
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
