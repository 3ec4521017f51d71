"""From presets, `--set` and `--case` to a plan: which cases, in which order, and what fits."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from bench.errors import BenchError
from bench.measure.launchers.place import Place
from bench.measure.planning.budget_fit import estimate_seconds, fit_budget
from bench.measure.planning.cases import choose_cases, declared_machine, limit_cases, skip_cases
from bench.measure.planning.options import RunOptions
from bench.measure.planning.plan import Plan
from bench.measure.planning.planner import new_plan, saved_plan, with_launches
from bench.measure.planning.presets import (
    CASES,
    DEFAULT_SUITES,
    FURTHER_CASES,
    PRESETS,
    SOLO_FURTHER_CASES,
    default_suites,
    further_cases,
    most_cases,
)
from bench.measure.planning.suite_loader import Suite, builtin_names, load
from bench.measure.planning.visit_overhead import startup_seconds
from bench.records.file import Result
from bench.records.file import load as load_result
from bench.records.lines.decoding import plain
from bench.records.lines.header import PlannedCase, PlanRow
from bench.suite import COMPILE_SECONDS, Params, format_param
from tests.support.plans import a_plan
from tests.support.ranks import cpu_machine
from tests.support.results import header_line

MACHINE = cpu_machine(2)


def a_suite(name: str, rows: Sequence[Params], **tables: Any) -> Suite:
    module = ModuleType(name)
    module.__dict__.update(tables, cases=lambda machine: [dict(row) for row in rows])
    return Suite(name=name, reference=name, summary="", module=module)


def ids(suites: Sequence[Suite], settings: Mapping[str, Sequence[str]] | None = None, *wanted: str) -> list[str]:
    return [case.id for case in choose_cases(suites, MACHINE, settings or {}, wanted)]


SUM = a_suite(
    "sum",
    [{"op": "add", "size": 8}, {"op": "add", "size": 16}, {"op": "mul", "size": 8}],
    DEFAULTS={"dtype": "float32", "timing": "aligned"},
    CHOICES={"op": ("add", "mul"), "dtype": ("float32", "bfloat16")},
)
COPY = a_suite("copy", [{"num_bytes": 4}])
ODD = a_suite("odd", [{"axis": 0}, {"axis": -1}, {"axis": 0.5}, {"axis": "a,b]"}, {"axis": True}])


def test_suites_take_turns_until_each_has_given_all() -> None:
    assert ids([SUM, COPY]) == ["sum/add[size=8]", "copy/run[num_bytes=4]", "sum/add[size=16]", "sum/mul[size=8]"]


def test_parameters_are_all_there_with_their_defaults() -> None:
    first = choose_cases([SUM], MACHINE, {}, [])[0]
    assert first == PlannedCase(
        "sum", "sum/add[size=8]", {"op": "add", "size": 8, "dtype": "float32", "timing": "aligned"}
    )


def test_set_gives_alternatives_to_every_case_that_has_the_parameter() -> None:
    assert ids([SUM, COPY], {"dtype": ["float32", "bfloat16"], "op": ["add"]}) == [
        "sum/add[size=8]",
        "copy/run[num_bytes=4]",  # has neither parameter
        "sum/add[dtype=bfloat16,size=8]",
        "sum/add[size=16]",
        "sum/add[dtype=bfloat16,size=16]",
        # mul with op=add is add at size 8 again, and measured once
    ]


@pytest.mark.parametrize(
    ("skipped", "left"),
    [
        (("copy",), ["sum/add[size=8]", "sum/add[size=16]", "sum/mul[size=8]"]),
        (("sum/add",), ["copy/run[num_bytes=4]", "sum/mul[size=8]"]),
        (("sum/add[size=8]", "copy/run"), ["sum/add[size=16]", "sum/mul[size=8]"]),
        (("sum", "copy"), []),
    ],
)
def test_skip_leaves_out_suites_operations_and_cases(skipped: Sequence[str], left: list[str]) -> None:
    cases = choose_cases([SUM, COPY], MACHINE, {}, [])
    assert [case.id for case in skip_cases(cases, skipped)] == left
    with pytest.raises(BenchError, match=r"--skip sum/sub: not a suite, .* of this run; its suites are sum, copy"):
        skip_cases(cases, [*skipped, "sum/sub"])


def test_what_is_skipped_on_purpose_is_no_part_of_the_plan_and_counts_as_nothing_left_out() -> None:
    place = Place(0, 2, 0, 2)
    whole = new_plan(RunOptions(preset="smoke"), "cpu", place, None)
    plan = new_plan(RunOptions(preset="smoke", skip=("training_step", "compute/matmul")), "cpu", place, None)
    gone = {case.id for case in whole.cases} - {case.id for case in plan.cases}
    assert {case.partition("[")[0] for case in gone} == {"training_step/run", "compute/matmul"}
    assert plan.left_out == ()
    assert plan.options["skip"] == ["training_step", "compute/matmul"]


def test_set_keeps_one_of_equal_cases() -> None:
    assert ids([SUM], {"size": ["1KiB", "1024"]}) == ["sum/add[size=1024]", "sum/mul[size=1024]"]


def test_set_takes_what_the_suite_itself_has_even_where_it_is_no_size() -> None:
    assert ids([ODD], {"axis": ["0", "-1", "0.5", "true"]}) == [
        "odd/run[axis=0]",
        "odd/run[axis=-1]",
        "odd/run[axis=0.5]",
        "odd/run[axis=true]",
    ]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sizes": ["8"]}, "--set sizes: no chosen suite has it; parameters: dtype, num_bytes, op, size, timing"),
        ({"dtype": ["int8"]}, "--set dtype=int8: suite sum takes float32, bfloat16"),
        ({"size": ["big"]}, "size=big: a whole number"),
        ({"size": ["0"]}, "size=0: a whole number of at least 1"),
        ({"timing": ["both"]}, "timing is one of aligned, streamed"),
        ({"op": ["add", ""]}, "op=: a value is missing"),
    ],
)
def test_set_refuses_by_name_and_value(settings: Mapping[str, Sequence[str]], complaint: str) -> None:
    with pytest.raises(BenchError, match=re.escape(complaint)):
        ids([SUM, COPY], settings)


def test_case_chooses_in_the_order_given_and_once() -> None:
    wanted = ("sum/mul[size=8]", "copy/run[num_bytes=4]", "sum/mul[size=8]", "sum/mul[dtype=float32,size=8]")
    assert ids([SUM, COPY], None, *wanted) == ["sum/mul[size=8]", "copy/run[num_bytes=4]"]


def test_case_may_have_values_that_no_preset_has() -> None:
    case = choose_cases([SUM], MACHINE, {}, ["sum/mul[dtype=bfloat16,size=1MiB,timing=streamed]"])[0]
    assert case.id == "sum/mul[dtype=bfloat16,size=1048576,timing=streamed]"
    assert case.params == {"op": "mul", "size": 1048576, "dtype": "bfloat16", "timing": "streamed"}


@pytest.mark.parametrize("axis", [0, -1, 0.5, "a,b]", True])
def test_case_takes_every_id_that_is_listed(axis: bool | int | float | str) -> None:
    case = ODD.case({"axis": axis})
    (chosen,) = choose_cases([ODD], MACHINE, {}, [case.id])
    assert chosen == PlannedCase("odd", case.id, {"axis": axis})
    assert type(chosen.params["axis"]) is type(axis)


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ("other/add[size=8]", "--case other/add[size=8]: not a case of sum, copy"),
        ("sum", "--case sum: not a case of sum, copy"),
        ("", "--case : not a case of sum, copy"),
        ("sum/", "--case sum/: op is one of add, mul"),
        ("sum/sub[size=8]", "--case sum/sub[size=8]: op is one of add, mul"),
        ("sum/add", "--case sum/add: suite sum has no such case"),
        ("sum/add[size=8", "--case sum/add[size=8: suite sum has no such case"),
        ("sum/add[size=8]]", "size=8]: a whole number"),
        ("sum/add[size]", "no parameter 'size' in suite sum"),
        ("sum/add[width=8]", "no parameter 'width' in suite sum, or twice; it has dtype, timing, op, size"),
        ("sum/add[size=8,size=16]", "no parameter 'size' in suite sum, or twice"),
        ("sum/add[op=mul,size=8]", "no parameter 'op' in suite sum, or twice"),
        ("sum/add[size=x]", "size=x: a whole number"),
        ("sum/add[dtype=int8,size=8]", "dtype is one of float32, bfloat16"),
        ("sum/add[size=8,timing=both]", "timing is one of aligned, streamed"),
        ("copy/add[num_bytes=4]", "suite copy has no such case; take an id from `bench list copy`"),
    ],
)
def test_case_refuses_by_id(wanted: str, complaint: str) -> None:
    with pytest.raises(BenchError, match=re.escape(complaint)):
        ids([SUM, COPY], None, wanted)


def test_case_and_set_do_not_go_together() -> None:
    with pytest.raises(BenchError, match="--set size with --case"):
        ids([SUM], {"size": ["8"]}, "sum/add[size=8]")


@pytest.mark.parametrize("name", builtin_names())
def test_every_id_of_a_built_in_suite_leads_back_to_its_case(name: str) -> None:
    suite, machine = load(name), declared_machine(2, "cpu", "full")
    listed = choose_cases([suite], machine, {}, [])
    assert len(listed) == len(suite.cases(machine)), "no case twice"
    assert choose_cases([suite], machine, {}, [case.id for case in listed]) == listed
    assert choose_cases([suite], cpu_machine(1), {}, [listed[-1].id]) == [listed[-1]]


@pytest.mark.parametrize("name", builtin_names())
def test_every_id_of_a_built_in_suite_can_be_read_without_the_list(name: str) -> None:
    suite, machine = load(name), declared_machine(2, "cpu", "full")
    listed = choose_cases([suite], machine, {}, [])
    key, value = sorted(suite.defaults.items())[0]
    explicit = [
        case.id.replace("[", f"[{key}={format_param(value)},") if case.params.get(key) == value else case.id
        for case in listed
    ]
    assert choose_cases([suite], machine, {}, explicit) == listed


def test_a_plan_survives_json() -> None:
    plan = a_plan(visits=2)
    assert Plan.from_row(msgspec.json.decode(msgspec.json.encode(plan.row()), type=PlanRow)) == plan


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: plan.pop("seed"),
        lambda plan: plan.update(colour="red"),
        lambda plan: plan.update(precision=None),
        lambda plan: plan["cases"][0].update(colour="red"),
    ],
)
def test_what_is_no_plan_of_this_version_is_refused(spoil: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    whole = plain(header_line())
    whole["plan"] = msgspec.to_builtins(a_plan().row())
    assert saved_plan(load_lines(tmp_path / "whole.jsonl", whole)) == a_plan()
    spoil(whole["plan"])
    with pytest.raises(BenchError, match=r"the file's plan cannot be read.*it was written by another version"):
        saved_plan(load_lines(tmp_path / "spoilt.jsonl", whole))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plan: plan.update(cases=[{"suite": "sum"}]),
        lambda plan: plan.update(cases=None),
        lambda plan: plan["suites"][0].update(metrics=["GB/s"]),
        lambda plan: plan.update(suites=["sum"]),
    ],
)
def test_what_is_no_plan_at_all_is_refused_as_it_is_read(
    spoil: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    damaged = plain(header_line())
    damaged["plan"] = msgspec.to_builtins(a_plan().row())
    spoil(damaged["plan"])
    with pytest.raises(BenchError, match="record 1, a header, cannot be read: plan"):
        load_lines(tmp_path / "damaged.jsonl", damaged)


def load_lines(path: Path, *lines: dict[str, Any]) -> Result:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return load_result(path)


def test_a_launch_visits_all_cases_then_all_again_in_another_order_by_the_seed() -> None:
    plan = a_plan(num_cases=40, visits=3)
    planned = list(range(40))
    orders = []
    for launch in (0, 1):
        turns = plan.order(launch)
        assert [visit for _, visit in turns] == [0] * 40 + [1] * 40 + [2] * 40
        orders += [tuple(index for index, visit in turns if visit == wanted) for wanted in range(3)]
    assert all(sorted(order) == planned for order in orders)
    assert plan.order(1) == a_plan(num_cases=40, visits=3).order(1)
    orders += [tuple(index for index, _ in a_plan(num_cases=40, seed=8).order(1))]
    assert len(set(orders)) == 7
    # What one visit's order is does not depend on how many follow.
    assert a_plan(num_cases=40).order(1) == plan.order(1)[:40]


def test_the_first_launch_has_one_case_of_each_suite_first_cheap_ones_before_dear_ones() -> None:
    suites = ["training_step", "compute", "mine", "collective", "compute", "collective", "training_step"]
    cases = tuple(PlannedCase(suite, f"{suite}/run[n={n}]", {"n": n}) for n, suite in enumerate(suites))
    plan = replace(a_plan(visits=2), cases=cases)
    first = [index for index, visit in plan.order(0) if not visit]
    assert [suites[index] for index in first[:4]] == ["collective", "compute", "mine", "training_step"]
    assert first[4:] == [4, 5, 6]  # the rest as planned, by what it tells
    assert first != [index for index, visit in plan.order(0) if visit]
    assert first == [index for index, visit in replace(plan, seed=99).order(0) if not visit]


def test_a_plan_of_before_visits_has_one() -> None:
    data = msgspec.to_builtins(a_plan(visits=2).row())
    del data["visits"]
    assert Plan.from_row(msgspec.convert(data, PlanRow)) == a_plan(visits=1)


def test_an_order_leaves_the_program_s_random_numbers_alone() -> None:
    before = random.getstate()
    a_plan().order(1)
    assert random.getstate() == before


def test_without_a_budget_all_fits() -> None:
    plan = a_plan()
    assert fit_budget(plan) is plan


def test_a_budget_keeps_the_most_telling_cases() -> None:
    # 2 launches of 6 s to start leave 2 s, 1 s a launch: 4 cases of 0.25 s at the least.
    plan = a_plan(left_out=(), launches=2, budget_seconds=14.0)
    fitted = fit_budget(plan)
    assert [case.params["size"] for case in fitted.cases] == [1, 2, 3, 4]
    assert [case.params["size"] for case in fitted.left_out] == [5, 6, 7, 8]
    assert fit_budget(replace(plan, budget_seconds=100.0)).cases == plan.cases


def test_a_budget_too_small_for_a_single_case_is_refused_with_what_it_takes() -> None:
    with pytest.raises(BenchError, match=r"--budget 18\.5s with 3 launch\(es\): starting them takes about 18 s.*at le"):
        fit_budget(a_plan(launches=3, budget_seconds=18.5))
    least = re.search("at least ([0-9]+) s", _refusal(a_plan(launches=3, budget_seconds=18.5)))
    assert least is not None
    assert fit_budget(a_plan(launches=3, budget_seconds=float(least[1]))).cases
    # On GPUs the processes take longer to start.
    assert "starting them takes about 60 s" in _refusal(a_plan(launches=3, budget_seconds=50.0, device_type="cuda"))


def test_cases_asked_for_by_name_are_measured_or_refused_with_the_time_they_take() -> None:
    named = {"cases": ["sum/run[size=1]"], "budget": "14s"}
    plan = a_plan(launches=2, budget_seconds=14.0, options=named)
    words = "--budget 14s: 8 cases by name in 2 launch(es) take at least 16 s, of which 12 s to start the processes"
    assert words in _refusal(plan)
    assert fit_budget(replace(plan, budget_seconds=16.0)).cases == plan.cases
    # A preset's own budget refuses nothing: nobody asked for it.
    assert fit_budget(replace(plan, options={"cases": named["cases"]})).left_out


def _refusal(plan: Plan) -> str:
    with pytest.raises(BenchError) as raised:
        fit_budget(plan)
    return str(raised.value)


def test_the_estimate_is_one_of_sampling_and_what_surrounds_it_within_the_budget() -> None:
    # 3 x (6 + 8 x (2 + 0.3)) + 1.5
    assert estimate_seconds(a_plan()) == pytest.approx(74.7)
    # A visit more is 0.3 s more of what surrounds its samples: 3 x 8 x 0.3 = 7.2
    assert estimate_seconds(a_plan(visits=2)) == pytest.approx(81.9)
    assert estimate_seconds(a_plan(device_type="cuda")) == pytest.approx(74.7 + 3 * 14)
    assert estimate_seconds(a_plan(budget_seconds=40.0)) == 40.0
    assert estimate_seconds(a_plan(budget_seconds=400.0)) == pytest.approx(74.7)


def _lasting(**changes: Any) -> Plan:
    """Eight cases, the third of which lasts for 100 s."""
    plan = a_plan(**changes)
    cases = [msgspec.structs.replace(case, min_seconds=100.0 if n == 2 else 0.0) for n, case in enumerate(plan.cases)]
    return replace(plan, cases=tuple(cases))


def test_a_case_that_lasts_comes_last_once_and_has_its_time() -> None:
    plan = _lasting(visits=2)
    assert plan.order(0)[-1] == (2, 0)
    assert sorted(plan.order(0)) == sorted([(n, visit) for n in range(8) for visit in (0, 1) if (n, visit) != (2, 1)])
    assert (plan.min_turn_seconds((2, 0)), plan.min_turn_seconds((1, 0)), plan.max_extra_seconds) == (100.0, 0.0, 100.0)
    assert estimate_seconds(plan) == pytest.approx(81.9 + 3 * 100)
    assert Plan.from_row(plan.row()) == plan


def test_a_case_that_compiles_has_time_for_it_at_each_visit_and_no_other_has() -> None:
    plan = _lasting(visits=2)
    cases = [
        msgspec.structs.replace(case, prepare_seconds=240.0 if n == 5 else 0.0) for n, case in enumerate(plan.cases)
    ]
    plan = replace(plan, cases=tuple(cases))
    turns = [(5, 0), (5, 1), (2, 0), (1, 0)]
    assert [plan.extra_turn_seconds(turn) for turn in turns] == [240.0, 240.0, 100.0, 0.0]
    assert plan.max_extra_seconds == 240.0
    assert plan.order(0) == _lasting(visits=2).order(0)
    assert Plan.from_row(plan.row()) == plan


def test_a_plan_of_before_compilation_had_time_is_read() -> None:
    data = msgspec.to_builtins(a_plan().row())
    assert "prepare_seconds" not in data["cases"][0]
    assert Plan.from_row(msgspec.convert(data, PlanRow)) == a_plan()


def test_the_digest_of_files_before_version_0_2_0_counts_as_unknown() -> None:
    data = msgspec.to_builtins(a_plan().row())
    data["suites"][0]["sha256"] = data["suites"][0].pop("digest")
    (suite,) = Plan.from_row(msgspec.convert(data, PlanRow)).suites
    assert suite == msgspec.structs.replace(a_plan().suites[0], digest=None)


COMPILED = {"tensor_parallel": {"implementation": "async_tp"}, "training_step": {"compile": True}}
"""Suite -> what torch.compile compiles there."""


@pytest.mark.parametrize("name", builtin_names())
def test_what_torch_compiles_asks_for_time_and_nothing_else_does(name: str) -> None:
    suite = load(name)
    machine = declared_machine(8, "cuda", "full")
    compiled = COMPILED.get(name)
    asks = {
        case.id: case.prepare_seconds
        for case in choose_cases([suite], machine, {}, ())
        if not compiled or any(case.params[key] != value for key, value in compiled.items())
    }
    assert set(asks.values()) == {0.0}
    if compiled:
        row = next(row for row in suite.cases(machine) if row | compiled == row)
        (case,) = choose_cases([suite], machine, {}, [suite.case(row).id])
        assert case.prepare_seconds == COMPILE_SECONDS


def test_the_budget_has_room_for_what_lasts_or_says_so() -> None:
    # 320 - 3 x (6 + 100) leaves 2 s, less than a second for each launch.
    fitted = fit_budget(_lasting(budget_seconds=320.0))
    assert [case.params["size"] for case in fitted.cases] == [1, 3]  # what lasts is never what is left out
    assert [case.params["size"] for case in fitted.left_out] == [2, 4, 5, 6, 7, 8]
    assert [case.params["size"] for case in fit_budget(_lasting(budget_seconds=319.0)).cases] == [3]
    refusal = _refusal(_lasting(budget_seconds=300.0))
    assert "--budget 300s: sum/run[size=3] alone lasts 100 s in each of 3 launch" in refusal
    assert "takes about 323 s" in refusal  # 18 to start, 3 x 100, and 3 x 7 x 0.25


def test_presets_keep_what_the_command_s_help_promises() -> None:
    assert list(PRESETS) == ["smoke", "standard", "full", "node"]
    smoke, standard, full, node = PRESETS.values()
    assert (smoke.launches, standard.launches) == (1, 3)
    assert [preset.visits for preset in PRESETS.values()] == [1, 1, 3, 1]
    # The soak of two minutes comes on top of what can be shortened: 10 minutes with some room.
    assert node.budget_seconds is not None
    assert node.budget_seconds + 120 <= 570
    assert (node.launches, node.judged, node.of_suites) == (1, True, "standard")
    assert node.suites == ("compute", "collective", "point_to_point", "tensor_parallel", "soak")
    assert smoke.budget_seconds is not None
    assert smoke.budget_seconds <= 60 - 4  # the end of the run and a slow machine
    assert standard.budget_seconds is not None
    assert standard.budget_seconds <= 240 - 15
    assert standard.budget_seconds / standard.launches <= 90  # after which there is a first answer
    assert full.budget_seconds is None


def test_a_preset_s_budget_has_room_for_the_longer_starts_of_gpus_and_its_time_out_is_within_it() -> None:
    for preset in PRESETS.values():
        on_cpu, on_cuda = preset.budget_on("cpu"), preset.budget_on("cuda")
        if on_cpu is None:
            assert on_cuda is None
            continue
        assert on_cuda is not None
        longer = (preset.launches + 1) * (startup_seconds("cuda") - startup_seconds("cpu"))
        assert on_cuda - on_cpu >= longer
        # A case that hangs does not take the others' time with it.
        assert preset.timeout_seconds <= on_cpu / 3


def test_an_operation_keeps_to_the_parameters_that_it_has() -> None:
    """`--set op=barrier` is the barrier alone, not other operations' rows under its name with a size it has not."""
    suite = load("collective")
    machine = declared_machine(2, "cpu", "smoke")
    assert [case.id for case in choose_cases([suite], machine, {"op": ["barrier"]}, [])] == ["collective/barrier"]
    both = choose_cases([suite], machine, {"op": ["barrier", "gather"], "num_bytes": ["1KiB"]}, [])
    assert {case.params["op"] for case in both} == {"gather"}


