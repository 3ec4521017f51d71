from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from bench.cli import call as in_process
from bench.records import anonymize
from bench.records.anonymize import Removed, anonymize_result
from bench.records.file import Result, load
from bench.records.lines import decoding
from bench.records.lines.decoding import plain
from bench.records.lines.kinds import Header, Line, Measurement
from bench.records.privacy import share_rules
from bench.records.privacy.recorded import mask_command
from bench.records.privacy.share_rules import RULE_OF, RULES, Rule
from tests.support.command import call
from tests.support.private_names import NAMES
from tests.support.private_places import PLACES, records_with
from tests.support.results import end, header, measurement, not_ok, save
from tests.support.secret_table import HARMLESS, SECRETS
from tests.support.strings import all_strings

DATA = Path(__file__).parents[2] / "data"
SHARED_FILES = sorted([*DATA.glob("*.jsonl"), *(Path(__file__).parents[3] / "results").glob("*/**/*kernels.jsonl")])


def _record_types() -> Iterator[type[msgspec.Struct]]:
    """Every record type that a line can have in it."""
    seen: set[type] = set()
    waiting: list[Any] = [inspect.type_info(kind) for kind in decoding.KINDS.values()]
    while waiting:
        kind = waiting.pop()
        if isinstance(kind, inspect.StructType):
            if kind.cls not in seen:
                seen.add(kind.cls)
                yield kind.cls
                waiting += [field.type for field in kind.fields]
            continue
        for name in ("type", "types", "item_type", "item_types", "key_type", "value_type"):
            inner = getattr(kind, name, None)
            waiting += inner if isinstance(inner, tuple) else [inner] if isinstance(inner, inspect.Type) else []


def result_of(lines: Sequence[Line]) -> Result:
    """A result in memory, as `load` makes it."""
    header = lines[0]
    assert isinstance(header, Header)
    return Result(
        path=Path("x.jsonl"),
        header=header,
        measurements=tuple(line for line in lines if isinstance(line, Measurement)),
        environment=header.environment,
        lines=tuple(lines),
    )


def share(lines: list[dict[str, Any]], removed: Removed | None = None) -> list[Line]:
    return list(anonymize_result(result_of([decoding.structure(line) for line in lines]), removed))


def again(lines: list[Line]) -> Result:
    """The shared lines as they are read from their file."""
    return result_of([decoding.decode(decoding.encode(line)) for line in lines])


def texts(lines: list[Line]) -> str:
    return "\n".join(text for line in lines for text in all_strings(plain(line)))


def test_every_field_of_the_record_types_has_one_rule_and_no_other_has() -> None:
    fields = {f"{kind.__name__}.{f.name}" for kind in _record_types() for f in msgspec.structs.fields(kind)}
    assert fields == set(RULE_OF)
    assert len(RULE_OF) == sum(len(names.split()) for rules in RULES.values() for names in rules.values())


def test_figures_have_no_text_of_their_own() -> None:
    """A field that is kept unseen is a number, one of a few words, or records with rules of their own."""
    loose = []
    for kind in _record_types():
        for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
            if RULE_OF[f"{kind.__name__}.{field.name}"] is Rule.FIGURES and _has_loose_text(field.type):
                loose.append(f"{kind.__name__}.{field.name}")
    assert loose == []


def _has_loose_text(kind: Any) -> bool:
    if isinstance(kind, inspect.StrType | inspect.DictType):
        return True
    inner = [getattr(kind, name, ()) for name in ("type", "types", "item_type", "item_types")]
    flat = [each for one in inner for each in (one if isinstance(one, tuple) else (one,))]
    return not isinstance(kind, inspect.StructType) and any(_has_loose_text(each) for each in flat)


def test_a_field_without_a_rule_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RULE_OF, "Measurement.energy")  # type: ignore[arg-type]
    anonymize._left_out.cache_clear()
    try:
        removed = Removed()
        _, case = share([header(), measurement(energy={"joules": 3.5})], removed)
        assert isinstance(case, Measurement)
        assert case.energy is None
        assert removed.fields["Measurement.energy"] == 1
        assert "Measurement.energy 1" in removed.lines()[-1]
    finally:
        anonymize._left_out.cache_clear()
    assert share_rules.RULE_OF is RULE_OF


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_left_in_any_place_of_a_shared_file(place: str) -> None:
    left = [name for name, (text, part) in SECRETS.items() if part in texts(share(records_with(place, text)))]
    assert left == []


