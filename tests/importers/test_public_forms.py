"""Inputs of our own making in the form of public outputs: numbers, hosts and addresses are made up.

Each row has the address of an output in this form. `results/evidence/imports.md` lists what was wrong at first.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.records.file import load
from tests import DATA, ROOT
from tests.support.damage import call

HOME = DATA / "import" / "public"
NCCL_TESTS = "https://github.com/NVIDIA/nccl-tests"


@dataclass(frozen=True)
class Form:
    """One input: where an output in its form is, and what the import makes of it."""

    name: str
    address: str
    cases: Counter[str]
    """Suite and operation -> number of cases."""
    ranks: int | None = None
    options: tuple[str, ...] = ()
    code: int = 0
    words: str = ""
    """Part of what the command prints."""


def _nccl(name: str, address: str, ranks: int, op: str = "all_reduce", **more: object) -> Form:
    return Form(name, address, Counter({f"collective/{op}": 8}), ranks, **more)  # type: ignore[arg-type]


def _osu(name: str, address: str, *ops: str, ranks: int = 2, **more: object) -> Form:
    return Form(name, address, Counter(ops), ranks, **more)  # type: ignore[arg-type]


FORMS = (
    _nccl("lost_hashes", f"{NCCL_TESTS}/issues/249", 1, words="a lost # put back (9 lines)"),
    _nccl("compiled_before", f"{NCCL_TESTS}/issues/294", 2, words="1 unknown line"),
    _nccl("table_under_command", f"{NCCL_TESTS}/issues/232", 2, options=("--ranks", "2")),
    _nccl("info_between", f"{NCCL_TESTS}/issues/29", 16),
    _nccl("sendrecv", f"{NCCL_TESTS}/issues/214", 2, "send_recv"),
    _nccl("hypercube_blank", f"{NCCL_TESTS}/blob/master/src/hypercube.cu", 4, "hypercube"),
    _nccl("devices_cut_by_program", f"{NCCL_TESTS}/blob/master/src/util.cu", 32, options=("--ranks", "32")),
    _nccl("k8s_efa", "https://github.com/aws/aws-k8s-tester/pull/464", 16, options=("--op", "all_reduce")),
    _nccl("all_gather_indented", "https://github.com/bottlerocket-os/bottlerocket-kernel-kit/pull/313", 16,
          "all_gather"),
    _nccl("fork_lost_hashes", "https://github.com/NVIDIA/nccl/issues/583", 8, words="a lost # put back (14 lines)"),
    _nccl("two_nodes_old", "https://github.com/NVIDIA/nccl/issues/318", 16),
    _nccl("alltoall_no_redop", "https://github.com/NVIDIA/nccl/issues/644", 8, "all_to_all"),
    Form("two_algorithms", "https://github.com/NVIDIA/nccl/issues/1530", Counter({"collective/all_reduce": 16}), 8),
    _nccl("srun_continued", "https://github.com/crickett-hpe/hpc-ai-envs/pull/30", 16),
    _nccl("mpi_suffix", "https://github.com/nebius/soperator/pull/428", 16),
    _nccl("wide_columns", "https://github.com/kvcache-ai/Mooncake/pull/3484", 8,
          options=("--op", "all_reduce", "--ranks", "8")),
    _nccl("version_after_devices", "https://github.com/oracle-quickstart/oci-hpc-oke", 16),
    _nccl("bullets", "https://pastebin.com/ne4ipn6K", 2, words="prefixes (18 lines, such as '-')"),
    _nccl("gist_bars", "https://gist.github.com/jacobkahn/a92f4425abf831ac0799fabe9079263d", 16,
          options=("--op", "all_reduce", "--ranks", "16"), words="bars of a table"),
    Form("first_format", "https://gist.github.com/cswinter/3bc2cbcc7c947e4a2736188dd6e74240", Counter(), code=2,
         words="looks like none of"),
    _nccl("rccl_enroot", "https://github.com/ROCm/container-toolkit/pull/77", 16),
    Form(
        "rccl_script",
        "https://github.com/ROCm/rccl/pull/2075",
        Counter({"collective/all_reduce": 8, "collective/broadcast": 8, "collective/reduce_scatter": 8}),
        2,
    ),
    _nccl("rccl_old_asterisk", "https://github.com/ROCm/rccl-tests/blob/develop/src/common.cu", 4, code=3,
          words="1 case wrong"),
    _osu("osu_datatype_after_head", "https://github.com/EESSI/software-layer/pull/716", *["osu/bandwidth"] * 2),
    _osu("osu_timestamp_output", "https://github.com/openucx/ucx/issues/2454", *["osu/get_accumulate_latency"] * 3,
         words="such as 'Mon Mar 26 10:40:57 2018[1,0]<stdout>:'"),
    _osu("osu_ucx_log", "https://openucx.readthedocs.io/en/master/faq.html", *["osu/bandwidth"] * 2),
    _osu("osu_libfabric_warn", "https://github.com/open-mpi/ompi/issues/12231", *["osu/bandwidth"] * 2),
    _osu("osu_signal", "https://github.com/ofiwg/libfabric/issues/10865", "osu/bidirectional_bandwidth"),
    _osu("osu_mbw", "https://github.com/aws/aws-parallelcluster/pull/7035", *["osu/multiple_bandwidth"] * 2, ranks=4),
    _osu("osu_label_bars", "https://gist.github.com/hppritcha/8da4436a216c9d96bf10ad9d403da03f",
         *["osu/multiple_bandwidth"] * 2),
    _osu("osu_second_table_without_head", "https://gist.github.com/hppritcha/200bc7a2d4dfde709245d6ffa7b2b971",
         *["osu/multiple_bandwidth"] * 2, code=3, words="line 9: 1 1.44"),
    _osu("osu_reduce_full", "https://github.com/open-mpi/ompi/pull/12318", *["collective/reduce"] * 2, ranks=192,
         options=("--ranks", "192")),
)  # fmt: skip
KINDS = (
    _nccl("srun_label", "labels of srun -l before every line", 16, "all_gather"),
    _nccl("iters_column", "a column of a newer version", 2),
    _nccl("mail_wrapped", "a mail that quotes and wraps", 2, words="prefixes (22 lines, such as '>')"),
    _nccl("utf16", "a redirection of PowerShell", 2, words="UTF-16 with a byte-order mark"),
    _nccl("html", "the source of a page", 2, words="HTML marks (18 lines)"),
    _osu("osu_xccl", "NCCL under the benchmarks of OSU", "collective/all_reduce", ranks=8, options=("--ranks", "8")),
    _osu("osu_put_suite", "two one-sided tests", *["osu/get_latency"] * 3, *["osu/put_latency"] * 3),
    _osu("osu_mail_html", "an archive of mails", *["osu/put_latency"] * 3, words="HTML marks (8 lines)"),
)
"""Further kinds, without an address of one output."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def text_of(name: str) -> str:
    data = (HOME / f"{name}.txt").read_bytes()
    return data.decode("utf-16" if data.startswith(b"\xff\xfe") else "utf-8")


