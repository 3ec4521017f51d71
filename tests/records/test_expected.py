"""Rows say what others reach on such a machine, for own runs and for imported files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.cli import call
from bench.records.expected.columns import COLUMNS
from bench.records.expected.words import UNKNOWN
from bench.records.file import load
from bench.records.rows import Row, case_rows
from tests import ROOT

HEAD = """# nccl-tests version 2.17.6 nccl-headers=22803 nccl-library=22803
# Collective test starting: all_reduce_perf
# nThread 1 nGpus 8 minBytes 8 maxBytes 8589934592 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 validation: 1
#
# Using devices
"""
TABLE = """#
#                                                              out-of-place                       in-place
#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   busbw  #wrong
#        (B)    (elements)                               (us)  (GB/s)  (GB/s)             (us)  (GB/s)  (GB/s)
"""
RANGE = "expected 462 to 495 (4 sources)"


def printed(folder: Path, rates: dict[int, float], device: str = "NVIDIA H100 80GB HBM3", hosts: int = 1) -> Path:
    """What all_reduce_perf prints on 8 devices: bytes -> bus bandwidth in GB/s."""
    lines = [HEAD]
    for rank in range(8):
        place = f"node{rank * hosts // 8} device  {rank} [0000:{rank + 16:x}:00]"
        lines.append(f"#  Rank  {rank} Group  0 Pid   4711 on     {place} {device}\n")
    lines.append(TABLE)
    for num_bytes, rate in rates.items():
        half = f"{num_bytes / rate * 1.75e-3:10.2f} {rate / 1.75:8.2f} {rate:8.2f}       0"
        lines.append(f"  {num_bytes}  {num_bytes // 4}     float     sum      -1  {half}  {half}\n")
    path = folder / "printed.txt"
    path.write_text("".join(lines) + "# Out of bounds values : 0 OK\n")
    return path


def rows_of(text: Path) -> list[Row]:
    """Rows of an imported text, out of place."""
    saved = text.with_suffix(".jsonl")
    saved.unlink(missing_ok=True)
    assert call(["import", str(text), "-o", str(saved)]) == 0
    return [row for row in case_rows([load(saved)]) if "in_place" not in row["case"]]


def show(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code of `bench show` and what it printed."""
    capsys.readouterr()
    code = call(["show", *words])
    return code, *capsys.readouterr()


def test_an_imported_file_has_the_range_in_the_unit_of_its_rate(tmp_path: Path) -> None:
    small, large = rows_of(printed(tmp_path, {8 << 20: 170.7, 8 << 30: 478.7}))
    assert [small[name] for name in COLUMNS] == [None] * len(COLUMNS)
    assert 460 < large["expected_low"] < large["busbw_gb_per_s"] < large["expected_high"] < 500
    assert [large[name] for name in COLUMNS[2:]] == ["GB/s", 4, "measured", RANGE]


def test_the_screen_shows_the_range_and_advises_below_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_of(printed(tmp_path, {8 << 30: 366.0}))
    code, out, _ = show(capsys, str(tmp_path / "printed.jsonl"))
    assert code == 0
    assert f"366 GB/s, below the {RANGE}" in out
    screen = out.partition("REACHED")[2]
    assert "all_reduce 8 GiB" in screen.partition("WHAT STANDS OUT")[2]
    assert "at 79% of its lower end" in " ".join(screen.split())


def test_json_has_the_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows_of(printed(tmp_path, {8 << 30: 478.7}))
    code, out, _ = show(capsys, str(tmp_path / "printed.jsonl"), "--format", "json")
    assert code == 0
    assert [[row[name] for name in COLUMNS[2:]] for row in json.loads(out)["rows"]] == [
        ["GB/s", 4, "measured", RANGE]
    ] * 2


