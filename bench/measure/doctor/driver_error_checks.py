"""Xid and SXid errors in the kernel's log, each device and code once, with the step that NVIDIA's catalogue asks for.

Formats: `NVRM: Xid (PCI:0000:91:00): 79, pid=..., GPU has fallen off the bus.` and
`nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.catalog.xids import RECOVERY_STEPS, DriverError, Step, sxid, xid
from bench.core.values import counted, show_duration
from bench.measure.doctor.facts import Facts
from bench.measure.system.kernel_log import KernelLine
from bench.records.lines.parts import Action, Finding, Level

RECOVERY_ACTION_CHANGED = 154

REMEDIES: dict[Action, str] = {
    "isolate": "take the node out of use, and have the device checked",
    "reboot": "drain the node first; if it comes back, replace the device",
    "reset": "drain the node first, and reset the switches with the GPU; if it comes back, replace it",
    "watch": "corrected or not fatal: look again, and at nvidia-smi -q, if there are more",
}
MAX_WORDS_LENGTH = 60
_ACTIONS: dict[Step, Action] = {"isolate": "isolate", "reset": "reset", "reboot": "reboot", "watch": "watch"}
_LINE = re.compile(r"\b(S?Xid) \((?:PCI:)?([0-9A-Fa-f:.]+)\): (\d+)(?:, (.*))?")
_RECOVERY = re.compile(r"to 0x([0-9A-Fa-f]+)")
_HEAD = re.compile(r"^(?:Fatal|Non-fatal),?\s*(?:Link \d+)?\s*")
_DETAIL = re.compile(r"(Severity|Data) ")


@dataclass(frozen=True)
class LoggedError:
    """One error in the kernel's log."""

    kind: str
    """`Xid` or `SXid`."""
    pci: str
    code: int
    step: Step
    description: str
    seconds: float = field(compare=False)
    """Time since the host started."""


def parse(line: KernelLine) -> LoggedError | None:
    """The error of a line; None for another line, and for the details that follow an SXid."""
    match = _LINE.search(line.text)
    if match is None:
        return None
    kind, pci, code, text = match[1], _short(match[2]), int(match[3]), match[4] or ""
    if kind == "SXid" and _DETAIL.match(text):
        return None
    row = xid(code) if kind == "Xid" else sxid(code)
    step = _gpu_step(code, row, text) if kind == "Xid" else _switch_step(row, text)
    # Errors of switches say in a few words what they are; those of GPUs name programs.
    described = _own_words(text) if kind == "SXid" else ""
    return LoggedError(kind, pci, code, step, described if row is None else row.description, line.seconds)


def _own_words(text: str) -> str:
    """`LTSSM Fault Up` of `Fatal, Link 48 LTSSM Fault Up`."""
    return "".join(filter(str.isprintable, _HEAD.sub("", text)))[:MAX_WORDS_LENGTH].strip()


def _gpu_step(code: int, row: DriverError | None, text: str) -> Step:
    if row is None:
        return "watch"
    if row.step != "by message":
        return row.step
    if code == RECOVERY_ACTION_CHANGED:
        change = _RECOVERY.search(text)
        return RECOVERY_STEPS.get(int(change[1], 16), ("watch", ""))[0] if change else "watch"
    return "watch" if re.search(r"non-?fatal", text, re.I) or not re.search(r"\bfatal\b", text, re.I) else "reset"


def _switch_step(row: DriverError | None, text: str) -> Step:
    """The driver itself says whether an SXid is fatal; the table has what a fatal one needs beyond a reset."""
    if not text.startswith("Fatal"):
        return "watch"
    return "reset" if row is None else row.step


def _short(pci: str) -> str:
    """`0000:91:00` of `0000:91:00`, `0000:91:00.0` and NVML's `00000000:91:00.0`."""
    return re.sub(r"^0{4}(?=[0-9a-f]{4}:)", "", pci.lower()).partition(".")[0]


def standing(lines: Sequence[KernelLine]) -> list[LoggedError]:
    """All errors but those that a GPU has recovered from, by its driver's word (Xid 154, `to 0x0`)."""
    errors: list[LoggedError] = []
    for error in filter(None, map(parse, lines)):
        if error.code == RECOVERY_ACTION_CHANGED and error.step == "none":
            errors = [other for other in errors if other.pci != error.pci or other.step not in ("reset", "reboot")]
        else:
            errors.append(error)
    return errors


def check_driver_errors(facts: Facts) -> Iterator[Finding]:
    """One finding for each device and code, worst first; programs' own errors in one line."""
    log = facts.kernel_log
    if log.unreadable is not None:
        if facts.gpus or facts.present_gpus:
            yield Finding("ok", "kernel log", f"not read ({log.unreadable}): Xid errors are unknown")
        return
    errors = standing(log.lines)
    counts, last = Counter(errors), {error: error.seconds for error in errors}
    indices = {_short(gpu.pci): gpu.index for gpu in facts.gpus if gpu.pci}
    for action in REMEDIES:
        for error, count in counts.items():
            if _ACTIONS.get(error.step) == action:
                when = _when(count, last[error], log.uptime_seconds)
                yield _finding(error, when, indices, action)
    programs = Counter({error.code: count for error, count in counts.items() if error.step == "none"})
    if programs:
        codes = ", ".join(f"Xid {code}" for code in sorted(programs))
        total = sum(programs.values())
        yield Finding("ok", "kernel log", f"{counted(total, 'error')} of the kind that programs cause: {codes}")
    elif facts.gpus and not counts:
        yield Finding("ok", "kernel log", "no Xid and no SXid since the host started, or since its log begins")


def _when(count: int, last: float, uptime: float | None) -> str:
    """`3 h ago`, or `2 times, last 3 h ago`; without a time if the uptime is unknown, or a container's own."""
    ago = f"{show_duration(uptime - last)} ago" if uptime is not None and uptime >= last else ""
    return ago if count == 1 else f"{count} times" + (f", last {ago}" if ago else "")


def _finding(error: LoggedError, when: str, indices: dict[str, int], action: Action) -> Finding:
    where = f"GPU {indices[error.pci]}" if error.kind == "Xid" and error.pci in indices else f"PCI {error.pci}"
    known = error.description or "not in the doctor's table: look it up in NVIDIA's list"
    level: Level = "warn" if action == "watch" else "fail"
    return Finding(
        level, f"{where} {error.kind} {error.code}", ", ".join(filter(None, (known, when))), REMEDIES[action], action
    )
