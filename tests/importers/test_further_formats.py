"""nvbandwidth, MLPerf and all_reduce_bench: inputs of our own making in the form of public outputs.

Numbers, hosts and names are made up; each row has the address of an output, or of the source, in this form.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.importers import registry
from bench.importers.reading import ImportedText, ImportHints
from bench.importers.source.cleaning import clean_text
from bench.records.file import load
from tests import DATA, ROOT
from tests.support.damage import call

HOME = DATA / "import" / "formats"
BOOK = "https://github.com/stas00/ml-engineering/blob/master/network/benchmarks"


@dataclass(frozen=True)
class Form:
    """One input: where an output in its form is, and what the import makes of it."""

    name: str
    address: str
    cases: Counter[str]
    """Suite and operation -> number of cases."""
    ranks: int
    options: tuple[str, ...] = ()
    code: int = 0
    words: str = ""


_ALL_REDUCE = "collective/all_reduce"
_STEPS = Counter({"mlperf/train_step": 1, "mlperf/time_to_train": 1})
FORMS = (
    Form("nvbandwidth_two_devices.json", "https://github.com/NVIDIA/nvbandwidth/blob/main/json_output.cpp",
         Counter({"nvbandwidth/device_to_device_bidirectional_memcpy_write_ce": 6,
                  "nvbandwidth/device_to_device_memcpy_read_ce": 2, "nvbandwidth/host_to_device_memcpy_ce": 2,
                  "nvbandwidth/host_device_latency_sm": 2,
                  "nvbandwidth/multinode_device_to_device_memcpy_read_ce": 1}), 2),
    Form("nvbandwidth_error_in_job.txt", "https://github.com/NVIDIA/nvbandwidth/issues/34",
         Counter({"nvbandwidth/device_to_host_memcpy_sm": 1, "nvbandwidth/host_to_device_memcpy_sm": 1}), 1, code=3,
         words="note: error of nvbandwidth: CUDA_ERROR_ECC_UNCORRECTABLE"),
    Form("mlperf_step_times.txt", "https://github.com/NVIDIA/mlperf-common/pull/30", _STEPS, 16,
         words="prefixes (31 lines, such as '0:')"),
    Form("mlperf_throughput_two_runs.txt",
         "https://rocm.blogs.amd.com/artificial-intelligence/mlperf-training-v6.0/README.html", _STEPS, 8,
         options=("--ranks", "8"), code=3, words="1 case wrong or without a time"),
    Form("mlperf_gpt3_tokens.txt",
         "https://raw.githubusercontent.com/mlcommons/training_results_v3.1/main/NVIDIA/results/"
         "eos-dfw_n1344_ngc23.09_nemo/gpt3/result_1.txt", Counter({"mlperf/time_to_train": 1}), 512),
    Form("all_reduce_bench_table.txt", f"{BOOK}/all_reduce_bench.py", Counter({_ALL_REDUCE: 6}), 8),
    Form("all_reduce_bench_profile.txt", f"{BOOK}/README.md", Counter({_ALL_REDUCE: 1}), 4),
    Form("all_reduce_bench_page.txt", f"{BOOK}/results/all-reduce-8xH200.md", Counter({_ALL_REDUCE: 6}), 4,
         options=("--ranks", "4"), words="1 unknown line"),
    Form("all_reduce_bench_one_payload.txt", "https://github.com/hosseinsarshar/a3-bandwidth-test",
         Counter({_ALL_REDUCE: 1}), 16, words="prefixes (7 lines"),
)  # fmt: skip


def read(text: str, tool: str | None = None, **told: Any) -> ImportedText:
    return registry.read_text(Path("in.txt"), clean_text(text.encode()), ImportHints(**told), tool)


def read_file(name: str, **told: Any) -> ImportedText:
    return read((HOME / name).read_bytes().decode(), **told)


def seconds_of(text: ImportedText) -> dict[str, tuple[float, ...]]:
    return {registry._case_of(reading): reading.seconds for reading in text.readings}


def test_every_input_has_a_row_and_an_address() -> None:
    assert sorted(form.name for form in FORMS) == sorted(path.name for path in HOME.iterdir())
    page = (ROOT / "results" / "evidence" / "imports.md").read_text()
    assert not [form.address for form in FORMS if form.address not in page]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_an_output_in_a_public_form(tmp_path: Path, form: Form) -> None:
    path = tmp_path / "out.jsonl"
    code, output = call("import", str(HOME / form.name), "-o", str(path), *form.options)
    assert (code, form.words in output) == (form.code, True), output
    result = load(path)
    cases = {record.case for record in result.measurements}
    assert Counter(case.partition("[")[0] for case in cases) == form.cases
    assert result.plan.world_size == form.ranks


def test_nvbandwidth_pairs_parts_and_latencies() -> None:
    text = read_file("nvbandwidth_two_devices.json")
    seconds = seconds_of(text)
    assert seconds["nvbandwidth/host_to_device_memcpy_ce[gpu=1]"] == pytest.approx((1 / 54.2219,))
    assert seconds["nvbandwidth/device_to_device_memcpy_read_ce[gpu=1,peer=0]"] == pytest.approx((1 / 371.544,))
    both = "nvbandwidth/device_to_device_bidirectional_memcpy_write_ce[gpu=0,part={},peer=1]"
    parts = [1 / seconds[both.format(part)][0] for part in ("first", "second", "total")]
    assert parts == pytest.approx([340.46, 338.71, 679.17])
    assert seconds["nvbandwidth/host_device_latency_sm[gpu=0]"] == pytest.approx((688.412e-9,))
    skipped = [reading for reading in text.readings if reading.status == "skipped"]
    assert [reading.reason for reading in skipped] == ["waived by nvbandwidth: this machine cannot run it"]
    assert {reading.num_ranks for reading in text.readings if "peer" in reading.params} == {2}
    assert [(rank.host, rank.device_name, rank.pci_bus_id, rank.driver) for rank in text.ranks] == [
        ("nodeA", "NVIDIA H200", "00000000:19:00", "570.86.15"),
        ("nodeA", "NVIDIA H200", "00000000:3b:00", "570.86.15"),
    ]
    assert (text.versions, text.version) == ({"cuda": "12.8"}, "v0.8")


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ('"54.1327"', '"51.1327"', "test 1", "its sum is 108.355, but the cells of its matrix add up to 105.355"),
        ('"340.46"', '"300.46"', "test 3", "its total is 1358.18, but its two streams add up to 1318.18"),
    ],
)
def test_nvbandwidth_is_held_against_its_sums(old: str, new: str, where: str, message: str) -> None:
    content = (HOME / "nvbandwidth_two_devices.json").read_text()
    assert content.count(old) == 1
    found = read(content.replace(old, new)).contradictions
    assert [(row.where, row.text) for row in found] == [(where, message)]


def test_nvbandwidth_names_each_part_that_it_cannot_read() -> None:
    data = json.loads((HOME / "nvbandwidth_two_devices.json").read_text())
    first, second, third, _, last = data["nvbandwidth"]["testcases"]
    first["bandwidth_description"] = "memcpy CE CPU(row) -> GPU(column) bandwidth (MB/h)"
    second["bandwidth_matrix"][0][1] = "nan"
    del third["bandwidth_matrix"][0]
    last["bandwidth_matrix"] = [["1"], ["1", "2"]]
    text = read(json.dumps(data))
    assert [line.where for line in text.ledger.of_kind("unread")] == [
        "test 1", "test 2, row 0, column 1", "test 3", "test 5",
    ]  # fmt: skip
    assert list(seconds_of(text)) == [
        "nvbandwidth/device_to_device_memcpy_read_ce[gpu=1,peer=0]",
        "nvbandwidth/multinode_device_to_device_memcpy_read_ce",
    ]
    data["nvbandwidth"]["testcases"] = []
    with pytest.raises(BenchError, match="no `testcases`"):
        read(json.dumps(data))


def test_mlperf_step_times_rates_and_the_system() -> None:
    text = read_file("mlperf_step_times.txt")
    end = "[benchmark=llama31_8b,global_batch_size=64,max_sequence_length=8192]"
    assert seconds_of(text) == {
        f"mlperf/train_step{end}": (0.5125, 0.4988, 0.5031),
        f"mlperf/time_to_train{end}": (317.777,),
    }
    assert text.readings[0].derived == {"samples_per_s": 127.211290}
    assert {(rank.device_name, rank.device_type) for rank in text.ranks} == {("NVIDIA H200", "cuda")}
    assert text.versions == {"cuda": "13.1.0.036", "nccl": "2.29.2"}
    assert (text.settings["tensor_parallelism"], text.settings["submission_division"]) == (1, "closed")
    assert text.ledger.counts()["unread"] == 0
    with pytest.raises(BenchError, match=r"--ranks 8: the file says 16"):
        read_file("mlperf_step_times.txt", num_ranks=8)


def test_mlperf_runs_of_one_text_are_launches_and_an_aborted_one_failed() -> None:
    text = read_file("mlperf_throughput_two_runs.txt", num_ranks=8)
    rows = [(reading.params["op"], reading.launch, reading.status, len(reading.seconds)) for reading in text.readings]
    assert rows == [
        ("train_step", 0, "ok", 2), ("time_to_train", 0, "ok", 1),
        ("train_step", 1, "ok", 1), ("time_to_train", 1, "failed", 0),
    ]  # fmt: skip
    assert text.readings[0].seconds == pytest.approx((8 / 30.41, 8 / 30.52))
    with pytest.raises(BenchError, match="does not say how many ranks MLPerf ran on; add --ranks N"):
        read_file("mlperf_throughput_two_runs.txt")


@pytest.mark.parametrize(
    ("factor", "length", "name", "is_contradiction"),
    [
        (1, 8192, "samples_per_s", False),
        (8192, 8192, "logged_tokens_per_s", False),
        (8192, None, "throughput", False),
        (3, 8192, "throughput", True),
    ],
)
def test_the_unit_of_a_throughput(factor: int, length: int | None, name: str, is_contradiction: bool) -> None:
    rows = [("submission_benchmark", "llm"), ("number_of_ranks", 8), ("global_batch_size", 64)]
    rows += [("max_sequence_length", length)] if length else []
    events: list[tuple[str, object]] = [*rows, ("tracked_stats", {"train_step_time": 0.5, "throughput": 128 * factor})]
    text = read("".join(f":::MLLOG {json.dumps({'key': key, 'value': value})}\n" for key, value in events))
    assert text.readings[0].derived == {name: 128.0 * factor}
    assert bool(text.contradictions) == is_contradiction


def test_mlperf_lines_that_are_not_whole_are_named() -> None:
    text = read(
        ':::MLLOG {"key": "number_of_ranks", "value": 2}\n:::MLLOG {"key": "run_start", "time_ms"\n'
        ':::MLPv0.5.0 resnet 1541635581.66 (train.py:1) run_start\n:::MLLOG {"value": 1}\n'
        ':::MLLOG {"key": "tracked_stats", "value": {"train_step_time": -1}}\n'
    )
    assert [line.where for line in text.ledger.of_kind("unread")] == ["line 2", "line 3", "line 4", "line 5"]
    two = "".join(
        f':::MLLOG {{"key": "number_of_ranks", "value": {n}}}\n:::MLLOG {{"key": "run_start"}}\n' for n in (2, 4)
    )
    with pytest.raises(BenchError, match=r"contradicts itself on its accelerators: 2 .*, 4"):
        read(two)


def test_a_run_that_states_two_batch_sizes_is_named() -> None:
    content = (HOME / "mlperf_gpt3_tokens.txt").read_text()
    other = ':::MLLOG {"key": "global_batch_size", "value": 1024}\n'
    found = read(content + other).contradictions
    assert [row.note() for row in found] == [
        "line 8: global_batch_size is 2048 and 1024 in one run; the last one is taken"
    ]


def test_all_reduce_bench_queued_calls_are_streamed_and_trials_are_samples() -> None:
    text = read_file("all_reduce_bench_table.txt")
    case = "collective/all_reduce[num_bytes=32768,timing=streamed]"
    assert seconds_of(text)[case] == pytest.approx((32768 / 0.91e9,))
    assert text.versions == {"torch": "2.9.1+cu130", "cuda": "13.0", "nccl": "2.27.7"}
    assert {rank.device_name for rank in text.ranks} == {"NVIDIA H200"}
    assert text.ledger.counts()["unknown"] == 0
    profile = seconds_of(read_file("all_reduce_bench_profile.txt"))
    assert profile == {
        "collective/all_reduce[num_bytes=536870912]": pytest.approx(
            tuple(2**29 / (gb * 1e9) for gb in (171.31, 169.02, 171.88, 170.44))
        )
    }
    one = seconds_of(read_file("all_reduce_bench_one_payload.txt"))
    assert one == {"collective/all_reduce[num_bytes=4000000000]": pytest.approx((4e9 / 171.22e9,))}


def test_all_reduce_bench_ranks_are_held_against_the_bandwidths() -> None:
    with pytest.raises(BenchError, match=r"--ranks 8: .*it is that of 4 ranks"):
        read_file("all_reduce_bench_page.txt", num_ranks=8)
    with pytest.raises(BenchError, match="add --ranks N"):
        read_file("all_reduce_bench_page.txt")
    content = (HOME / "all_reduce_bench_table.txt").read_bytes().decode()
    wrong = read(content.replace("over 8 ranks", "over 4 ranks"))
    assert [row.where for row in wrong.contradictions] == ["line 16"]
    assert {reading.work and reading.work.bus_factor for reading in wrong.readings} == {None}


def test_a_text_of_two_tools_says_so() -> None:
    both = (DATA / "import" / "nccl_new.txt").read_text() + (HOME / "mlperf_step_times.txt").read_text()
    found = read(both)
    assert (found.tool, found.remarks[-1]) == (
        "nccl-tests", "the text also looks like mlperf; for its numbers add --from mlperf",
    )  # fmt: skip
    assert read(both, "mlperf").tool == "MLPerf"
