"""Parser of NCCL's choices for collective calls in the text that NCCL_DEBUG writes.

Pure: text in, choices out. The lines differ between versions (NVIDIA/nccl, `src/enqueue.cc`, before 2.19
`src/enqueue.cc` of each release, and `src/include/symmetric_sched.h`). Of what INFO writes for the subsystem TUNING:

    262144 Bytes -> Algo 0 proto 1 time 54.707825                                      numbers, no name of the call
    Broadcast: 8 Bytes -> Algo 1 proto 0 time 12.3                                     numbers
    AllReduce: 1048576 Bytes -> Algo RING proto LL128 channel{Lo..Hi}={0..7}           names; RCCL adds ` comm 0x...`
    AllReduce [Symmetric]: 2097152 Bytes -> Kernel AllReduce_AGxLL_R nchannels 16 nthreads 512 nWorks 1

Only rank 0 of a communicator writes them. Releases that say less (in many, the line is there only in builds with
TRACE) give no choice: unknown, not a guess. Point-to-point calls (send, recv and what is made of them, such as an
all-to-all) have no algorithm and no such line. The name of a call without one is taken from the line that COLL writes
for it on the same thread: `AllReduce: opCount 0 sendbuff 0x... count 262144 datatype 7 ...`.

The text before `NCCL INFO` names host, process and thread (`src/debug.cc`), in some versions after a time stamp. Lines
of several threads may alternate; anything else in the file is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bench.records.lines.parts import NcclChoice, NcclSetup

ENVIRON: Mapping[str, str] = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,COLL,TUNING"}
"""Variables that make NCCL log what is read here: INIT the set-up, TUNING the choices, COLL the calls."""

# The numbers are the order in NVIDIA/nccl src/include/device.h, `NCCL_ALGO_...` and `NCCL_PROTO_...`, as it has been
# since NCCL 2.14; the names in capitals are those of `ncclAlgoToString` and `ncclProtoToString` in src/collectives.cc.
_ALGORITHMS = ("Tree", "Ring", "CollnetDirect", "CollnetChain", "NVLS", "NVLSTree", "PAT")
_PROTOCOLS = ("LL", "LL128", "Simple")


@dataclass(frozen=True)
class _Message:
    thread: str
    text: str


_PREFIX = re.compile(r"(?P<thread>[^\s\]]+:\d+:\d+)\s+\[\d+\]\s*$")
_CALL = re.compile(r"(?P<function>[A-Z]\w*): opCount \S+ ")
_NUMBERED = re.compile(
    r"(?:(?P<function>[A-Z]\w*): *)?(?P<bytes>\d+) Bytes *-> Algo +(?P<algorithm>\d+) +proto +(?P<protocol>\d+)"
    r"(?: +time +\S+)?"
)
_NAMED = re.compile(
    r"(?P<function>[A-Z]\w*): *(?P<bytes>\d+) Bytes *"
    r"-> Algo +(?P<algorithm>[A-Za-z]\w*) +proto +(?P<protocol>[A-Za-z]\w*)"
    r"(?: +channel\{Lo\.\.Hi\}=\{(?P<low>\d+)\.\.(?P<high>\d+)\})?(?: +comm +\w+)?"
)
_SYMMETRIC = re.compile(
    r"(?P<function>[A-Z]\w*) \[Symmetric\]: *(?P<bytes>\d+) Bytes *"
    r"-> Kernel +(?P<kernel>\w+) +nchannels +(?P<count>\d+)(?: .*)?"
)


def parse_choices(text: str) -> list[NcclChoice]:
    """The choices in NCCL's debug text, in the order written; lines that were torn or are unknown are left out."""
    choices: list[NcclChoice] = []
    pending: dict[str, _Calls] = {}
    for message in _messages(text):
        calls = pending.setdefault(message.thread, _Calls())
        call = _CALL.match(message.text)
        if call:
            calls.begin(call["function"])
            continue
        choice = _choice(message.text, calls.named)
        if choice is not None:
            choices.append(choice)
            calls.chosen = True
    return choices


