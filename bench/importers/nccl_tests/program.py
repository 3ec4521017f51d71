"""Which program of nccl-tests ran, from the command line in a log: a word that ends in `_perf` alone says nothing.

`./build/all_reduce_perf -b 1K` is a command, `ran reduce_perf and saw` a remark, and `logs/alltoall_perf.log` a file. A
line with two programs of different operations does not say which of them wrote the table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.importers.nccl_tests.rows import operation

_NAME = re.compile(r"(?:\S*[/\\])?(\w+_perf(?:_mpi)?(?:\.exe)?)")
_COMMAND = re.compile(
    r"\s*(?:\[?[\w.-]+@[^$#%]*[$#%]|[$%>#+]+)\s|\s*(?:\w+=\S+\s+)*(?:time|env|mpirun|mpiexec|srun|prun|orterun|numactl|exec|"
    r"sudo|docker|kubectl|torchrun|Running|running|Executing|Command|command|COMMAND|CMD|cmd|nohup|taskset|timeout|nsys)\b"
)
_OPTION = re.compile(r"-{1,2}[A-Za-z]")
_WRITES = {">", ">>", "tee", "cat", "-o", "--output", "cd", "ls", "rm", "make"}
"""Words before a file."""
_VARIABLE = re.compile(r"(?<!\w)([NR]CCL_\w+)=['\"]?([\w.,:^-]+)")
_FOUND = re.compile(r"\b(NCCL_\w+) set by environment to ([\w.,:^-]*\w)")
_EXPORT = re.compile(r"[+$\s]*(?:export|setenv|set)\s")
_PRIVATE = re.compile("DEBUG|IFNAME|HCA|FILE|TOPO|ADDR|COMM_ID|PLUGIN|HOST|PATH")
"""Variables that name parts of a network, or change only what is printed."""
_OPTION_VALUE = re.compile(r"\s(?:-([a-zA-Z])\s*|--(\w+)[= ])(-?\w+)(?=\s|$)")
UNPRINTED = {
    "R": ("local_register", "0"),
    "a": ("average", "1"),
    "y": ("stream_null", "0"),
    "x": ("cta_policy", "-1"),
    "D": ("device_implementation", "0"),
    "V": ("device_cta_count", "16"),
    "Y": ("memory_type", "coarse"),
    "F": ("cache_flush", "0"),
}
"""Letter of an option -> its name and default; other options are printed, or change no time.

Source: src/common.cu of nccl-tests; -Y and -F are of rccl-tests.
"""
_LETTERS = {name: letter for letter, (name, _) in UNPRINTED.items()}
_ENDS = {">", ">>", "|", "2>&1", "&>", "1>", "2>", "tee", "&&", "||", ";", "&"}


@dataclass(frozen=True)
class Program:
    """The programs that a line names."""

    names: tuple[str, ...]
    is_command: bool
    """True for a line that begins as a command does; else it may be a word of a sentence."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Variables of NCCL that the line sets."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Options that change a measurement and that the program does not print, unless they have their defaults."""

    def operation(self, told: str | None) -> str | None:
        """The operation. Raises BenchError for a line of two, unless the user names one of them."""
        operations = list(dict.fromkeys(operation(name) for name in self.names))
        if len(operations) > 1 and told not in operations:
            raise BenchError(
                f"the command line names several programs ({', '.join(self.names)}); say which of them wrote the "
                "table: add --op, or put each into a file of its own"
            )
        return told if len(operations) > 1 else operations[0]


def program_of(text: str) -> Program | None:
    """The programs of nccl-tests that a line ran; None if it names none, or only speaks of one."""
    words = re.sub(r"([;|&]+)", r" \1 ", text).replace("2 > & 1", "2>&1").split()
    is_command = _COMMAND.match(text.lstrip("`'\"* ")) is not None
    names = []
    for index, word in enumerate(words):
        match = _NAME.fullmatch(word.strip("'\"`"))
        after = words[index + 1].strip("'\"`") if index + 1 < len(words) else ""
        before = words[index - 1] if index else ""
        if match is None or before in _WRITES:
            continue
        has_path = "/" in word or "\\" in word
        ends = after == "" or after in _ENDS or after.startswith(">")
        if _OPTION.match(after) or (ends and (is_command or has_path or index == 0)):
            names.append(match[1])
    if not names:
        return None
    options = _options(text[text.rindex(names[-1]) :])
    return Program(tuple(dict.fromkeys(names)), is_command, _variables(text), options)


def exported_variables(text: str) -> dict[str, str]:
    """Variables of NCCL that a line of the shell exports, or that NCCL says it found."""
    if found := _FOUND.search(text):
        return {found[1]: found[2]} if _PRIVATE.search(found[1]) is None else {}
    return _variables(text) if _EXPORT.match(text) else {}


def stated_variables(text: str) -> dict[str, str]:
    """Variables of NCCL in a heading, such as `=== NCCL_ALGO=Ring ===`, or in a dump of the environment."""
    return {} if text.endswith("\\") or "CCL INFO" in text else _variables(text)


def _options(arguments: str) -> dict[str, str]:
    """Options of UNPRINTED that have another value than their default."""
    found = {letter or _LETTERS.get(name, ""): value for letter, name, value in _OPTION_VALUE.findall(arguments)}
    return {
        name: found[letter] for letter, (name, default) in UNPRINTED.items() if found.get(letter, default) != default
    }


def _variables(text: str) -> dict[str, str]:
    return {name: value for name, value in _VARIABLE.findall(text) if _PRIVATE.search(name) is None}
