"""The answer of `bench predict`: figures of the rows, on one screen, and a remedy for every remark."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from bench.cli import call
from bench.predict.progress import AGAIN_SECONDS, FIRST_SECONDS, SearchProgress
from bench.predict.wording import show_count, show_duration, show_period, show_range, show_usd
from tests import ROOT

GPU = ROOT / "results/gpu/h100"
MEASURED = ("--from", str(GPU / "h100-steps.jsonl"), "--from", str(GPU / "h100-kernels.jsonl"), "--nic-gbit", "400")
SPLIT = ("--tp", "8", "--cp", "1", "--microbatch", "1")
COMMANDS = [
    ("--model", "llama3-405b", "--gpus", "24000,100000", *SPLIT, "--batch", "8192", "--price", "2.95", "--own", ""),
    ("--model", "llama3-8b", "--gpus", "64", "--sweep", "gpus=8..4096", "--own", "", "--spot", "--preemptions", "0.1"),
    ("--model", "llama3-8b", "--gpus", "64", *MEASURED),
    ("--model", "llama3-70b", "--accelerator", "H100=512,B200=256", "--batch", "1024", "--pp", "4"),
    ("--model", "llama3-8b", "--gpus", "8,16,32,64", "--tp", "2"),
]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert call(["predict", *arguments]) == 0
    return capsys.readouterr().out


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(said(capsys, *arguments, "--format", "json"))
    return document


def of_kind(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [finding for finding in document["findings"] if finding["kind"] == kind]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_the_screen_fits_and_says_once_that_it_is_predicted(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = said(capsys, *arguments).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    everything = said(capsys, *arguments, "--all").splitlines()
    assert max(map(len, everything)) <= 100
    assert everything[: len(lines)] == lines
    assert "\n".join(everything).lower().count("predicted") == 1


def test_figures_of_the_answer_are_those_of_the_money_table(capsys: pytest.CaptureFixture[str]) -> None:
    document = as_json(capsys, *COMMANDS[0])
    answers = [finding["text"] for finding in of_kind(document, "answer")]
    assert len(answers) == len(document["rows"]) == 2
    for text, row in zip(answers, document["rows"], strict=True):
        rent, own = row["predicted_money"]
        assert text.startswith(f"{row['devices']:,} x H100: {show_duration(86400 * rent['days'])}, ")
        assert f"{show_usd(rent['run_usd'])} rented | {show_usd(own['run_usd']).removesuffix(' USD')} of a " in text
        assert own["capital_usd"] == pytest.approx(row["devices"] * 30000 * 1.5)
        assert f"of a {show_usd(own['capital_usd'])} purchase, if 90% busy for 4 years" in text
        assert rent["capital_usd"] is None
        assert row["predicted_days"] == pytest.approx(rent["days"])
    figures = {finding["name"]: finding for finding in of_kind(document, "figure")}
    for row in document["rows"]:
        best, label = row["predicted"], f", {row['devices']:,}"
        assert figures[f"MFU{label}"]["share"] == pytest.approx(best["mfu"])
        assert figures[f"memory{label}"]["value"] == pytest.approx(best["memory_gb"] * 1e9)
        assert figures[f"failures{label}"]["value"] == pytest.approx(1 - row["predicted_money"][0]["goodput"])
        time = figures[f"time{label}"]
        assert time["low"] < time["value"] < time["high"]
        assert time["high"] / time["value"] == pytest.approx(best["step_seconds_high"] / best["step_seconds"])


def test_the_purchase_stands_in_the_money_table_and_a_step_is_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, "--model", "llama3-8b", "--gpus", "64", "--tp", "2", "--own", "", "--all")
    money = out.partition("\nMoney\n")[2]
    assert "purchase," in money.splitlines()[0]  # the head goes on below itself
    assert "2,880,000" in out  # 64 x 30,000 USD x 1.5
    assert len([line for line in out.splitlines() if line.startswith("step ")]) == 1


def test_every_remark_has_a_remedy_and_tight_memory_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    document = as_json(capsys, "--model", "llama3-8b", "--gpus", "64")
    (tight,) = [finding for finding in of_kind(document, "stands_out") if "tight" in finding["text"]]
    left = 1 - document["rows"][0]["predicted"]["memory_gb"] / 80
    assert 0 < left < 0.1
    assert f"{100 * left:.2g}% left" in tight["text"]
    assert all(finding["remedy"] for finding in of_kind(document, "stands_out"))
    roomy = as_json(capsys, "--model", "llama3-8b", "--gpus", "64", "--memory-gb", "400")
    assert not [finding for finding in of_kind(roomy, "stands_out") if "tight" in finding["text"]]


def test_a_quicker_restart_loses_what_the_remark_says(capsys: pytest.CaptureFixture[str]) -> None:
    job = ("--model", "llama3-405b", "--gpus", "100000", *SPLIT)
    (remark,) = [f for f in of_kind(as_json(capsys, *job), "stands_out") if "lost to failures" in f["text"]]
    assert remark["remedy"].endswith("try --restart 120s")
    (figure,) = [f for f in of_kind(as_json(capsys, *job, "--restart", "120s"), "figure") if f["name"] == "failures"]
    assert f"would lose {figure['text'].removesuffix(' lost')}:" in remark["remedy"]


def test_a_size_that_does_not_fit_is_said_beside_one_that_does(capsys: pytest.CaptureFixture[str]) -> None:
    document = as_json(capsys, "--model", "llama3-405b", "--gpus", "8,4096", *SPLIT)
    assert [row["devices"] for row in document["rows"]] == [4096]
    assert document["failed"][0]["devices"] == 8
    fits, fails = (finding["text"] for finding in of_kind(document, "answer"))
    assert fits.startswith("4,096 x H100: ")
    assert fails.startswith("llama3-405b on 8 H100-SXM-80GB: no split fits into 80 GB")
    number = fails.rpartition("fits on ")[2].removesuffix(" devices")
    assert call(["predict", "--model", "llama3-405b", "--gpus", number.replace(",", ""), *SPLIT]) == 0


def test_without_a_price_the_answer_says_how_to_give_one(capsys: pytest.CaptureFixture[str]) -> None:
    out = said(
        capsys, "--model", "llama3-8b", "--gpus", "64", "--accelerator", "MI300X", "--nic-gbit", "400", "--tp", "2"
    )
    assert out.splitlines()[0].endswith("days; no price is known: --price USD")


def test_money_times_and_numbers_are_said_as_people_say_them() -> None:
    assert [show_usd(usd) for usd in (76.4e6, 4.5e9, 999.6e6, 950, 113.9e6)] == [
        "76 M USD", "4.5 bn USD", "1.0 bn USD", "950 USD", "114 M USD",
    ]  # fmt: skip
    assert [show_duration(days * 86400) for days in (45.0, 9.44, 0.4, 1100)] == [
        "45 days", "9.4 days", "9.6 hours", "3.0 years",
    ]  # fmt: skip
    assert show_range(37 * 86400, 55 * 86400) == "37 to 55 days"
    assert show_range(36 * 3600, 3 * 86400) == "36 hours to 3.0 days"
    assert [show_period(seconds) for seconds in (7560, 168, 59.7)] == ["2.1 h", "2.8 min", "60 s"]
    assert [show_count(number) for number in (15e12, 4.27e6, 540e3, 12)] == ["15 trillion", "4.27 M", "540k", "12"]


class Stream(io.StringIO):
    """A stream that claims to be a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_sign_of_life_comes_within_a_second_and_goes_away(is_terminal: bool) -> None:
    now = [0.0]
    stream = Stream(is_terminal)
    progress = SearchProgress(stream, lambda: now[0])
    progress("early")
    assert stream.getvalue() == ""
    now[0] = FIRST_SECONDS
    assert FIRST_SECONDS < 0.7
    progress("splits: 1 of 9")
    now[0] += AGAIN_SECONDS / 2
    progress("too soon")
    now[0] += AGAIN_SECONDS
    progress("splits: 2 of 9")
    progress.close()
    progress("late")
    if is_terminal:
        assert stream.getvalue() == "\rsplits: 1 of 9\x1b[K\rsplits: 2 of 9\x1b[K\r\x1b[K"
    else:
        assert stream.getvalue() == "splits: 1 of 9\n"
