"""The contract's helpers for suites: presets, item sizes, and checks of parameters."""

from __future__ import annotations

import pytest

from bench.errors import BenchError, Skip
from bench.suite import ITEM_BYTES, Machine, Param, Presets, check_choices, positive_int, skip_if, too_small


def machine(device_type: str, preset: str) -> Machine:
    return Machine(2, device_type, preset, memory_bytes=2**30, num_cores=2, ranks_per_host=2)


@pytest.mark.parametrize(
    ("device_type", "preset", "nearest", "joined"),
    [
        ("cpu", "smoke", (1,), (1,)),
        ("cpu", "standard", (1,), (1,)),
        ("cpu", "full", (2, 3), (1, 2, 3)),
        ("cuda", "standard", (4,), (4,)),
    ],
)
def test_a_preset_without_values_has_those_before_it(
    device_type: str, preset: str, nearest: tuple[int, ...], joined: tuple[int, ...]
) -> None:
    table = Presets(cpu={"smoke": (1,), "full": (2, 3)}, cuda={"standard": (4,)})
    assert table.at(machine(device_type, preset)) == nearest
    assert table.through(machine(device_type, preset)) == joined


def test_a_preset_before_the_first_values_has_no_rows() -> None:
    assert Presets(cpu={"standard": (1,)}, cuda={}).through(machine("cpu", "smoke")) == ()


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1"])
def test_a_size_is_a_whole_number_from_its_least_on(value: Param) -> None:
    assert positive_int("mine", {"size": 3}, "size") == 3
    assert positive_int("mine", {"size": 0}, "size", least=0) == 0
    with pytest.raises(BenchError, match=r"^mine: size=.*; give a whole number of at least 1$"):
        positive_int("mine", {"size": value}, "size")
    with pytest.raises(BenchError, match="size=None"):
        positive_int("mine", {}, "size")


def test_a_value_is_one_of_its_choices() -> None:
    check_choices("mine", {"op": "sum"}, {"op": ("sum", "max"), "absent": (1,)})
    with pytest.raises(BenchError, match=r"^mine: op=min; it is one of sum, max$"):
        check_choices("mine", {"op": "min"}, {"op": ("sum", "max")})


def test_the_first_number_that_is_too_small_is_named() -> None:
    assert too_small({"a": 1, "b": 0, "c": 0}, "a", "b", "c") == "b=0 is less than 1"
    assert too_small({"a": 0}, "a", "absent", least=0) is None


def test_a_reason_skips_and_none_does_not() -> None:
    skip_if(None)
    with pytest.raises(Skip, match="too few"):
        skip_if("too few")


def test_item_sizes_are_those_of_torch() -> None:
    import torch

    for dtype, num_bytes in ITEM_BYTES.items():
        assert dtype == "tf32" or getattr(torch, dtype).itemsize == num_bytes
