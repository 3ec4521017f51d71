"""The command and the options of a run as a published copy has them: of an allow list, without places.

A word of an option that is not on the list is left out, whatever it looks like.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.core.masking.placeholders import REMOVED, SET
from bench.records.privacy.variables import form_of, kept_value

Clean = Callable[[str], str]
"""What takes private words out of a text."""

PLACES = frozenset(("output", "resume", "like", "against", "save_as", "continuation"))
"""Options that name a file or a folder."""
_NAMES = frozenset(("suites", "cases", "skip", "settings"))
"""Options that name suites, cases and parameters, and may name files."""
_PLAIN = frozenset(
    (
        "preset",
        "ranks",
        "launcher",
        "device",
        "backend",
        "budget",
        "precision",
        "launches",
        "visits",
        "seed",
        "timeout",
        "slow",
        "slow_link",
        "join_timeout",
        "one_launch",
        "launch_seconds",
    )
)
_IMPORTED = frozenset(
    (
        "agg_iters",
        "aggregated",
        "average",
        "blocking",
        "check",
        "cta_policy",
        "cudagraph",
        "datatype",
        "device_cta_count",
        "device_implementation",
        "graph",
        "is_blocking",
        "iterations",
        "iters",
        "local_register",
        "maxbytes",
        "memory_report",
        "minbytes",
        "ngpus",
        "nthreads",
        "op",
        "parallel_init",
        "per_iter_skip",
        "per_iter_timing",
        "report_cputime",
        "report_timestamps",
        "root",
        "run_cycles",
        "stepbytes",
        "stepfactor",
        "stream_null",
        "unalign",
        "warmup_iters",
    )
)
"""Options of other tools, as importers record them."""
_SWITCHES = frozenset(("allow_unlike", "busy", "profile", "plan_only"))
_FLAGS: Mapping[str, str] = {
    "-o": "output", "--set": "settings", "--case": "cases",
    **{f"--{name.replace('_', '-')}": name for name in (*PLACES, *_PLAIN, *_SWITCHES, "skip", "label", "pair")},
}  # fmt: skip
UNLISTED = ""
"""Stands for an option that is on no list; the word behind it is taken for its value."""
_ID = re.compile(r"\w+/\w+(\[[^/\\]*\])?")
_WORD = re.compile(r"[\w.,:+=%*-]{1,200}")


def without_path(text: str) -> str:
    """The text, or `(removed)` for a path; a case's id, one slash and parameters behind it, is none."""
    return REMOVED if re.search(r"[/\\]", text) and not _ID.fullmatch(text) else text


def shared_options(options: Mapping[str, Any], clean: Clean, label: Clean) -> tuple[dict[str, Any], list[str]]:
    """The options of a plan that a copy keeps, and the names of those that it does not."""
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in options.items():
        if name in PLACES:
            kept[name] = REMOVED
        elif name in _PLAIN | _SWITCHES | _NAMES | _IMPORTED:
            kept[name] = _clean_value(value, clean)
        elif name == "label":
            kept[name] = label(str(value))
        elif name == "pair" and isinstance(value, Mapping):
            kept[name] = _shared_pair(value, clean)
        else:
            dropped.append(name)
    return kept, dropped


def _clean_value(value: Any, clean: Clean) -> Any:
    if isinstance(value, str):
        return clean(without_path(value))
    if isinstance(value, list | tuple):
        return [_clean_value(item, clean) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else REMOVED


def _shared_pair(pair: Mapping[str, Any], clean: Clean) -> dict[str, Any]:
    identity, side = str(pair.get("id", "")), str(pair.get("side", ""))
    return {
        "id": identity if re.fullmatch(r"[0-9a-f]{4,32}", identity) else REMOVED,
        "side": side if side in ("a", "b") else REMOVED,
        "setting": shared_setting(str(pair.get("setting", "")), clean) or REMOVED,
    }


def shared_setting(setting: str, clean: Clean) -> str:
    """The setting of one side of `bench ab`: variables, options, and an interpreter, which is a place."""
    try:
        words = shlex.split(setting)
    except ValueError:
        return REMOVED
    start = next((number for number, word in enumerate(words) if word.startswith("-") or word == "python"), len(words))
    variables = [_shared_variable(word, clean) for word in words[:start]]
    rest = words[start:]
    if "python" in rest[-2:-1]:
        return " ".join([*variables, *shared_command(rest[:-2], clean, clean), "python", REMOVED])
    return " ".join([*variables, *shared_command(rest, clean, clean)])


def _shared_variable(word: str, clean: Clean) -> str:
    name, equals, value = word.partition("=")
    if not equals:
        return clean(word) if _WORD.fullmatch(word) else REMOVED
    shared = shared_value(name, value, clean)
    return f"{clean(name)}={REMOVED if shared is None else shared}"


def shared_value(name: str, value: str, clean: Clean) -> str | None:
    """The value of a variable in a copy; `(removed)` if it names an interface, a device, an address or a file.

    None for a variable that no file keeps.
    """
    form, kept = form_of(name), kept_value(name, value)
    if form is None or kept is None:
        return None
    is_number_list = re.fullmatch(r"[\d,\s.:-]*|all|none|void|NoDevFiles", kept) is not None
    names_nothing = not form.names_places or (form.name == "devices" and is_number_list)
    return kept if kept in (SET, REMOVED) or (names_nothing and clean(kept) == kept) else REMOVED


def shared_command(words: Sequence[str], clean: Clean, label: Clean) -> list[str]:
    """The words of a command in a copy."""
    kept: list[str] = []
    option: str | None = None  # the one whose value comes next
    for word in map(str, words):
        flag, equals, value = word.partition("=")
        if option is not None:
            kept.append(_shared_word(option, word, clean, label))
            option = None
        elif word.startswith("-o") and not word.startswith("--") and len(word) > 2:
            kept.append(f"-o{REMOVED}")
        elif word == "--" or re.fullmatch(r"-?\d+(\.\d+)?", word):
            kept.append(word)
        elif word.startswith("-"):
            name = _FLAGS.get(flag)
            shown = (
                flag
                if name is not None or (re.fullmatch(r"--?[a-z][a-z-]{0,30}", flag) and clean(flag) == flag)
                else REMOVED
            )
            kept.append(f"{shown}={_shared_word(name or UNLISTED, value, clean, label)}" if equals else shown)
            option = None if equals or name in _SWITCHES else name or UNLISTED
        else:
            kept.append(_shared_word("suites", word, clean, label))
    return kept


def _shared_word(option: str, word: str, clean: Clean, label: Clean) -> str:
    if option == "label":
        return label(word)
    if option == "suites" and "/" in word:  # a case's id is none of them
        return REMOVED
    if option in _NAMES | _PLAIN:
        return clean(without_path(word))
    return REMOVED
