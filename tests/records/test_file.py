from __future__ import annotations

import gzip
import json
import os
import pickle
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core import jsonl
from bench.errors import BenchError
from bench.records import reader
from bench.records.file import Writer, load, load_many, new_path
from bench.records.lines import decoding
from bench.records.lines.kinds import Line
from bench.records.run_file.run_file import RunFile
from tests.support.results import end, header, header_line, line, measurement, save, save_unchecked

A, B = "collective/all_reduce[num_bytes=4]", "collective/barrier"


def known(record: Any) -> Any:
    """Plain values without fields that are null or empty, which a file may leave out."""
    if isinstance(record, dict):
        return {name: known(value) for name, value in record.items() if value is not None and value not in ([], {})}
    return [known(item) for item in record] if isinstance(record, list) else record


def plain(records: Iterable[Line]) -> list[dict[str, Any]]:
    return [decoding.plain(record) for record in records]


def lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    records = [header(label="mine"), measurement(A), measurement(B), end()]
    found = load(save(tmp_path / "a.jsonl", *records))
    assert found.end is not None
    read = plain([found.header, *found.measurements, found.end])
    assert [known(record) for record in read] == [known(record) for record in records]
    assert found.warnings == ()
    assert (found.label, found.architecture, found.hosts()) == ("mine", "2 x AMD EPYC 7B13", ["node07"])


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_each_line_is_on_the_disk_at_once_and_reopening_goes_on(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    writer = Writer.create(path)
    writer.append(header_line())
    writer.append(line(measurement(A)))
    assert [m.case for m in load(path).measurements] == [A]  # before close
    writer.close()
    with RunFile.resume(path) as again:
        again.append(line(measurement(B)))
    assert [m.case for m in load(path).measurements] == [A, B]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("lost", [1, 2, 30])
def test_a_torn_last_line_is_left_out_with_a_warning_and_cut_off_on_reopening(
    tmp_path: Path, name: str, lost: int
) -> None:
    path = save(tmp_path / name, measurement(A), measurement(B))
    os.truncate(path, path.stat().st_size - lost)
    torn = load(path)
    # A plain file that lost its last newline has lost nothing; gzip's last bytes are a checksum behind the text.
    is_whole = lost <= (2 if name.endswith("gz") else 1)
    assert [m.case for m in torn.measurements] == ([A, B] if is_whole else [A])
    assert len(torn.warnings) == (0 if is_whole and name == "a.jsonl" else 1)
    with RunFile.resume(path) as again:
        again.append(decoding.structure(end()))
    mended = load(path)
    assert plain(mended.measurements) == plain(torn.measurements)
    assert mended.end == decoding.structure(end())
    assert mended.warnings == ()


def test_a_last_line_of_zeros_is_torn_too(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A))
    with path.open("ab") as stream:
        stream.write(b"\0" * 100 + b"\n")
    assert len(load(path).warnings) == 1
    RunFile.resume(path).close()
    assert load(path).warnings == ()


