"""What tells runs of nccl-tests apart or changes what they are: wrapped heads, headings, options; made-up numbers.

Forms: the set-up line and device list of src/common.cu (https://github.com/NVIDIA/nccl-tests), pages that wrap at 72
columns, and scripts that print `=== NCCL_ALGO=Ring ===` before each run.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from bench.importers.nccl_tests import printed_text
from bench.importers.nccl_tests.program import program_of
from bench.importers.reading import ImportedText, ImportHints
from bench.importers.source.cleaning import clean_text
from tests.support.damage import call

SETUP = "# nThread 1 nGpus 2 minBytes 1048576 maxBytes 2097152 step: 2(factor) warmup iters: 1 iters: 20 agg iters: 1 "
DEVICES = [
    "#  Rank  0 Group  0 Pid   1000 on node00 device  0 [0000:10:00] NVIDIA H100 80GB HBM3",
    "#  Rank  1 Group  0 Pid   1000 on node00 device  1 [0000:11:00] NVIDIA H100 80GB HBM3",
]
TABLE = [
    "#                                                     out-of-place",
    "#       size         count      type   redop    root     time   algbw   busbw #wrong",
    "     1048576        262144     float     sum      -1   100.00   10.49   10.49      0",
    "     2097152        524288     float     sum      -1   200.00   10.49   10.49      0",
]
END = "# Avg bus bandwidth    : 10.49"


def lines(validation: str = "validation: 1 graph: 0") -> list[str]:
    return [
        "# Collective test starting: all_reduce_perf",
        SETUP + validation,
        "# Using devices",
        *DEVICES,
        *TABLE,
        END,
    ]


def read(text: list[str]) -> ImportedText:
    return printed_text.read(clean_text("\n".join(text).encode()).text, ImportHints())


def wrapped(text: list[str], width: int) -> list[str]:
    return [
        piece
        for line in text
        for piece in textwrap.wrap(line, width, drop_whitespace=False, break_on_hyphens=False) or [line]
    ]


@pytest.mark.parametrize("width", [60, 64, 68, 72, 76, 80, 84])
@pytest.mark.parametrize("graph", [0, 10])
def test_a_head_that_a_page_wrapped_says_the_same(width: int, graph: int) -> None:
    whole = lines(f"validation: 1 graph: {graph}")
    found, expected = read([*wrapped(whole[:5], width), *whole[5:]]), read(whole)
    assert [rank.device_name for rank in found.ranks] == 2 * ["NVIDIA H100 80GB HBM3"]
    assert [case.params for case in found.readings] == [case.params for case in expected.readings]
    assert ("graph" in found.readings[0].params) is (graph > 0)
    assert found.settings == expected.settings
    assert not found.ledger.of_kind("unknown")


def test_a_warning_in_the_list_is_no_rest_of_a_name() -> None:
    text = lines()
    for warning in ("node00: some warning", "slow link {}", "libnl: no version information"):
        warned = [*text[:4], warning.format(0), text[4], warning.format(1), *text[5:]]
        found = read(warned)
        assert found.ranks[0].device_name == "NVIDIA H100 80GB HBM3"


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("=== NCCL_ALGO=Ring ===", "=== NCCL_ALGO=Tree ===", "nccl_algo"),
        ("NCCL_ALGO=Ring", "NCCL_ALGO=Tree", "nccl_algo"),
        ("Running with NCCL_ALGO=Ring", "Running with NCCL_ALGO=Tree", "nccl_algo"),
        ("# NCCL_PROTO=LL", "# NCCL_PROTO=Simple", "nccl_proto"),
        ("RCCL_MSCCL_ENABLE=0", "RCCL_MSCCL_ENABLE=1", "rccl_msccl_enable"),
        ("$ ./all_reduce_perf -g 2 -R 0", "$ ./all_reduce_perf -g 2 -R 1", "local_register"),
        ("$ ./all_reduce_perf -g 2", "$ ./all_reduce_perf -g 2 --local_register 2", "local_register"),
        ("$ ./all_reduce_perf -g 2 -a 1", "$ ./all_reduce_perf -g 2 -a3", "average"),
    ],
)
def test_runs_under_other_settings_are_other_cases(first: str, second: str, name: str) -> None:
    found = read([first, *lines(), second, *lines()])
    assert len({str(case.params[name]) for case in found.readings}) == 2


def test_a_heading_holds_until_the_next_one() -> None:
    text = [*lines()[:-1], END]
    found = read(["NCCL_ALGO=Ring", "NCCL_PROTO=LL", *text, *text, "NCCL_ALGO=Tree", *text])
    assert [(case.params["nccl_algo"], case.params["nccl_proto"]) for case in found.readings] == [
        *4 * [("Ring", "LL")],
        *2 * [("Tree", "default")],
    ]


def test_a_command_over_several_lines() -> None:
    command = ["$ mpirun -np 2 \\", "  -x NCCL_ALGO={} \\", "  ./all_reduce_perf -b 1M -g 1"]
    text = [
        *(line.format("Ring") for line in command), *lines()[1:],
        *(line.format("Tree") for line in command), *lines()[1:],
    ]  # fmt: skip
    found = read(text)
    assert [case.params["nccl_algo"] for case in found.readings] == ["Ring", "Ring", "Tree", "Tree"]


def test_whose_time_is_printed() -> None:
    note = read(["$ ./all_reduce_perf -g 2 -a 3", *lines()]).readings[0].notes[0]
    assert "the greatest of its processes" in note
    assert "averaged over its processes" in read(lines()).readings[0].notes[0]


def test_options_with_their_defaults_say_nothing() -> None:
    found = program_of("$ ./all_reduce_perf -b 8 -R 0 -a 1 -y 0 -x -1 -n 50")
    assert found is not None
    assert not found.options
    found = program_of("mpirun -x NCCL_DEBUG=INFO -np 2 ./all_reduce_perf -b 8 -x 2 --average=2")
    assert found is not None
    assert found.options == {"cta_policy": "2", "average": "2"}


@pytest.mark.parametrize(("last", "is_early"), [(-1, True), (-2, True), (None, False)])
def test_a_table_that_ends_before_its_last_size(last: int | None, is_early: bool) -> None:
    text = [line.replace("maxBytes 2097152", "maxBytes 4194304") if is_early else line for line in lines()]
    remarks = read(text[:last]).remarks
    assert [remark for remark in remarks if "sizes up to 4,194,304 bytes, and the table ends at" in remark] == (
        list(remarks) if is_early else []
    )
    assert bool(remarks) is is_early


def test_types_of_rccl_tests_are_those_of_torch() -> None:
    text = [line.replace("     262144     float", "    1048576  fp8_e4m3") for line in lines()[:-2]]
    assert read(text).readings[0].params["dtype"] == "float8_e4m3fn"


def test_lists_of_json_strings() -> None:
    text = ["ok: [node00] => {", '    "run.stdout_lines": [']
    text += [f'        "{line}",' for line in lines()]
    found = clean_text("\n".join([*text, "    ]", "}"]).encode())
    assert [row.note() for row in found.taken_off] == [f"quotation marks of JSON ({len(lines())} lines)"]
    seconds = [case.seconds[0] for case in printed_text.read(found.text, ImportHints()).readings]
    assert seconds == pytest.approx([1e-4, 2e-4])


def test_groups_of_ranks_that_ran_at_the_same_time() -> None:
    more = [line.replace(f"Rank  {rank} Group  0", f"Rank  {rank + 2} Group  1") for rank, line in enumerate(DEVICES)]
    text = lines()
    found = read([*(line.replace("nGpus 2", "nGpus 4") for line in text[:5]), *more, *text[5:]])
    assert len(found.ranks) == 4
    assert {(case.num_ranks, case.params["groups"]) for case in found.readings} == {(2, 2)}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("$ mpirun -x NCCL_ALGO=Ring ./all_reduce_perf -g 2", "$ mpirun -x NCCL_ALGO=Tree ./all_reduce_perf -g 2",
         "nccl_algo is 'Ring' and 'Tree'"),
        ("NCCL_PROTO=LL", "", "nccl_proto is 'LL' and None"),
        ("$ ./all_reduce_perf -g 2", "$ ./all_reduce_perf -g 2 -R 1", "local_register is None and '1'"),
        ("$ ./all_reduce_perf -g 2", "$ ./all_reduce_perf -g 2", ""),
    ],
)  # fmt: skip
def test_files_of_other_settings_are_no_launches_of_one_side(
    tmp_path: Path, first: str, second: str, words: str
) -> None:
    for name, line in (("a", first), ("b", second)):
        (tmp_path / f"{name}.txt").write_text("\n".join([line, *lines()]))
        code, _ = call("import", str(tmp_path / f"{name}.txt"), "-o", str(tmp_path / "side" / f"{name}.jsonl"))
        assert code == 0
    code, output = call("compare", str(tmp_path / "side"), str(tmp_path / "side" / "b.jsonl"))
    assert (code == 2, words in " ".join(output.split())) == (bool(words), True), output


@pytest.mark.parametrize("form", ["1732731{:03}.123456 ", "{}.370s ", "{}.5 "])
def test_prefixes_of_seconds(form: str) -> None:
    found = read([form.format(100 + number) + line for number, line in enumerate(lines())])
    assert [case.seconds[0] for case in found.readings] == pytest.approx([1e-4, 2e-4])