def test_every_input_has_a_row_and_an_address() -> None:
    assert sorted(form.name for form in (*FORMS, *KINDS)) == sorted(path.stem for path in HOME.iterdir())
    assert len({form.address for form in FORMS}) == len(FORMS) >= 20
    page = (ROOT / "results" / "evidence" / "imports.md").read_text()
    assert not [form.address for form in FORMS if form.address not in page]


@pytest.mark.parametrize("form", [*FORMS, *KINDS], ids=lambda form: form.name)
def test_an_output_in_a_public_form(tmp_path: Path, form: Form) -> None:
    path = tmp_path / "out.jsonl"
    code, output = call("import", str(HOME / f"{form.name}.txt"), "-o", str(path), *form.options)
    assert (code, form.words in output) == (form.code, True), output
    if not form.cases:
        assert not path.exists()
        return
    result = load(path)
    assert Counter(record.case.partition("[")[0] for record in result.measurements) == form.cases
    assert result.plan.world_size == form.ranks
    stated = {float(number) for number in _NUMBER.findall(text_of(form.name))}
    for record in result.measurements:
        for variant in record.variants.values():
            assert variant.nanoseconds is not None
            (time,) = (variant.nanoseconds[0] / 1e3).tolist()
            size = float(str(record.params.get("num_bytes", 0)))
            assert time in stated or any(abs(size / time - rate) < 1e-3 * rate for rate in stated if rate)


def test_runs_with_other_settings_are_no_launches_of_one_case(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    code, _ = call("import", str(HOME / "two_algorithms.txt"), "-o", str(path))
    assert code == 0
    records = load(path).measurements
    assert {record.launch for record in records} == {0}
    assert Counter(record.params["nccl_algo"] for record in records) == {"TREE": 8, "RING": 8}


def test_verbose_prints_every_line_and_its_use(tmp_path: Path) -> None:
    for form in (*FORMS, *KINDS):
        path = tmp_path / f"{form.name}.jsonl"
        _, output = call("import", str(HOME / f"{form.name}.txt"), "-o", str(path), "--verbose", *form.options)
        lines = text_of(form.name).replace("\r\n", "\n").removesuffix("\n").split("\n")
        printed = re.findall(r"^line (\d+): (?:read|not data|unread|unknown)", output, re.M)
        assert form.code == 2 or sorted(map(int, printed)) == list(range(1, len(lines) + 1)), form.name