def test_expect_is_a_gate_only_if_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = str(tmp_path / "printed.jsonl")
    rows_of(printed(tmp_path, {8 << 30: 366.0}))
    code, _, err = show(capsys, saved, "--expect")
    assert code == 1
    assert f"366 GB/s, below the {RANGE}" in err
    rows_of(printed(tmp_path, {1 << 30: 466.0}))
    code, _, err = show(capsys, saved, "--expect")
    assert (code, err) == (0, "expected: no case has a range\n")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("case,low\ncollective/all_reduce[*,500\n", 1, "below 500 GB/s"),
        ("case,low\ncollective/all_reduce[*,400\n", 0, "2 cases judged, none below"),
        ("case,low\nno/such[case],400\n", 2, "no measured case is 'no/such[case]'"),
        ("case,low\ncollective/*,fast\n", 2, "line 2: low 'fast' is not a number above 0"),
        ("a,b\n1,2\n", 2, "it needs a first line case,low"),
    ],
)
def test_a_file_of_ones_own_has_limits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, said: str
) -> None:
    rows_of(printed(tmp_path, {1 << 30: 466.0}))
    own = tmp_path / "own.csv"
    own.write_text(text)
    ended, _, err = show(capsys, str(tmp_path / "printed.jsonl"), "--expect", str(own))
    assert ended == code
    assert said in err


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("NCCL_NVLS_ENABLE=0 ./build/all_reduce_perf -b 8G -e 8G -g 8\n", "1 source: 366 to 367"),
        ("=== NCCL_ALGO=Ring ===\n", "1 source: 366 to 367"),
        ("=== NCCL_ALGO=^NVLS ===\n", "1 source: 366 to 367"),
        ("=== NCCL_ALGO=NVLS ===\n", "2 sources: 473 to 480"),
        ("=== NCCL_DEBUG=WARN ===\n", "2 sources: 473 to 480"),
    ],
)
def test_variables_of_nccl_decide_who_adds(tmp_path: Path, before: str, said: str) -> None:
    text = printed(tmp_path, {8 << 30: 366.0}, "NVIDIA H200")
    text.write_text(before + text.read_text())
    (row,) = rows_of(text)
    assert row["expected_text"] == said


def test_fewer_sources_have_no_range(tmp_path: Path) -> None:
    (row,) = rows_of(printed(tmp_path, {1 << 30: 466.0}))
    assert [row[name] for name in COLUMNS] == [None, None, "GB/s", 2, None, "2 sources: 466"]


@pytest.mark.parametrize(
    ("device", "hosts"),
    [("NVIDIA H100 80GB HBM3", 2), ("NVIDIA H100 PCIe", 1), ("NVIDIA H900 XYZ", 1), ("H100", 1)],
)
def test_other_machines_are_unknown_whatever_their_name_begins_with(tmp_path: Path, device: str, hosts: int) -> None:
    (row,) = rows_of(printed(tmp_path, {8 << 30: 478.7}, device, hosts))
    assert [row[name] for name in COLUMNS] == [None] * 5 + [UNKNOWN]


@pytest.mark.parametrize("card", ["h100", "h200"])
def test_our_own_figures_get_a_fair_text(card: str) -> None:
    """No range and no verdict, since at most two publish such figures."""
    rows = case_rows([load(ROOT / "results" / "gpu" / card / f"{card}-kernels.jsonl")])
    texts = {row["case"]: row["expected_text"] for row in rows if row["expected_text"]}
    assert {row["expected_low"] for row in rows} == {None}
    assert texts["compute/copy[num_bytes=4294967296]"] == {"h100": "2 sources: 2,900", "h200": "1 source: 4,010"}[card]
    assert texts["compute/matmul[dtype=bfloat16,shape=square,size=4096]"] == UNKNOWN
    assert not [case for case in texts if "l2=cold" in case or "num_bytes=8388608" in case]


def test_cores_have_no_expectations() -> None:
    files = sorted((ROOT / "results" / "smoke").rglob("*.jsonl"))
    assert files
    assert {row["expected_text"] for row in case_rows([load(files[0])])} == {None}


def test_copies_of_nvbandwidth_have_sources(tmp_path: Path) -> None:
    saved = tmp_path / "copies.jsonl"
    text = ROOT / "tests" / "data" / "import" / "formats" / "nvbandwidth_two_devices.json"
    assert call(["import", str(text), "-o", str(saved)]) == 0
    rows = {row["case"]: row for row in case_rows([load(saved)])}
    up = rows["nvbandwidth/host_to_device_memcpy_ce[gpu=0]"]
    assert (up["expected_text"], up["expected_unit"], up["expected_basis"]) == ("2 sources: 52.0 to 55.4", "GB/s", None)
    both = [row for case, row in rows.items() if "bidirectional" in case]
    assert both
    assert {row["expected_text"] for row in both} == {None}
