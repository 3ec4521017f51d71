"""The kernel's log: records of /dev/kmsg in a tree of its own, and the reasons for which it is not read."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.system.kernel_log import KernelLine, _read_records, read_driver_errors

XID = "NVRM: Xid (PCI:0000:91:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
SXID = "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up"


def write_log(root: Path, *texts: str) -> None:
    """Write a log with these messages, one second apart, as /dev/kmsg would give it."""
    (root / "dev").mkdir(exist_ok=True)
    records = [f"3,{number},{number}000000,-;{text}\n SUBSYSTEM=pci\n" for number, text in enumerate(texts)]
    (root / "dev/kmsg").write_text("".join(records))


def test_only_errors_of_nvidia_s_drivers_are_kept(tmp_path: Path) -> None:
    write_log(tmp_path, "eth0: link up", XID, "oom-kill: task=train.py", SXID, "say Xid 79")
    log = read_driver_errors(tmp_path)
    assert log.lines == (KernelLine(1.0, XID), KernelLine(3.0, SXID))
    assert log.unreadable is None


def test_a_log_that_is_missing_or_refused_says_so(tmp_path: Path) -> None:
    assert read_driver_errors(tmp_path).unreadable == "/dev/kmsg: no such file or directory"
    (tmp_path / "dev/kmsg").mkdir(parents=True)
    assert read_driver_errors(tmp_path).unreadable == "/dev/kmsg: is a directory"


def test_an_empty_log_has_no_lines(tmp_path: Path) -> None:
    write_log(tmp_path)
    assert read_driver_errors(tmp_path).lines == ()


def test_reading_ends_where_there_is_nothing_more_to_read() -> None:
    """A pipe whose other end stays open gives EAGAIN, as the kernel's log does at its end."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(reader, False)
        os.write(writer, b"3,0,0,-;one\n")
        assert b"".join(_read_records(reader)) == b"3,0,0,-;one\n"
    finally:
        os.close(reader)
        os.close(writer)


@settings(derandomize=True, max_examples=60)
@given(st.binary(max_size=300))
def test_no_bytes_are_too_strange(content: bytes) -> None:
    path = Path(f"/proc/self/fd/{os.memfd_create('kmsg')}")
    handle = int(path.name)
    try:
        os.write(handle, content)
        os.lseek(handle, 0, os.SEEK_SET)
        assert b"".join(_read_records(handle)) == content
    finally:
        os.close(handle)
