"""Texts as terminals, launchers, collectors, mails and pages leave them; the numbers and hosts are made up."""

from __future__ import annotations

import json

import pytest

from bench.errors import BenchError
from bench.importers.source.cleaning import clean_text

HEAD = [
    "# nThread 1 nGpus 2 minBytes 1048576 maxBytes 2097152 step: 2(factor) warmup iters: 5 iters: 20 validation: 1",
    "#",
    "# Using devices",
    "#  Rank  0 Pid   1001 on nodeA device  0 [0x07] NVIDIA H200",
    "#  Rank  1 Pid   1001 on nodeA device  1 [0x0f] NVIDIA H200",
    "#       size         count      type   redop    root     time   algbw   busbw #wrong",
]
ROWS = [
    "     1048576        262144     float     sum      -1    100.0   10.49   10.49      0",
    "     2097152        524288     float     sum      -1    200.0   10.49   10.49      0",
]
LINES = HEAD + ROWS


def cleaned(lines: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in clean_text("\n".join(lines).encode()).lines]


WANTED = [" ".join(line.split()) for line in LINES]


@pytest.mark.parametrize(
    "prefix",
    [
        "[0] ", "[default0]:", "[1,0]<stdout>:", "[1,0]<stdout>", "0: ", " 0: ", "10: ",
        "(Worker pid=12, ip=192.0.2.1) ",
        "2026-01-31T12:00:00.1234567Z ", "2026-01-31 12:00:00,123 INFO root - ", "Jan 31 12:00:00 nodeA bench[12]: ",
        "[pod/launcher-abcde/nccl] ", "launcher-abcde nccl ", "worker-1 | ", "nodeA: ", "nodeA.example.org: ", "> ",
        "> > ", ">> ", "| ", "// ", " * ", "- ", "# ", "[2026-01-31 12:00:00] [rank0] ",
        "<14>1 2026-01-31T12:00:00Z h app - - - ",
        "job-7/0 ", "[rank0]: ", "[1]\t", "stdout F ",
    ],
)  # fmt: skip
def test_a_prefix_before_every_line_is_learnt(prefix: str) -> None:
    found = clean_text("\n".join(prefix + line for line in LINES).encode())
    assert [" ".join(line.split()) for line in found.lines] == WANTED
    (note,) = (row.note() for row in found.taken_off if row.what == "prefixes")
    assert note == f"prefixes (8 lines, such as {prefix.strip()!r})"
    assert prefix.strip() not in found.taken_off[0].note(with_example=False)


def test_prefixes_differ_from_line_to_line_and_some_lines_have_none() -> None:
    lines = [
        f"2026-01-31T12:00:{second:02}.{7**second % 1000}Z [{second % 2}] {line}" for second, line in enumerate(LINES)
    ]
    lines.insert(2, "srun: job 12 has been allocated resources")
    assert cleaned(lines) == [*WANTED[:2], "srun: job 12 has been allocated resources", *WANTED[2:]]


def test_line_numbers_of_a_page_are_taken_off_and_sizes_are_not() -> None:
    assert cleaned([f"{number} {line}" for number, line in enumerate(LINES, 9)]) == WANTED
    without = [*(f"{number} {line}" for number, line in enumerate(HEAD, 9)), *ROWS]
    assert cleaned(without) == WANTED


@pytest.mark.parametrize("prefix", ["[1,0]<stdout>:", "[default0]:", "2026-01-31T12:00:00.123Z ", "[rank0] ", "0: "])
def test_a_prefix_in_the_middle_of_a_row(prefix: str) -> None:
    rows = [row.replace("-1 ", f"-1{prefix}").replace("10.49   10.49", f"10.49 {prefix}  10.49") for row in ROWS]
    assert cleaned([prefix + line for line in HEAD + rows]) == WANTED


def test_a_text_without_prefixes_is_left_alone() -> None:
    assert clean_text("\n".join(LINES).encode()).taken_off == ()
    rows_alone = [f"{2**n} {n}.00" for n in range(20)]
    assert cleaned(["# OSU MPI Latency Test v7.5", "# Size          Latency (us)", *rows_alone])[2:] == rows_alone


