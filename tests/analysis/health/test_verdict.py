"""Is a machine healthy: every rule on results made by hand, the line it ends in, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.analysis.health import verdict
from bench.core import exit_codes
from bench.records.file import load
from tests import ROOT
from tests.support import results
from tests.support.command import call, saved

SUITES = ("compute", "collective", "point_to_point", "tensor_parallel", "soak")
MS = 1_000_000
SOAK = "soak/run[num_bytes=1048576,num_rounds=3,size=1024]"


def _header(num_ranks: int = 8, device: str = "cuda", doctor: Any = "healthy", **plan: Any) -> dict[str, Any]:
    facts = [{"name": name, "reference": name, "digest": "a" * 64, "metrics": {}} for name in SUITES]
    header = results.header(num_ranks=num_ranks)
    header["plan"] |= {"preset": "node", "device_type": device, "world_size": num_ranks, "suites": facts} | plan
    if doctor == "healthy":
        doctor = [("ok", "torch", "2.13")]
    if doctor is not None:
        findings = [{"level": level, "what": what, "value": value, "remedy": ""} for level, what, value in doctor]
        header["doctor"] = {"host": "node7", "findings": findings}
    return header


def _rank_rows(factors: list[float], base: float = 10.0) -> list[list[int]]:
    return [[round(base * MS * factor * (1 + 0.001 * i)) for i in range(6)] for factor in factors]


def _compute(case: int, factors: list[float], **fields: Any) -> dict[str, Any]:
    """A matrix product in which each rank takes so long as its factor says, alone and together."""
    num_ranks = len(factors)
    alone = {
        f"alone_{index}": [[100] * 6 if rank != index else row for rank, row in enumerate(_rank_rows(factors))]
        for index in range(num_ranks)
    }
    name = f"compute/matmul[shape=square,size={case}]"
    derived = fields.pop("derived", {"contention": 1.02})
    return results.measurement(
        name, _rank_rows(factors), others=alone, derived=derived, metrics={"contention": ["x", "lower"]}, **fields
    )


def _soak(num_ranks: int, **derived: Any) -> dict[str, Any]:
    values = {"slowdown": 0.01, "slowdown_low": -0.01, "slowdown_high": 0.02, "hottest_celsius": 71.0} | derived
    units = {name: ["share", "lower"] for name in values}
    return results.measurement(SOAK, _rank_rows([1.0] * num_ranks), derived=values, metrics=units)


def _pairs(slow_links: float | None, tables: Any = None, num_ranks: int = 8) -> dict[str, Any]:
    return results.measurement(
        "point_to_point/one_way[num_bytes=4194304]",
        _rank_rows([1.0] * num_ranks),
        derived={"slow_links": slow_links},
        metrics={"slow_links": ["links", "lower"]},
    ) | ({"tables": tables} if tables else {})


def _records(factors: list[float]) -> list[dict[str, Any]]:
    num = len(factors)
    return [
        *(_compute(case, factors) for case in range(1, 9)),
        results.measurement("collective/all_reduce[num_bytes=1024]", _rank_rows([1.0] * num)),
        _pairs(0.0, num_ranks=num),
        results.measurement("tensor_parallel/mlp[hidden=256]", _rank_rows([1.0] * num)),
    ]


EVEN = [1.0, 1.004, 0.997, 1.002, 0.999, 1.001, 0.996, 1.003]


def _judged(tmp_path: Path, *records: dict[str, Any], header: dict[str, Any] | None = None) -> verdict.Health:
    file = results.save(tmp_path / "node.jsonl", header or _header(), *records, results.end())
    return verdict.judge(load(file))


def test_a_healthy_node(tmp_path: Path) -> None:
    found = _judged(tmp_path, *_records(EVEN), _soak(8))
    assert {rule: outcome.level for rule, outcome in found.outcomes.items()} == {
        "measured": "ok",
        "doctor": "ok",
        "results": "ok",
        "ranks": "ok",
        "pairs": "ok",
        "throttling": "unknown",  # these records know nothing of clocks
        "soak": "ok",
        "contention": "ok",
        "disturbance": "unknown",
    }
    assert found.line() == (
        "Machine: healthy: 7 of 9 rules hold; not judged: disturbance, throttling; 12 of 12 results right"
    )
    assert found.exit_code == exit_codes.OK


def _bad(found: verdict.Health, rule: str) -> str:
    assert found.outcomes[rule].level == "bad", found.outcomes[rule]
    assert found.exit_code == exit_codes.GATE
    assert found.line().startswith("Machine: not healthy: ")
    assert rule in found.line()
    return found.outcomes[rule].figure


def test_a_slow_rank_among_many(tmp_path: Path) -> None:
    factors = [*EVEN[:5], 1.15, *EVEN[6:]]
    figure = _bad(_judged(tmp_path, *_records(factors), _soak(8)), "ranks")
    assert "rank 5" in figure
    assert "slow by its own work in" in figure


def test_a_slow_rank_among_few(tmp_path: Path) -> None:
    found = _judged(tmp_path, *_records([1.0, 1.2]), _soak(2), header=_header(num_ranks=2))
    figure = _bad(found, "ranks")
    assert figure.startswith("rank 1")
    assert "in all of 8 cases, by 20%" in figure
    even = _judged(tmp_path / "even", *_records([1.0, 1.02]), _soak(2), header=_header(num_ranks=2))
    assert even.outcomes["ranks"].level == "ok"


def test_too_few_cases_or_ranks_are_not_judged(tmp_path: Path) -> None:
    few = [*_records([1.0, 1.2])[6:], _soak(2)]
    assert _judged(tmp_path / "a", *few, header=_header(num_ranks=2)).outcomes["ranks"].level == "unknown"
    one = _judged(tmp_path / "b", _soak(1), header=_header(num_ranks=1))
    assert one.outcomes["ranks"] == verdict.RuleOutcome("unknown", "one rank has no siblings")


def test_a_pair_that_stands_out_is_named(tmp_path: Path) -> None:
    columns = ["slow link", "seconds", "seconds of the others", "times as long", "other pairs", "adjusted p"]
    table = {"columns": columns, "rows": [["rank 2 to 5", 0.2, 0.1, 2.0, 54, 1e-5]], "title": "", "notes": []}
    records = [r for r in _records(EVEN) if r["suite"] != "point_to_point"]
    found = _judged(tmp_path, *records, _pairs(1.0, {"stands_out": table}), _soak(8))
    assert _bad(found, "pairs") == "rank 2 to 5 (2x the time)"
    unknown = _judged(tmp_path / "few", *records, _pairs(None), _soak(8))
    assert unknown.outcomes["pairs"].level == "unknown"


@pytest.mark.parametrize(
    ("derived", "level"),
    [
        ({"slowdown_low": 0.08, "slowdown_high": 0.12}, "bad"),
        ({"slowdown_low": 0.01, "slowdown_high": 0.12}, "unknown"),
        ({"slowdown_low": -0.30, "slowdown_high": -0.20}, "ok"),
        ({"slowdown_low": None, "slowdown_high": None}, "unknown"),
    ],
)
def test_a_soak_that_slows_down(derived: dict[str, Any], level: str, tmp_path: Path) -> None:
    found = _judged(tmp_path, *_records(EVEN), _soak(8, **derived))
    assert found.outcomes["soak"].level == level
    assert found.exit_code == (exit_codes.GATE if level == "bad" else exit_codes.OK)


def _clocks(*reasons: str) -> dict[str, Any]:
    ranks = [{"rank": rank, "seconds": 1.0, "gpu_clock_reasons_after": list(reasons)} for rank in range(8)]
    return {"disturbance": {"hosts": [], "ranks": ranks}}


def test_throttling_but_not_the_power_cap(tmp_path: Path) -> None:
    hot = _judged(tmp_path / "a", *_records(EVEN), _soak(8) | _clocks("hardware thermal slowdown"))
    assert _bad(hot, "throttling") == "GPU hardware thermal slowdown in 1 cases"
    capped = _judged(tmp_path / "b", *_records(EVEN), _soak(8) | _clocks("power cap"))
    assert capped.outcomes["throttling"] == verdict.RuleOutcome("ok", "none in 1 cases, hottest device 71 C")
    later = _judged(tmp_path / "c", *_records(EVEN), _soak(8, throttled_share=0.2) | _clocks())
    assert _bad(later, "throttling") == "clocks held down for 20% of the soak"


def test_contention_is_a_fault_of_gpus_alone(tmp_path: Path) -> None:
    records = [r for r in _records(EVEN) if r["suite"] != "compute"]
    crowded = [_compute(case, EVEN, derived={"contention": 1.6}) for case in range(1, 9)]
    gpu = _judged(tmp_path / "a", *records, *crowded, _soak(8))
    assert "1.60x" in _bad(gpu, "contention")
    cpu = _judged(tmp_path / "b", *records, *crowded, _soak(8), header=_header(device="cpu"))
    assert cpu.outcomes["contention"].level == "note"
    assert "mind: contention: " in cpu.line()


def test_findings_of_the_doctor(tmp_path: Path) -> None:
    failed = [("ok", "torch", "2.13"), ("fail", "GPU 3 memory", "rows wait to be remapped"), ("warn", "load", "9")]
    figure = _bad(_judged(tmp_path / "a", *_records(EVEN), _soak(8), header=_header(doctor=failed)), "doctor")
    assert figure == "GPU 3 memory: rows wait to be remapped"
    warned = _judged(tmp_path / "b", *_records(EVEN), _soak(8), header=_header(doctor=[("warn", "load", "9")]))
    assert warned.outcomes["doctor"] == verdict.RuleOutcome("note", "load: 9")
    assert warned.exit_code == exit_codes.OK
    without = _judged(tmp_path / "c", *_records(EVEN), _soak(8), header=_header(doctor=None))
    assert without.outcomes["doctor"].level == "unknown"


def test_a_wrong_result_is_named(tmp_path: Path) -> None:
    wrong = results.not_ok("compute/copy[num_bytes=8]", "invalid", "error 1 on rank 3", num_ranks=8)
    assert "compute/copy[num_bytes=8] invalid: error 1 on rank 3" in _bad(
        _judged(tmp_path, *_records(EVEN), _soak(8), wrong), "results"
    )


def test_nothing_is_said_where_something_was_not_measured(tmp_path: Path) -> None:
    late = results.not_ok(SOAK, "skipped", "budget: no time was left for it; give more with --budget", num_ranks=8)
    found = _judged(tmp_path, *_records(EVEN), late)
    assert found.line() == "Machine: cannot say: soak was not run because no time was left; 11 of 11 results right"
    assert found.exit_code == exit_codes.USAGE
    # What has no meaning here is not a gap: one rank has no collective.
    alone = [
        *(_compute(case, [1.0]) for case in range(1, 9)),
        *(results.not_ok(f"{name}/x", "skipped", "needs at least 2 ranks", num_ranks=1) for name in SUITES[1:4]),
        _soak(1),
    ]
    single = _judged(tmp_path / "one", *alone, header=_header(num_ranks=1))
    assert single.outcomes["measured"].level == "note"
    assert single.exit_code == exit_codes.OK


def _beside(records: list[dict[str, Any]], **shares: float) -> list[dict[str, Any]]:
    """The same while others took this much of the CPU."""
    hosts = [{"host": "node7", "steal_share": 0.0, "other_load_noise_share": 0.01} | shares]
    return [record | {"disturbance": {"hosts": hosts, "ranks": []}} for record in records]


def test_others_who_took_some_of_the_cpu_are_minded(tmp_path: Path) -> None:
    found = _judged(tmp_path, *_beside(_records(EVEN), other_load_share=0.2, steal_share=0.1), _soak(8))
    figure = "other processes took 19.0%, the hypervisor took 10.0% of the CPU time (median of the cases)"
    assert found.outcomes["disturbance"] == verdict.RuleOutcome("note", figure)
    assert f"mind: disturbance: {figure}; " in found.line()
    assert found.exit_code == exit_codes.OK


def test_others_who_took_much_of_it_are_the_first_reason_why_nothing_can_be_said(tmp_path: Path) -> None:
    late = results.not_ok(SOAK, "skipped", "budget: no time was left for it; give more with --budget", num_ranks=8)
    found = _judged(tmp_path, *_beside(_records(EVEN), other_load_share=0.685), late)
    assert found.line() == (
        "Machine: cannot say: other processes took 67.5% of the CPU time (median of the cases); soak was not run "
        "because no time was left; 11 of 11 results right"
    )
    assert found.exit_code == exit_codes.USAGE


def test_nobody_is_accused_by_times_that_others_spoilt(tmp_path: Path) -> None:
    slow = [*EVEN[:5], 1.15, *EVEN[6:]]
    quiet = _judged(tmp_path / "quiet", *_beside(_records(slow), other_load_share=0.1), _soak(8))
    assert quiet.exit_code == exit_codes.GATE
    busy = _judged(tmp_path / "busy", *_beside(_records(slow), other_load_share=0.5), _soak(8))
    assert busy.outcomes["ranks"].level == "unknown"
    assert busy.outcomes["ranks"].figure.endswith("while others were at work")
    assert busy.exit_code == exit_codes.USAGE
    # A wrong result is wrong at any load, and comes first.
    wrong = results.not_ok("compute/copy[num_bytes=8]", "invalid", "error 1 on rank 3", num_ranks=8)
    found = _judged(tmp_path / "wrong", *_beside(_records(slow), other_load_share=0.5), _soak(8), wrong)
    assert found.line().startswith("Machine: not healthy: results: 12 of 13 results right: compute/copy[num_bytes=8] ")
    assert "; other processes took 49.0%" in found.line()


def test_the_verdict_is_shown_of_such_presets_alone(tmp_path: Path) -> None:
    from bench.report import result_tables

    file = results.save(tmp_path / "node.jsonl", _header(), *_records(EVEN), _soak(8), results.end())
    shown = result_tables.tables([load(file)])
    assert "Is this machine healthy?" in shown
    assert "\n\nMachine: healthy: " in shown  # the first line of the last screen
    plain = results.save(tmp_path / "other.jsonl", _header(preset="standard"), *_records(EVEN), results.end())
    assert "healthy" not in result_tables.tables([load(plain)])


@pytest.mark.long
def test_a_run_that_promises_a_verdict_ends_in_one(tmp_path: Path) -> None:
    tiny = str(ROOT / "tests" / "sample_suites" / "tiny.py")
    done = call("run", tiny, "--preset", "node", "--busy", "--visits", "1", "-o", str(tmp_path))
    file = saved(tmp_path)
    assert file.header["doctor"]["findings"][0]["what"] == "bench run", done.stderr
    assert f"doctor: {len(file.header['doctor']['findings'])} findings" in done.stderr
    assert file.end is not None
    assert (file.end["status"], file.end["exit_code"]) == ("complete", done.returncode)
    # On a machine where others are at work, as one that runs tests may be, nothing can be said.
    assert done.returncode == (exit_codes.USAGE if "cannot say" in done.stdout else exit_codes.OK)
    said = " ".join(done.stdout.split())  # it may be broken into lines
    last = said[said.rindex("Machine: ") :]
    assert said.startswith(last)
    assert last.endswith("; 3 of 3 results right")
    assert last in " ".join(call("show", str(file.path)).stdout.split())


def test_the_presets_that_promise_a_verdict_are_judged() -> None:
    from bench.measure.planning.presets import PRESETS

    assert {name for name, preset in PRESETS.items() if preset.judged} == verdict.JUDGED_PRESETS