def test_a_run_that_names_no_suite_takes_the_first_cases_of_each() -> None:
    further, own = FURTHER_CASES["standard"], CASES["standard"]
    cases = [PlannedCase(suite, f"{suite}/run[n={n}]", {"n": n}) for n in range(20) for suite in (*own, *further)]
    chosen = limit_cases(cases, most_cases("standard", 2))
    assert Counter(case.suite for case in chosen) == own | further
    assert chosen[: len(own | further)] == cases[: len(own | further)]
    assert limit_cases(cases, {}) == cases
    assert not set(further) & set(DEFAULT_SUITES)
    assert set(own) <= set(DEFAULT_SUITES)
    assert {suite for suites in FURTHER_CASES.values() for suite in suites} <= set(builtin_names())


@pytest.mark.parametrize("preset", ["smoke", "standard", "full", "node"])
def test_a_single_gpu_measures_what_one_gpu_can_show(preset: str) -> None:
    """Every default case has something to do on one rank: none of them is there to be skipped for want of a second."""
    names = default_suites(PRESETS[preset], 1)
    machine = replace(declared_machine(1, "cuda", PRESETS[preset].of_suites), memory_bytes=79 << 30)
    cases = choose_cases([load(name) for name in names], machine, {}, [])
    chosen = limit_cases(cases, most_cases(preset, 1))
    assert {case.suite for case in chosen} == set(names)
    assert {"compute", "training_step"} <= set(names)
    assert not {"collective", "point_to_point", "tensor_parallel", "pipeline_parallel"} & set(names)
    assert not [case.id for case in chosen if "parallel=tensor" in case.id]


def test_two_ranks_measure_the_default_suites() -> None:
    assert default_suites(PRESETS["smoke"], 2) == (*DEFAULT_SUITES, *FURTHER_CASES["smoke"])
    assert further_cases("smoke", 1) == SOLO_FURTHER_CASES["smoke"]


def test_a_plan_that_is_repeated_with_more_launches_gives_each_as_much_time() -> None:
    plan = replace(a_plan(), launches=2, budget_seconds=30.0)
    more = with_launches(plan, 3)
    assert (more.launches, more.budget_seconds, more.cases) == (3, 45.0, plan.cases)
    assert with_launches(plan, None) == plan
    assert with_launches(replace(plan, budget_seconds=None), 3).budget_seconds is None
    with pytest.raises(BenchError, match="--launches 0: at least 1"):
        with_launches(plan, 0)
