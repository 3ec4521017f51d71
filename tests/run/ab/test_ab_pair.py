"""Pairs of launches: how many, in which order, and how a file says of which pair it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.measure.planning.options import RunOptions
from bench.measure.planning.planner import without_pair
from bench.measure.planning.presets import PRESETS
from bench.records.anonymize import anonymize_result
from bench.records.file import Result, load
from bench.records.saved_plan import Pair, are_paired, pair_of, parse_pair
from bench.run.ab.ab_sides import PairSchedule, order, parse_pair_request, schedule
from tests.support.plans import a_plan
from tests.support.results import end, header, measurement, save

PLAIN = Pair("0123abcd", "a", "unchanged")


def test_pairs_without_a_budget() -> None:
    # Smoke gives a launch 54 s, standard 460 s for three; full has no limit.
    smoke, standard, full = (PRESETS[name].budget_seconds for name in ("smoke", "standard", "full"))
    assert smoke is not None
    assert standard is not None
    assert full is None
    assert schedule("smoke", parse_pair_request(None, None), ()) == PairSchedule(10, smoke, None)
    assert schedule("smoke", parse_pair_request(None, None), ()).most_seconds == 20 * smoke
    assert schedule("standard", parse_pair_request(4, None), ()).side_seconds == pytest.approx(4 * standard / 3)
    assert schedule("full", parse_pair_request(3, None), ()) == PairSchedule(3, None, None)
    assert schedule("full", parse_pair_request(3, None), ()).most_seconds is None
    for pairs, budget, said in ((1, None, "--pairs 1"), (None, "soon", "--budget soon"), (None, "0s", "above 0")):
        with pytest.raises(BenchError, match=said):
            parse_pair_request(pairs, budget)


def test_the_order_turns_round_from_pair_to_pair() -> None:
    assert "".join("ab"[number] for pair in range(4) for number in order(pair)) == "abbaabba"


def test_a_pair_goes_through_a_command_line_and_a_file(tmp_path: Path) -> None:
    b = Pair("0123abcd", "b", 'X="y z" --set é=1')
    assert parse_pair(b.to_text()) == b
    for text in ("", "{", "[]", "{}", '{"id": "1", "side": "c", "setting": "x"}', '{"id": 1, "side": "a"}'):
        with pytest.raises(BenchError, match="--pair"):
            parse_pair(text)

    def file(name: str, pair: Pair | None) -> Result:
        options = {} if pair is None else {"pair": json.loads(pair.to_text())}
        return load(save(tmp_path / name, header(plan={"options": options}), measurement(), end()))

    one, other, plain = file("a.jsonl", PLAIN), file("b.jsonl", b), file("plain.jsonl", None)
    stranger = file("c.jsonl", Pair("ffff", "b", "unchanged"))
    assert (pair_of(one), pair_of(other), pair_of(plain)) == (PLAIN, b, None)
    assert are_paired(one, other)
    assert not any(are_paired(one, result) for result in (one, plain, stranger))
    # A published copy is still one of its pair, without the path of the interpreter.
    private = file("d.jsonl", Pair("0123abcd", "b", "python /home/someone/pr/bin/python"))
    published = load(save(tmp_path / "public.jsonl", *anonymize_result(private)))
    assert pair_of(published) == Pair("0123abcd", "b", "python (removed)")


def test_only_the_run_that_makes_a_side_records_its_pair() -> None:
    recorded = RunOptions(preset="smoke", one_launch=0, save_as=Path("x.jsonl"), pair=PLAIN.to_text()).to_record()
    assert recorded["pair"] == {"id": "0123abcd", "side": "a", "setting": "unchanged"}
    assert not {"one_launch", "save_as"} & set(recorded)
    assert "pair" not in RunOptions(preset="smoke").to_record()
    assert without_pair(a_plan(options=recorded)) == a_plan(options=RunOptions(preset="smoke").to_record())