def test_a_whole_file_compressed_by_gzip_is_read_and_added_to(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.jsonl", measurement(A))
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    with RunFile.resume(path) as writer:
        writer.append(line(measurement(B)))
    assert [m.case for m in load(path).measurements] == [A, B]


def test_saving_never_overwrites(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A))
    before = path.read_bytes()
    with pytest.raises(BenchError, match="never overwrites"):
        Writer.create(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_written_as_unknown(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.jsonl"
    measured = line(measurement(A))
    measured.derived = {"share": value}
    with Writer.create(path) as writer:
        writer.append(header_line())
        writer.append(measured)
    assert b'"derived":{"share":null}' in lines(path)[1]
    assert load(path).measurements[0].derived == {"share": None}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    path = tmp_path / "a.jsonl"
    measured = line(measurement(A))
    measured.variants["full"].nanoseconds = np.array([[1.0, value], [1.0, 2.0]])
    with Writer.create(path) as writer:
        writer.append(header_line())
        writer.append(measured)
    with pytest.raises(BenchError, match="cannot be read"):
        load(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_in_one_line() -> None:
    full = Path("/dev/full")
    with full.open("r+b", buffering=0) as stream, pytest.raises(BenchError) as caught:
        Writer(full, stream).append(header_line())
    assert "/dev/full" in str(caught.value)
    assert "free some space" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_half_a_line_is_taken_back_when_the_disk_is_full(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    class SmallDisk:
        """Takes 10 bytes of the second record, then is full."""

        def __init__(self) -> None:
            self.stream = path.open("xb", buffering=0)
            self.room = 10_000

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(28, "No space left on device")
            written = self.stream.write(data[: self.room])
            self.room -= written
            return written

        def seek(self, offset: int, whence: int) -> int:
            place = self.stream.seek(offset, whence)
            self.room = 10_000 if place == 0 else 10
            return place

        def truncate(self, size: int) -> int:
            return self.stream.truncate(size)

        def close(self) -> None:
            self.stream.close()

    with Writer(path, SmallDisk()) as writer:  # type: ignore[arg-type]
        writer.append(header_line())
        with pytest.raises(BenchError, match="No space left"):
            writer.append(line(measurement(A)))
    assert len(lines(path)) == 1
    assert load(path).warnings == ()


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"kind": "header"}))


BAD = {
    "missing": (lambda path: None, "no file"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "blank": (lambda path: path.write_bytes(b"\n\n"), "is empty"),
    "other JSON": (lambda path: path.write_text('{"results": []}\n'), "not a bench result"),
    "JSON list": (lambda path: path.write_text("[1, 2]\n"), "not a bench result"),
    "text": (lambda path: path.write_text("# nccl-tests\nsize time\n"), "not a bench result"),
    "binary": (lambda path: path.write_bytes(bytes(range(256)) * 10), "binary"),
    "pickle": (_pickled, "binary"),
    "torn header": (lambda path: path.write_bytes(json.dumps(header(), separators=(",", ":"))[:90].encode()), "first"),
    "newer": (lambda path: save_unchecked(path, header(schema=99)), "schema 99.*update bench"),
    "odd schema": (lambda path: save_unchecked(path, header(schema="one")), "schema 'one'"),
    "no plan": (lambda path: path.write_text('{"kind": "header", "schema": 1, "label": ""}\n'), "architecture"),
    "no case": (lambda path: save_unchecked(path, header(), {"kind": "measurement"}), "launch"),
    "bad status": (lambda path: save_unchecked(path, measurement(A, status="fine")), "status: .*'fine'"),
    "ragged": (lambda path: save_unchecked(path, measurement(A, [[1, 2], [3]])), "variants"),
    "words": (lambda path: save_unchecked(path, measurement(A, [["1"], ["2"]])), "variants"),  # type: ignore[list-item]
    "no calls": (lambda path: save_unchecked(path, measurement(A, calls=0)), "variants"),
    "NaN": (lambda path: path.write_text(json.dumps(header()) + '\n{"x": NaN}\n' + json.dumps(end()) + "\n"), "line 2"),
    "deep": (lambda path: path.write_text("[" * 100_000 + "\n"), "not a bench result"),
    "second header": (lambda path: save_unchecked(path, header(), header()), "second header"),
    "infinite": (lambda path: path.write_text(json.dumps(header(label="x")).replace('"x"', "1e999") + "\n"), "label"),
    "surrogate": (lambda path: save_unchecked(path, measurement(A, reason="\ud800"), end()), "damaged at line 2"),
    "zipped rubbish": (lambda path: path.write_bytes(gzip.compress(b"hello")[:12]), "is empty|not a bench"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_result_is_refused_in_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    path = tmp_path / "x.jsonl"
    make(path)
    with pytest.raises(BenchError, match=message) as caught:
        load(path)
    text = str(caught.value)
    assert "x.jsonl" in text
    assert "\n" not in text
    assert ";" in text or ":" in text  # what to do comes after what is wrong


def test_damage_before_the_last_line_is_not_passed_over(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A), measurement(B))
    first, second, third = lines(path)
    path.write_bytes(first + second[:-20] + b"\n" + third)
    with pytest.raises(BenchError, match="damaged at line 2"):
        load(path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A))
    path.chmod(0)
    with pytest.raises(BenchError, match="cannot read"):
        load(path)


def test_an_unwritable_folder_is_an_error_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match="is a file, not a folder"):
        Writer.create(tmp_path / "file" / "a.jsonl")


def test_an_older_schema_goes_through_every_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.jsonl", measurement(A))
    monkeypatch.setattr(reader, "SCHEMA", 3)
    monkeypatch.setattr(
        reader, "UPGRADES", {1: lambda r: {**r, "started": "1"}, 2: lambda r: {**r, "started": r["started"] + "2"}}
    )
    found = load(path)
    assert found.header.started == found.measurements[0].started == "12"


def test_the_later_record_of_a_case_and_launch_holds(tmp_path: Path) -> None:
    broken = measurement(A, status="failed", reason="killed", variants={})
    resume = {"kind": "resume", "started": "2026-01-31T13:00:00+00:00", "environment": {}, "command": []}
    path = save(tmp_path / "a.jsonl", broken, measurement(B), end("failed", 3), resume, measurement(A))
    found = load(path)
    assert [(m.case, m.status) for m in found.latest()] == [(A, "ok"), (B, "ok")]
    assert found.end is None  # the run was taken up again, and has not ended since
    assert len(found.resumes) == 1


def test_files_folders_and_globs_give_each_file_once(tmp_path: Path) -> None:
    one = save(tmp_path / "runs" / "one.jsonl", measurement(A))
    two = save(tmp_path / "runs" / "two.jsonl.gz", measurement(A))
    (tmp_path / "runs" / "notes.txt").write_text("not a result")
    given = [str(tmp_path / "runs" / "t*.jsonl.gz"), tmp_path / "runs", one]
    assert [r.path for r in load_many(given)] == [two, one]
    assert [r.path for r in load_many(str(one))] == [one]
    with pytest.raises(BenchError, match="no file matches"):
        load_many([tmp_path / "*.nothing"])
    (tmp_path / "bare").mkdir()
    with pytest.raises(BenchError, match="has no result"):
        load_many([tmp_path / "bare"])


def test_new_paths_are_safe_and_differ() -> None:
    now = datetime(2026, 1, 31, 12, 5, 9, tzinfo=UTC)
    path = new_path(Path("results"), "../my run/ü;rm", "node07.cluster", now)
    assert path.parent == Path("results")
    assert path.name.startswith("my_run_rm-node07.cluster-20260131T120509Z-")
    assert len(path.stem.rpartition("-")[2]) == 4
    assert len({new_path(Path(), "a", "b", now) for _ in range(20)}) > 15
    assert new_path(Path(), "", "b", now).name.startswith("b-2026")


def test_what_a_newer_bench_writes_is_left_out_with_one_warning(tmp_path: Path) -> None:
    newer = measurement(A) | {"colour": "red"}
    path = save_unchecked(
        tmp_path / "a.jsonl", newer, {"kind": "footer", "x": 1}, {"kind": "footer"}, measurement(B) | {"colour": 1}
    )
    found = load(path)
    assert [record.case for record in found.measurements] == [A, B]
    (warning,) = found.warnings
    assert warning.endswith("left out what this one does not know: measurement.colour, lines of the kind 'footer'")


def test_ranks_that_met_late_have_a_line(tmp_path: Path) -> None:
    late = {
        "kind": "ranks",
        "environment": {"ranks": [{"rank": 0, "host": "a"}]},
        "started": "2026-01-31T13:00:00+00:00",
    }
    found = load(save(tmp_path / "a.jsonl", late, measurement(A)))
    assert (len(found.measurements), found.warnings) == (1, ())


@pytest.mark.parametrize("num_members", [1, 3])
def test_a_file_of_zeros_is_refused_before_it_fills_the_memory(tmp_path: Path, num_members: int) -> None:
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(2**25)) * num_members)
    jsonl.set_unpack_limit(2**24)
    try:
        with pytest.raises(BenchError, match=r"bomb.jsonl.gz' unpacks to more than 0.0156 GiB; .*--unpack-limit"):
            load(path)
    finally:
        jsonl.set_unpack_limit(jsonl.MAX_UNPACKED)