def test_a_remark_before_one_quoted_line_is_no_prefix() -> None:
    remark = "as in: # nThread 1 nGpus 2 minBytes 8 maxBytes 8"
    assert cleaned([remark, *LINES]) == [remark, *WANTED]


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("utf-8-sig", "a byte-order mark"), ("utf-16", "UTF-16 with a byte-order mark"), ("utf-16-le", "UTF-16"),
     ("utf-16-be", "UTF-16"), ("cp1252", "cp1252")],
)  # fmt: skip
def test_encodings(encoding: str, note: str) -> None:
    text = "\r\n".join([*LINES, "# done \u00b5s"] if encoding == "cp1252" else LINES)
    found = clean_text(text.encode(encoding))
    assert [" ".join(line.split()) for line in found.lines][:8] == WANTED
    assert [row.note() for row in found.taken_off] == [note]


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x89PNG\r\n\x1a\n\x00\x00", bytes(range(256)), b"\x81\x8d\x8f"])
def test_bytes_that_are_no_text(data: bytes) -> None:
    with pytest.raises(BenchError, match=r"no text|is none"):
        clean_text(data)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda line: f"\x1b[1m{line}\x1b[0m", "colour codes (8 lines)"),
        (lambda line: f"\x1b]0;title\x07{line}", "colour codes (8 lines)"),
        (lambda line: f"[32m{line}[0m", "colour codes without their escape character (8 lines)"),
        (lambda line: f"<span class='x'>{line.replace('#', '&#35;')}</span><br>", "HTML marks (8 lines)"),
        (lambda line: line.replace(" ", "\u00a0"), "blanks that are not ASCII (7 lines)"),
        (lambda line: line.replace("-1", "\u22121"), "minus signs that are not ASCII (2 lines)"),
        (lambda line: line.replace("#", "\\#"), "backslashes of Markdown (6 lines)"),
        (lambda line: f"10%|##  |\r50%|### |\r{line}", "text that a carriage return overwrote (8 lines)"),
        (lambda line: f"\u200b{line}", "invisible characters (8 lines)"),
    ],
)
def test_marks(change: object, note: str) -> None:
    found = clean_text("\n".join(map(change, LINES)).encode())  # type: ignore[arg-type]
    assert [" ".join(line.split()) for line in found.lines] == WANTED
    assert [row.note() for row in found.taken_off] == [note]


def test_lost_number_signs_are_put_back() -> None:
    lost = [line.removeprefix("#").lstrip() for line in HEAD] + ROWS
    found = clean_text("\n".join(lost).encode())
    assert [" ".join(line.split()) for line in found.lines] == [line if line != "#" else "" for line in WANTED]
    assert [row.note() for row in found.taken_off] == ["a lost # put back (5 lines)"]


def test_all_of_it_at_once() -> None:
    lines = [f"> \x1b[1m[1,0]<stdout>:{line.removeprefix('#')}\x1b[0m" for line in LINES]
    assert [line for line in cleaned(lines) if line] == [line for line in WANTED if line != "#"]


def test_records_of_a_log_collector() -> None:
    records = [json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "2026-01-31T12:00:00Z"}) for line in LINES]
    found = clean_text("\n".join([*records, "not a record"]).encode())
    assert [" ".join(line.split()) for line in found.lines] == [*WANTED, "not a record"]
    assert [row.note() for row in found.taken_off] == ["JSON around log lines (8 lines)"]


def test_whole_json_is_not_changed_and_json_in_a_log_is_found() -> None:
    text = '{\n "benchmarks": [],\n "machine_info": "[1m # nThread 1 nGpus 2"\n}'
    assert clean_text(text.encode()).text == text + "\n"
    logged = "\n".join(f"[0] {line}" for line in text.splitlines())
    assert "".join(clean_text(logged.encode()).lines).startswith('{ "benchmarks"')