@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("host", "a variable's name")])
def test_no_name_is_left_in_any_place_of_a_shared_file(place: str) -> None:
    left = []
    for name, (text, part) in NAMES.items():
        shared = share(records_with(place, text))
        if part.lower() in texts(shared).lower():
            left.append(name)
        saved = again(shared)
        assert list(map(decoding.encode, anonymize_result(saved))) == list(map(decoding.encode, shared)), name
    assert left == []
    assert len(NAMES) >= 50


def test_harmless_texts_are_shared_as_they_are() -> None:
    reasons = [not_ok(f"mine/case{number}", "failed", text) for number, text in enumerate(HARMLESS)]
    lines = [header(), measurement(notes=list(HARMLESS)), *reasons]
    _, case, *failed = share(lines)
    assert isinstance(case, Measurement)
    assert case.notes == list(HARMLESS)
    assert [line.reason for line in failed if isinstance(line, Measurement)] == list(HARMLESS)


@pytest.mark.parametrize("path", SHARED_FILES, ids=lambda path: path.name)
def test_numbers_and_ids_stay_and_a_copy_of_a_copy_is_equal(path: Path) -> None:
    original = load(path)
    copy = again(list(anonymize_result(original)))
    for before, after in zip(original.measurements, copy.measurements, strict=True):
        one, two = plain(before), plain(after)
        for name in (
            "case",
            "params",
            "variants",
            "derived",
            "spans",
            "traced_call_ns",
            "check",
            "work",
            "stop",
            "notes",
        ):
            assert one.get(name) == two.get(name), name
    assert copy.planned_cases() == original.planned_cases()
    assert list(map(decoding.encode, anonymize_result(copy))) == list(map(decoding.encode, copy.lines))


def test_hosts_get_one_number_each_whatever_their_spelling() -> None:
    notes = ["node07, NODE07.lab.example and node07.cluster.local; node08 and NODE_08; gpu-node-9", "zeus", "host9"]
    _, case = share([header(), measurement(notes=notes)])
    assert isinstance(case, Measurement)
    assert case.notes == ["host0, host0 and host0; host1 and host1; host2", "zeus", "host3"]


def test_cases_that_differ_in_what_is_taken_out_stay_two() -> None:
    cases = [f"mine/read[folder=/data/{name}]" for name in ("alice", "bob")]
    lines = share([header(), *(measurement(case, launch=0) for case in cases)])
    ids = [line.case for line in lines if isinstance(line, Measurement)]
    assert ids == ["mine/read[folder=(removed)]", "mine/read[folder=(removed-2)]"]
    assert [line.case for line in again(lines).measurements] == ids
    assert [line.case for line in anonymize_result(again(lines)) if isinstance(line, Measurement)] == ids


def test_labels_are_numbered_and_defaults_stay() -> None:
    for label, shown in (("acme night", "label0"), ("run", "run"), ("x-a", "label0-a"), ("node07", "host0")):
        private = header(label=label, command=["run", "--label", label])
        head, case = share([private, measurement(notes=[f"of {label}"])])
        assert isinstance(head, Header)
        assert (head.label, head.command) == (shown, ["run", "--label", shown])
        assert "acme" not in texts([case])


def test_the_command_keeps_words_of_listed_options_alone() -> None:
    words = [
        "bench", "run", "collective", "./mine.py", "--ranks", "2", "--precision=2%", "--set", "num_bytes=4", "--busy",
        "--stranger", "hunter", "--other=x", "-o", "out", "--pair", '{"x": 1}', "--case", "mine/a[x=1]", "--seed", "-3",
    ]  # fmt: skip
    head, *_ = share([header(command=words)])
    assert isinstance(head, Header)
    assert head.command == [
        "bench", "run", "collective", "(removed)", "--ranks", "2", "--precision=2%", "--set", "num_bytes=4", "--busy",
        "--stranger", "(removed)", "--other=(removed)", "-o", "(removed)", "--pair", "(removed)", "--case",
        "mine/a[x=1]", "--seed", "-3",
    ]  # fmt: skip


def test_names_of_other_programs_are_left_out() -> None:
    rest = "short-lived or unseen processes 0.5 cores)"
    value = (
        f"other programs use 1.5 of 2 cores (load 1.6: acme_train 1.0 cores, {rest}; acme (4711) on GPU 0 is at work"
    )
    findings = [{"level": "warn", "what": "other programs on node07", "value": value}]
    head, *_ = share([header() | {"doctor": {"host": "node07", "findings": findings}}])
    assert isinstance(head, Header)
    assert head.doctor is not None
    assert head.doctor.host == "host0"
    assert head.doctor.findings[0].what == "other programs on host0"
    assert head.doctor.findings[0].value == (
        f"other programs use 1.5 of 2 cores (load 1.6: a program 1.0 cores, {rest}; a program on GPU 0 is at work"
    )


