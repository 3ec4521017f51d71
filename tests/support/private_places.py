"""A result with a text put into every kind of place that a stranger's text can reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.results import Record, end, header, measurement, not_ok

CASE = "collective/all_reduce[num_bytes=1000000]"


def _variable(name: str) -> Callable[[Record, Record, Record, Record, str], None]:
    def put(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
        head["environment"]["variables"][name] = text

    return put


def _variable_name(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["environment"]["variables"][f"NCCL_{text}"] = "1"


def _command(*words: str) -> Callable[[Record, Record, Record, Record, str], None]:
    def put(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
        head["command"] = ["bench", "run", *(word.replace("TEXT", text) for word in words)]

    return put


def _options(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["plan"]["options"] = {"settings": [f"source={text}"], "suites": [text], "output": text, "stranger": text}


def _label(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["label"] = head["plan"]["label"] = text


def _reason(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    failed["reason"] = f"rank 1 (node07), measure: RuntimeError: cannot log in with {text} (mine.py, line 3)"


def _notes(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    case["notes"] = [f"fetched with {text}", text]


def _host(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["environment"]["hosts"] = {text: {"hostname": text, "kernel": "5.15.0"}}
    for rank in head["environment"]["ranks"]:
        rank["host"] = text
    case["disturbance"] = {"hosts": [{"host": text, "steal_share": 0.25}]}


def _path(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["plan"]["suites"][0]["reference"] = f"/data/{text}/mine.py"
    case["profile"] = {"folder": f"/data/{text}", "files": [f"{text}.json.gz"]}


def _doctor(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    finding = {"level": "warn", "what": f"proxy {text}", "value": text, "remedy": f"unset {text}"}
    head["doctor"] = {"host": "node07", "findings": [finding]}


def _other_work(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    value = f"other programs use 1.2 of 2 cores (load 1.4: train {text} 1.0 cores)"
    finding = {"level": "warn", "what": "other programs on node07", "value": value, "remedy": "stop them"}
    head["doctor"] = {"host": "node07", "findings": [finding]}


def _suite_texts(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["plan"]["suites"][0] |= {"summary": text, "metrics": {"mine": [text, "higher", text]}}
    case["per_rank"] = [{"extra": text, "nested": {"list": [text]}}]
    case["tables"] = {text: {"title": text, "columns": [text], "rows": [[text]], "notes": [text]}}


def _parameters(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    case["params"]["source"] = text
    case["case"] = f"collective/all_reduce[source={text}]"
    head["plan"]["cases"] = [{"suite": "collective", "id": case["case"], "params": case["params"]}]


def _setting(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    head["plan"]["options"]["pair"] = {
        "id": "0123abcd",
        "side": "a",
        "setting": f"MY_VARIABLE='{text}' --label '{text}'",
    }


def _end(head: Record, case: Record, failed: Record, last: Record, text: str) -> None:
    last |= {"status": "failed", "exit_code": 3, "reason": f"rank 0 raised: {text}"}


PLACES: Mapping[str, Callable[[Record, Record, Record, Record, str], None]] = {
    "a listed variable": _variable("NCCL_ALGO"),
    "a variable of a family": _variable("NCCL_NET_URL"),
    "a variable's name": _variable_name,
    "--label": _command("--label", "TEXT"),
    "--set": _command("--set", "source=TEXT"),
    "an unknown option": _command("--stranger=TEXT", "--other", "TEXT"),
    "a word of the command": _command("TEXT"),
    "options": _options,
    "label": _label,
    "reason": _reason,
    "notes": _notes,
    "host": _host,
    "path": _path,
    "doctor": _doctor,
    "other work": _other_work,
    "texts of the suite": _suite_texts,
    "parameters": _parameters,
    "a side of bench ab": _setting,
    "end": _end,
}
"""Place -> what puts a text there, in a header, a case, a failed case and an end."""


def records_with(place: str, text: str) -> list[dict[str, Any]]:
    """The lines of a result with a text in one place."""
    head, case, failed, last = header(), measurement(CASE), not_ok("collective/barrier", "failed", "no"), end()
    PLACES[place](head, case, failed, last, text)
    return [head, case, failed, last]
