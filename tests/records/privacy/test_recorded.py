from __future__ import annotations

from typing import Any

import pytest

from bench.errors import BenchError
from bench.measure.launch import other_work
from bench.records.lines import decoding
from bench.records.lines.decoding import plain, structure
from bench.records.lines.header import PlannedCase
from bench.records.privacy.recorded import mask_command, mask_label, refuse_secret_parameters, without_secrets
from tests.support.private_places import PLACES, records_with
from tests.support.results import end, header, measurement
from tests.support.secret_table import HARMLESS, SECRETS
from tests.support.strings import all_strings


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_left_in_any_place_of_a_recorded_file(place: str) -> None:
    left = []
    for name, (text, part) in SECRETS.items():
        lines = [structure(record) for record in records_with(place, text)]
        assert any(part in found for line in lines for found in all_strings(plain(line))), name
        recorded = [without_secrets(line) for line in lines]
        left += [name for line in recorded for found in all_strings(plain(line)) if part in found]
        assert [decoding.decode(decoding.encode(line)) for line in recorded], name
    assert left == []
    assert len(PLACES) >= 12


@pytest.mark.parametrize("place", ["reason", "notes", "doctor", "texts of the suite", "label", "a word of the command"])
def test_harmless_texts_are_recorded_as_they_are(place: str) -> None:
    for text in HARMLESS:
        lines = [structure(record) for record in records_with(place, text)]
        assert list(map(without_secrets, lines)) == lines


def test_a_line_without_a_secret_is_not_copied() -> None:
    line = structure(measurement(notes=["4 MiB"], spans=[[0, 0, "f", None, None, 1, 2]] * 2, traced_call_ns=[[3], [3]]))
    assert without_secrets(line) is line
    last = structure(end())
    assert without_secrets(last) is last


def test_names_that_were_masked_are_still_names_and_two() -> None:
    tokens = [SECRETS["Hugging Face"][0], SECRETS["Groq"][0]]
    record = measurement(derived=dict.fromkeys(tokens, 1.0), metrics={token: ["s", "lower"] for token in tokens})
    masked = plain(without_secrets(structure(record)))
    assert list(masked["derived"]) == list(masked["metrics"]) == ["masked", "masked-2"]
    assert structure(masked)


@pytest.mark.parametrize(
    ("words", "masked"),
    [
        (["run", "--password", "hunter2", "--ranks", "2"], ["run", "--password", "(masked)", "--ranks", "2"]),
        (["run", "--api-key=abc"], ["run", "--api-key=(masked)"]),
        (["run", "DB_PW=abc", "MY_TOKEN=abc"], ["run", "DB_PW=(masked)", "MY_TOKEN=(masked)"]),
        (["ab", "--a", "URL=http://u:p@h/x"], ["ab", "--a", "URL=http://(masked)@h/x"]),
        (["run", "--set", "num_tokens=8192", "-o", "a b"], ["run", "--set", "num_tokens=8192", "-o", "a b"]),
        (["run", "--token", "--ranks", "2"], ["run", "--token", "--ranks", "2"]),
    ],
)
def test_words_of_a_command(words: list[str], masked: list[str]) -> None:
    assert mask_command(words) == masked
    assert mask_command(masked) == masked


def test_a_label_is_masked_before_it_names_the_file() -> None:
    assert mask_label("night run") == "night run"
    assert mask_label(SECRETS["Hugging Face"][0]) == "(masked)"


@pytest.mark.parametrize(("name", "value"), [("source", SECRETS["GitHub, personal"][0]), ("password", "hunter2")])
def test_a_secret_parameter_is_refused_and_not_repeated(name: str, value: str) -> None:
    case = PlannedCase("mine", f"mine/run[{name}={value}]", {name: value})
    with pytest.raises(BenchError, match=f"parameter {name} looks like a secret") as caught:
        refuse_secret_parameters([case])
    assert value not in str(caught.value)
    refuse_secret_parameters([PlannedCase("mine", "mine/run[tokens=5]", {"tokens": 5, "path": "/data/x", "on": True})])


def test_a_secret_in_the_name_of_another_program_is_masked() -> None:
    token = SECRETS["Hugging Face"][0]
    work = other_work.OtherWork("node07", 2, 1.5, programs=((f"train --token={token}", 1.5),))
    finding = other_work.to_finding(work)
    doctor: dict[str, Any] = {
        "host": "node07",
        "findings": [{"level": "warn", "what": finding.what, "value": finding.value}],
    }
    recorded = without_secrets(structure(header() | {"doctor": doctor}))
    assert token in finding.value
    assert token not in str(plain(recorded))
    assert "1.5 cores" in str(plain(recorded))