_PIECES = st.one_of(
    st.sampled_from([text for text, _ in SECRETS.values()] + [text for text, _ in NAMES.values()]),
    st.sampled_from(HARMLESS),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20),
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(
    place=st.sampled_from(["reason", "notes", "label", "doctor", "end", "options", "a word of the command", "path"]),
    pieces=st.lists(_PIECES, min_size=1, max_size=4),
)
def test_a_copy_of_a_copy_is_equal_whatever_the_texts(place: str, pieces: list[str]) -> None:
    shared = share(records_with(place, "\n".join(pieces)))
    twice = list(anonymize_result(again(shared)))
    assert list(map(decoding.encode, twice)) == list(map(decoding.encode, shared))
    found = texts(shared)
    for piece in pieces:
        secret = next((part for text, part in SECRETS.values() if text == piece), None)
        assert secret is None or secret not in found


def test_the_command_says_what_it_left_out_and_no_form_of_the_copy_leaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    token = SECRETS["GitHub, personal"][0]
    private = save(
        tmp_path / "private.jsonl",
        header(label="acme", command=["bench", "run", "--label", "acme", "-o", "/home/qwilson/out"]),
        measurement(notes=[f"fetched with {token} by /home/qwilson/get", "from login3.corp.example.com"]),
        not_ok("collective/barrier", "failed", "rank 1 (node07), measure: OSError: 192.168.14.7 refused qwilson"),
        end("failed", 3),
    )
    copy = tmp_path / "public.jsonl"
    done = call("show", str(private), "--share", "-o", str(copy))
    assert done.returncode == 0, done.stderr
    assert "numbered: hosts 2, labels 1" in done.stderr
    assert "network addresses 1" in done.stderr
    assert "paths 1" in done.stderr
    assert "secrets 1" in done.stderr
    assert "fields left out: HostFacts.hostname 1" in done.stderr
    copies = tmp_path / "copies"
    copies.mkdir()
    for form in ("table", "json", "csv", "markdown"):
        assert in_process(["show", str(copy), "--format", form]) == 0
    for ending in ("csv", "md", "json", "continuous.json", "bmf.json", "pytest-benchmark.json"):
        assert in_process(["show", str(copy), "-o", str(copies / f"out.{ending}")]) == 0
    for ending in ("html", "md"):
        assert in_process(["report", str(copy), "-o", str(copies / f"report.{ending}")]) == 0
    shown = capsys.readouterr()
    files = [path for path in copies.rglob("*") if path.is_file()]
    assert len(files) >= 8
    for form in [shown.out, shown.err, *(path.read_bytes().decode("utf-8", "replace") for path in [*files, copy])]:
        assert [word for word in (token, "qwilson", "login3", "node07", "192.168", "acme") if word in form] == []


def test_4096_ranks_are_shared_in_seconds(tmp_path: Path) -> None:
    head = header(4096)
    names = [f"node{number:04d}" for number in range(512)]
    head["environment"]["hosts"] = {name: {"hostname": name} for name in names}
    for rank in head["environment"]["ranks"]:
        rank["host"] = names[rank["rank"] // 8]
    cases = [not_ok(f"mine/case{number}", "failed", f"rank 7 (node{number:04d}), measure: no") for number in range(30)]
    saved = load(save(tmp_path / "many.jsonl", head, *cases))
    began = time.process_time()
    lines = list(anonymize_result(saved))
    assert time.process_time() - began < 20  # about one second, without other work beside it
    assert json.loads(decoding.encode(lines[-1]))["reason"] == "rank 7 (host29), measure: no"


def test_a_program_that_holds_a_port_is_named_without_secrets_and_not_shared() -> None:
    words = mask_command(["/usr/bin/python3", "acme.py", "--token", "hunter2", "DB_PW=x"])
    assert words == ["/usr/bin/python3", "acme.py", "--token", "(masked)", "DB_PW=(masked)"]
    reason = f"MASTER_PORT=29500 is taken on node07 by python3 (process 12: {' '.join(words)}...); end that process"
    *_, last = share([header(), end("failed", 2) | {"reason": reason}])
    assert plain(last)["reason"] == "MASTER_PORT=29500 is taken on host0 by a program; end that process"
