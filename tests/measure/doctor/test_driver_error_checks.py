"""Xid and SXid errors of the kernel's log, and the step that each asks for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.catalog.xids import Step, _rows, sxid, xid
from bench.measure.doctor.checks import examine
from bench.measure.doctor.driver_error_checks import check_driver_errors, parse, standing
from bench.measure.doctor.facts import Facts
from bench.measure.system.kernel_log import KernelLine, KernelLog, read_driver_errors
from tests.measure.doctor.test_checks import CPU_NODE, GPU_NODE, healthy_gpu
from tests.measure.system.test_kernel_log import SXID, XID, write_log

GPU = "NVRM: Xid (PCI:0000:3b:00)"
SWITCH = "nvidia-nvswitch0: SXid (PCI:0000:05:00.0)"


def node_with(*texts: str, facts: Facts = GPU_NODE) -> Facts:
    lines = tuple(KernelLine(float(number), text) for number, text in enumerate(texts))
    return replace(facts, kernel_log=KernelLog(lines, uptime_seconds=7202.0))


def found(*texts: str, facts: Facts = GPU_NODE) -> list[tuple[str, str, str]]:
    """(level, what, action) of what is not ok; each says what to do."""
    bad = [each for each in check_driver_errors(node_with(*texts, facts=facts)) if each.level != "ok"]
    assert all(each.remedy and each.value for each in bad)
    return [(each.level, each.what, each.action) for each in bad]


@pytest.mark.parametrize(
    ("text", "level", "action"),
    [
        (f"{GPU}: 79, pid=1, name=python, GPU has fallen off the bus.", "fail", "reboot"),
        (f"{GPU}: 48, pid=1, DBE (double bit error)", "fail", "reset"),
        ("NVRM: Xid (0000:3b:00): 48, of an old driver", "fail", "reset"),
        (f"{GPU}: 95, pid=1, Uncontained", "fail", "reset"),
        (f"{GPU}: 64, Row Remapper Error", "fail", "reset"),
        (f"{GPU}: 74, pid=1, NVLink: fatal error detected on link 2", "fail", "reset"),
        (f"{GPU}: 119, pid=1, Timeout waiting for RPC from GSP", "fail", "reset"),
        (f"{GPU}: 140, unrecoverable ECC", "fail", "reset"),
        (f"{GPU}: 54, power", "fail", "isolate"),
        (f"{GPU}: 63, Row Remapper: New row marked for remapping", "warn", "watch"),
        (f"{GPU}: 94, pid=1, Contained", "warn", "watch"),
        (f"{GPU}: 92, High single-bit ECC error rate", "warn", "watch"),
        (f"{GPU}: 149, NETIR_LINK_EVT Fatal XC0 i0 Link 08", "fail", "reset"),
        (f"{GPU}: 149, NETIR_LINK_EVT Non-fatal XC0 i0 Link 08", "warn", "watch"),
        (f"{GPU}: 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)", "fail", "reset"),
        (f"{GPU}: 154, GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)", "fail", "reboot"),
        (f"{GPU}: 154, GPU recovery action changed from 0x0 (None) to 0x4 (Drain and Reset)", "fail", "reset"),
        (f"{GPU}: 154, GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)", "warn", "watch"),
        (f"{GPU}: 9999, new in a later driver", "warn", "watch"),
    ],
)
def test_a_gpu_s_error_asks_for_nvidia_s_step(text: str, level: str, action: str) -> None:
    ((found_level, what, found_action),) = found(text)
    assert (found_level, found_action) == (level, action)
    assert what.startswith("PCI 0000:3b:00 Xid ")


@pytest.mark.parametrize(
    ("text", "level", "action"),
    [
        (f"{SWITCH}: 20034, Fatal, Link 63 LTSSM Fault Up", "fail", "reset"),
        (f"{SWITCH}: 23001, Fatal, Link 01 ingress buffer overflow", "fail", "reboot"),
        (f"{SWITCH}: 10004, Fatal, thermal event", "fail", "isolate"),
        (f"{SWITCH}: 11001, Fatal, Link 12 ingress invalid command", "fail", "reset"),  # without a row of its own
        (f"{SWITCH}: 11012, Non-fatal, Link 12 ECC limit", "warn", "watch"),
        (f"{SWITCH}: 20034, Non-fatal, Link 63", "warn", "watch"),
    ],
)
def test_a_switch_says_itself_whether_an_error_is_fatal(text: str, level: str, action: str) -> None:
    assert [(one, step) for one, _, step in found(text)] == [(level, action)]


def test_a_switch_s_error_without_a_row_is_said_in_its_own_words() -> None:
    texts = (f"{SWITCH}: 11001, Fatal, Link {link} ingress invalid command" for link in (12, 13))
    (finding,) = check_driver_errors(node_with(*texts))
    assert finding.value.startswith("ingress invalid command, 2 times")


def test_details_of_a_switch_s_error_are_no_errors() -> None:
    assert found(f"{SWITCH}: 20034, Severity 1 Engine instance 60", f"{SWITCH}: 20034, Data {{0x1, 0x0}}") == []


def test_errors_of_programs_are_one_quiet_line() -> None:
    texts = [f"{GPU}: {code}, pid=7, name=python" for code in (31, 13, 43, 45, 31)]
    assert found(*texts) == []
    (line,) = (each.line() for each in check_driver_errors(node_with(*texts)))
    assert line == "ok: kernel log: 5 errors of the kind that programs cause: Xid 13, Xid 31, Xid 43, Xid 45"


def test_an_error_that_repeats_is_one_finding_worst_first() -> None:
    texts = [f"{GPU}: 63, row", f"{GPU}: 48, DBE", f"{GPU}: 48, DBE", f"{GPU}: 79, off the bus"]
    facts = replace(GPU_NODE, gpus=(healthy_gpu(0, pci="00000000:1A:00.0"), healthy_gpu(1, pci="00000000:3B:00.0")))
    assert [what for _, what, _ in found(*texts, facts=facts)] == ["GPU 1 Xid 79", "GPU 1 Xid 48", "GPU 1 Xid 63"]
    (twice,) = [each for each in check_driver_errors(node_with(*texts)) if "48" in each.what]
    assert twice.value == "double-bit ECC error, 2 times, last 2 h ago"


@pytest.mark.parametrize("uptime", [None, 1.0])
def test_a_time_that_cannot_be_told_is_left_out(uptime: float | None) -> None:
    lines = (KernelLine(5.0, XID), KernelLine(6.0, XID))
    (finding,) = check_driver_errors(replace(CPU_NODE, kernel_log=KernelLog(lines, uptime_seconds=uptime)))
    assert finding.value == "GPU has fallen off the bus, 2 times"
    (once,) = check_driver_errors(replace(CPU_NODE, kernel_log=KernelLog(lines[:1], uptime_seconds=uptime)))
    assert once.value == "GPU has fallen off the bus"


def test_a_gpu_that_recovered_is_not_accused_again() -> None:
    recovered = f"{GPU}: 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"
    assert found(f"{GPU}: 48, DBE", recovered) == []
    assert found(recovered, f"{GPU}: 48, DBE") == [("fail", "PCI 0000:3b:00 Xid 48", "reset")]
    other = "NVRM: Xid (PCI:0000:9a:00): 48, DBE"
    assert found(other, recovered) == [("fail", "PCI 0000:9a:00 Xid 48", "reset")]
    assert found(f"{GPU}: 63, row", recovered) == [("warn", "PCI 0000:3b:00 Xid 63", "watch")]


def test_a_gpu_that_is_gone_is_found_without_any_gpu() -> None:
    assert found(XID, facts=CPU_NODE) == [("fail", "PCI 0000:91:00 Xid 79", "reboot")]


def test_a_log_that_cannot_be_read_is_said_where_it_matters() -> None:
    closed = KernelLog(unreadable="/dev/kmsg: operation not permitted")
    (line,) = (each.line() for each in check_driver_errors(replace(GPU_NODE, kernel_log=closed)))
    assert line == "ok: kernel log: not read (/dev/kmsg: operation not permitted): Xid errors are unknown"
    assert list(check_driver_errors(replace(CPU_NODE, kernel_log=closed))) == []
    assert list(check_driver_errors(CPU_NODE)) == []


def test_no_program_s_name_is_repeated(tmp_path: Path) -> None:
    write_log(tmp_path, f"{GPU}: 48, pid=7, name=secret_project.py", SXID)
    facts = replace(GPU_NODE, kernel_log=read_driver_errors(tmp_path))
    lines = [each.line() for each in examine(facts)]
    assert any("SXid 20034" in line for line in lines)
    assert not any("secret_project" in line for line in lines)


def test_every_row_has_a_step_and_a_source() -> None:
    rows = [*_rows("xids.csv").values(), *_rows("sxids.csv").values()]
    assert len(rows) > 150
    assert all(row.description and row.source and row.step in get_args(Step) for row in rows)
    buckets = {
        "RESET_GPU": ("reset",),
        "RESTART_BM": ("reboot",),
        "RESET_FABRIC": ("reboot",),
        "IGNORE": ("watch", "none"),
    }
    for row in rows:
        if row.bucket in buckets:
            assert row.step in buckets[row.bucket], row
    assert xid(79) is not None
    assert (xid(1), sxid(1)) == (None, None)


@settings(derandomize=True, max_examples=100)
@given(st.text(max_size=120))
def test_no_line_is_too_strange(text: str) -> None:
    lines = [KernelLine(0.0, text), KernelLine(0.0, f"{GPU}: 154, {text}"), KernelLine(0.0, f"{SWITCH}: 1, {text}")]
    for error in standing(lines):
        assert error.step in get_args(Step)
    assert parse(lines[1]) is not None
