"""Kinds of outputs that were read wrongly or not at all, and those that are read rightly; the numbers are made up.

`tests/data/import/cases` has a folder per kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.records.file import Result, load
from tests import DATA
from tests.support.damage import call

CASES = DATA / "import" / "cases"
PREFIXES = ("bracket", "gha_ts", "k8s_ts", "kubectl", "ompi_mid", "ray", "torchrun")
BASE = {
    "collective/all_reduce[num_bytes=1048576,timing=streamed]": 100.0,
    "collective/all_reduce[in_place=true,num_bytes=1048576,timing=streamed]": 90.0,
    "collective/all_reduce[num_bytes=2097152,timing=streamed]": 200.0,
    "collective/all_reduce[in_place=true,num_bytes=2097152,timing=streamed]": 180.0,
    "collective/all_reduce[num_bytes=4194304,timing=streamed]": 400.0,
    "collective/all_reduce[in_place=true,num_bytes=4194304,timing=streamed]": 360.0,
}
"""Case -> microseconds of most of the files."""


def microseconds(result: Result) -> dict[str, list[float]]:
    """Case -> samples of all launches; none for a case that is not ok."""
    found: dict[str, list[float]] = {}
    for record in result.measurements:
        samples = record.variants["full"].nanoseconds if record.variants else None
        found.setdefault(record.case, []).extend([] if samples is None else (samples[0] / 1e3).tolist())
    return found


def imported(name: str, folder: Path, *options: str) -> tuple[int, str, Result | None]:
    """Exit code, output and result of the command."""
    path = folder / "out.jsonl"
    code, output = call("import", str(CASES / name), "-o", str(path), *options)
    return code, output, load(path) if path.exists() else None


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("nccl-ansi/ansi.txt", "taken off: colour codes (2 lines)"),
        ("nccl-host-begins-with-digit/host_digit_first.txt", ""),
        ("nccl-host-begins-with-digit/host_digit_mid.txt", ""),
        *((f"nccl-prefixes/prefix_{name}.txt", "taken off: prefixes (16 lines, such as ") for name in PREFIXES),
    ],
)
def test_the_same_run_however_its_lines_were_collected(tmp_path: Path, name: str, note: str) -> None:
    code, output, result = imported(name, tmp_path)
    assert result is not None
    assert code == 0
    assert note in output
    assert "could not be read" not in output
    assert microseconds(result) == {case: [time] for case, time in BASE.items()}
    assert (result.plan.world_size, result.architecture) == (2, "2 x NVIDIA A100-SXM4-80GB")


def test_a_reduction_that_rows_leave_blank(tmp_path: Path) -> None:
    code, _, result = imported("nccl-blank-redop/old_alltoall_blank_redop.txt", tmp_path)
    assert result is not None
    assert code == 3
    case = "collective/all_to_all[{}num_bytes={},timing=streamed]"
    assert microseconds(result) == {
        case.format("", 1048576): [100.0],
        case.format("in_place=true,", 1048576): [],
        case.format("", 2097152): [200.0],
        case.format("in_place=true,", 2097152): [180.0],
    }
    assert [record.status for record in result.measurements] == ["ok", "invalid", "ok", "ok"]


@pytest.mark.parametrize(("name", "ranks"), [("elided_devices.txt", 72), ("elided_devices2.txt", 16)])
def test_a_shortened_list_of_devices(tmp_path: Path, name: str, ranks: int) -> None:
    code, output, result = imported(f"nccl-elided-devices/{name}", tmp_path)
    assert (code, result) == (2, None)
    assert f"so that at least {ranks} took part" in output
    assert "add --ranks N" in output
    code, output, _ = imported(f"nccl-elided-devices/{name}", tmp_path, "--ranks", str(ranks - 1))
    assert (code, f"--ranks {ranks - 1}: the text lists rank {ranks - 1}" in output) == (2, True)
    code, output, _ = imported(f"nccl-elided-devices/{name}", tmp_path, "--ranks", str(ranks))
    assert (code, "halves of rows, but that of all_reduce on" in output) == (3, True)  # its bandwidths are of 2 ranks


def test_the_user_says_what_a_table_alone_does_not(tmp_path: Path) -> None:
    name = "nccl-told-device-lost/table_only.txt"
    told = ("--op", "all_reduce", "--ranks", "2", "--device", "H100-SXM-80GB")
    code, output, result = imported(name, tmp_path, *told)
    assert result is not None
    assert (code, result.plan.world_size, result.architecture) == (0, 2, "2 x H100-SXM-80GB")
    assert microseconds(result) == {case: [time] for case, time in BASE.items()}
    code, output, _ = imported(name, tmp_path, "--op", "all_reduce", "--ranks", "8")
    assert (code, "--op all_reduce --ranks 8: line 5: bus bandwidth over algorithm bandwidth is 1 " in output) == (
        2,
        True,
    )
    code, output, _ = imported(name, tmp_path, "--ranks", "2")
    assert (code, "its bandwidths fit all_reduce, broadcast, reduce" in output) == (2, True)


def test_processes_that_were_not_connected(tmp_path: Path) -> None:
    code, output, result = imported("nccl-unconnected-processes/two_unconnected.txt", tmp_path)
    assert (code, result) == (2, None)
    assert "the text lists rank 0 twice: either its processes were not connected" in output


def test_a_table_of_the_in_place_half(tmp_path: Path) -> None:
    _, _, result = imported("rccl-in-place-only/rccl_inplace_only.txt", tmp_path)
    assert result is not None
    assert list(microseconds(result).values()) == [[90.0], [180.0]]
    assert all(record.params["in_place"] is True for record in result.measurements)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "osu-buffers-host-device/osu_H_H.txt",
            {"osu/latency[buffers=H-H,num_bytes=1024]": 2.0, "osu/latency[buffers=D-D,num_bytes=1024]": 20.0},
        ),
        (
            "osu-one-sided/osu_onesided.txt",
            {
                "osu/latency[num_bytes=8]": 10.0,
                "osu/latency[num_bytes=1024]": 20.0,
                "osu/get_latency[num_bytes=8,sync=flush,window=allocate]": 0.1,
                "osu/get_latency[num_bytes=1024,sync=flush,window=allocate]": 0.2,
                "osu/put_latency[num_bytes=8,sync=flush,window=allocate]": 0.5,
                "osu/put_latency[num_bytes=1024,sync=flush,window=allocate]": 0.6,
            },
        ),
        (
            "osu-one-sided/osu_put_only.txt",
            {
                "osu/put_latency[num_bytes=8,sync=flush,window=allocate]": 0.5,
                "osu/put_latency[num_bytes=1024,sync=flush,window=allocate]": 0.6,
            },
        ),
        ("osu-one-sided/osu_put_bw.txt", {"osu/put_bandwidth[num_bytes=1024,sync=flush,window=allocate]": 0.5}),
    ],
)
def test_tests_of_osu_that_are_apart(tmp_path: Path, name: str, expected: dict[str, float]) -> None:
    code, _, result = imported(name, tmp_path)
    assert result is not None
    assert code == 0
    assert microseconds(result) == {case: [time] for case, time in expected.items()}


@pytest.mark.parametrize(
    ("name", "milliseconds"),
    [
        ("params_op", [1, 9]),
        ("dups_dirs", [1, 9]),
        ("params_same_id", [1, 9]),
        ("params_type", [1, 9, 5, 7]),
        ("unicode", [1, 2, 5]),
    ],
)
def test_different_tests_of_pytest_benchmark_are_different_cases(
    tmp_path: Path, name: str, milliseconds: list[int]
) -> None:
    code, _, result = imported(f"pytest-benchmark-merged-tests/{name}.json", tmp_path)
    assert result is not None
    assert code == 0
    found = microseconds(result)
    assert [round(sum(times) / len(times) / 1e3) for times in found.values()] == milliseconds
    assert {len(times) for times in found.values()} == {20}


def test_repeated_files_are_launches_of_one_side(tmp_path: Path) -> None:
    home = CASES / "imported-files-as-launches"
    for side in ("old", "new"):
        files = sorted(map(str, home.glob(f"{side}?.txt")))
        assert len(files) == 3
        code, output = call("import", *files, "-o", str(tmp_path / side))
        assert code == 0, output
        assert "GB/s, but the row says 10.49 GB/s" in output or side == "old"
    code, output = call("compare", str(tmp_path / "old"), str(tmp_path / "new"))
    assert code == 0
    assert "Good data: 6 cases, 3 launches per side" in output
    assert "6 cases: 0 slower, 6 faster" in output
    assert "0.700x" in output


@dataclass(frozen=True)
class Known:
    """Outcome of a file: exit code, microseconds per case in their order, and words of the output."""

    code: int
    times: tuple[tuple[float, ...], ...] = ()
    words: str = ""
    options: tuple[str, ...] = ()


def _once(*times: float) -> tuple[tuple[float, ...], ...]:
    return tuple((time,) for time in times)


ONCE = _once(*BASE.values())
TWO_SIZES = _once(100, 90, 200, 180)
CONTRADICTS = "warning: contradiction: line"
READ_RIGHTLY = {
    **dict.fromkeys(
        ["base", "blank_lines", "bom", "c0", "cmd_env", "cmd_misleads", "crlf", "dev_mig", "dev_odd", "host_digit",
         "long_host", "mixed_hw", "nbsp", "ompi_indented", "prefix_indent_tab", "prefix_srun", "prefix_srun_padded",
         "rccl", "sendrecv", "warn_mid", "warn_mid2", "warn_mid3"],
        Known(0, ONCE),
    ),
    "asterisk": Known(3, ((100.0,), (), (200.0,), (180.0,))),
    "cycles": Known(0, tuple((time, 110.0 if time == 100 else time) for time in BASE.values()), "note: line 14"),
    "huge": Known(0, ((123456.0, 1234567.0), (1230000.0, 123456.0))),
    "gather": Known(3, ONCE, CONTRADICTS),
    "hypercube": Known(3, ONCE, CONTRADICTS),
    "glued": Known(3, _once(200, 180, 400, 360), "line 11"),
    "infrow": Known(3, ((), (90.0,), (200.0,), (180.0,))),
    "multi_op": Known(3, ONCE * 2, CONTRADICTS),
    "multi_op_new": Known(3, ONCE * 2, CONTRADICTS),
    "nanbad": Known(3, _once(200, 180), "line 11"),
    "nanrow": Known(3, ((), (90.0,), (200.0,), (180.0,))),
    "negrow": Known(3, ((), (90.0,), (200.0,), (180.0,))),
    "old_allgather": Known(0, TWO_SIZES),
    "old_broadcast_root": Known(0, TWO_SIZES),
    "one_rank": Known(0, _once(18.48, 0.05)),
    "redops": Known(0, _once(*[100, 90] * 6)),
    "trunc": Known(3, _once(100, 90), "line 12"),
    "trunc2": Known(3, _once(100, 90), "line 12"),
    "two_ops_second_unnamed": Known(0, tuple((time, time) for time in BASE.values())),
    "wrong": Known(3, ((100.0,), (), (200.0,), (180.0,))),
    "latin_decimal": Known(2, words="no row of nccl-tests can be read; line 11"),
    "two_node_counts": Known(2, words="runs on different devices"),
    "all_reduce_bench": Known(0, _once(40_000)),
    **dict.fromkeys(["ds_comm", "ucc"], Known(2, words="looks like none of")),
    **dict.fromkeys(
        ["osu_allgatherv", "osu_init", "osu_nb", "osu_neighbor", "osu_persistent"],
        Known(2, words="no row of OSU micro-benchmarks can be read; line"),
    ),
    "osu_datatypes": Known(0, _once(10, 20), options=("--ranks", "2")),
    "osu_interleaved": Known(0, _once(10, 11), "2 unknown lines"),
    "osu_latency_v7": Known(0, _once(10, 11)),
    "osu_mbw": Known(0, _once(0.5)),
    "osu_validation": Known(3, ((20.0,), ()), options=("--ranks", "2")),
    "osu_zero": Known(0, _once(0.8, 0.46)),
    **dict.fromkeys(
        ["param_ansi", "param_bf16_tag", "param_compute", "param_k8s", "param_ompi", "param_plain", "param_srun"],
        Known(0, _once(130)),
    ),
    "param_short": Known(2, words="line 4"),
}  # fmt: skip


def test_every_file_that_was_read_rightly_has_its_outcome() -> None:
    assert {path.stem for path in (CASES / "read-rightly").iterdir()} == set(READ_RIGHTLY)


@pytest.mark.parametrize("name", READ_RIGHTLY)
def test_what_was_read_rightly_stays_right(tmp_path: Path, name: str) -> None:
    known = READ_RIGHTLY[name]
    code, output, result = imported(f"read-rightly/{name}.txt", tmp_path, *known.options)
    assert (code, known.words in output) == (known.code, True), output
    times = () if result is None else tuple(map(tuple, microseconds(result).values()))
    assert times == known.times


def test_a_result_without_a_trustworthy_factor_has_no_bus_bandwidth(tmp_path: Path) -> None:
    _, _, result = imported("read-rightly/gather.txt", tmp_path)
    assert result is not None
    assert {record.work.bus_factor for record in result.measurements if record.work} == {None}
    origin = result.environment.imported_from
    assert origin is not None
    assert "that of gather on 2 ranks is 0.5" in origin.contradictions[1]
    assert result.end is not None
    assert result.end.exit_code == 3