def parse_setup(text: str) -> NcclSetup:
    """Parse the first communicator's set-up from the text."""
    fields: dict[str, str] = {}
    for message in _messages(text):
        for pattern in _SETUP:
            match = pattern.match(message.text)
            for name, value in match.groupdict().items() if match else ():
                fields.setdefault(name, value)
    # `Channel 00/08 : 0 1 2 3`, one line for each ring, is in older versions too.
    rings = fields.pop("rings", None)
    counts = {name: int(fields[name]) for name in fields if name.endswith("_channels")}
    if rings is not None:
        counts.setdefault("coll_channels", int(rings))
    return NcclSetup(version=fields.get("version"), network=fields.get("network"), **counts)


_SETUP = (
    re.compile(r"NCCL version (?P<version>\d[\w.+]*)"),
    re.compile(r"Using network (?P<network>\S.*\S)\s*$"),
    re.compile(r"Channel \d+/(?P<rings>\d+) :(?: +\d+)+\s*$"),
    re.compile(r"(?P<coll_channels>\d+) coll channels,"),
    re.compile(r"\d+ coll channels,(?:.*,)? (?P<collnet_channels>\d+) collnet channels"),
    re.compile(r"\d+ coll channels,(?:.*,)? (?P<nvls_channels>\d+) nvls channels"),
    re.compile(r"\d+ coll channels,(?:.*,)? (?P<p2p_channels>\d+) p2p channels(?! per)"),
)


class _Calls:
    """The calls of one thread since its last choices; several in a group are enqueued before any is chosen for."""

    def __init__(self) -> None:
        self.functions: set[str] = set()
        self.chosen = False

    def begin(self, function: str) -> None:
        if self.chosen:
            self.functions, self.chosen = set(), False
        self.functions.add(function)

    @property
    def named(self) -> str | None:
        """The one function that was called; None if it is not known which of several."""
        return next(iter(self.functions)) if len(self.functions) == 1 else None


def _choice(text: str, called: str | None) -> NcclChoice | None:
    for pattern, read in _READERS:
        match = pattern.fullmatch(text)
        if match:
            return read(match, called)
    return None


def _read_numbered(match: re.Match[str], called: str | None) -> NcclChoice:
    return NcclChoice(
        function=match["function"] or called,
        num_bytes=int(match["bytes"]),
        algorithm=_name_at(_ALGORITHMS, int(match["algorithm"])),
        protocol=_name_at(_PROTOCOLS, int(match["protocol"])),
    )


def _read_named(match: re.Match[str], called: str | None) -> NcclChoice:
    return NcclChoice(
        function=match["function"],
        num_bytes=int(match["bytes"]),
        algorithm=_canonical_name(_ALGORITHMS, match["algorithm"]),
        protocol=_canonical_name(_PROTOCOLS, match["protocol"]),
        channels=None if match["low"] is None else int(match["high"]) - int(match["low"]) + 1,
    )


def _read_symmetric(match: re.Match[str], called: str | None) -> NcclChoice:
    return NcclChoice(
        function=match["function"],
        num_bytes=int(match["bytes"]),
        algorithm=match["kernel"],
        channels=int(match["count"]),
    )


_READERS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str | None], NcclChoice]], ...] = (
    (_NAMED, _read_named),
    (_NUMBERED, _read_numbered),
    (_SYMMETRIC, _read_symmetric),
)


def _name_at(names: tuple[str, ...], number: int) -> str | None:
    return names[number] if number < len(names) else None


def _canonical_name(names: tuple[str, ...], name: str) -> str | None:
    """NCCL's name as it is written here; one that is new stays as NCCL has it, its `Unknown` is unknown."""
    if name == "Unknown":
        return None
    plain = name.replace("_", "").lower()
    return next((canonical for canonical in names if canonical.lower() == plain), name)


def _messages(text: str) -> Iterator[_Message]:
    """Thread and text of every INFO line; several on one line, as two processes with one file can tear them, apart."""
    for line in text.splitlines():
        before, *parts = line.split("NCCL INFO ")
        for part in parts:
            prefix = _PREFIX.search(before)
            yield _Message(prefix["thread"] if prefix else "", part.strip())
            before = part
