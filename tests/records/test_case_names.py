"""Short names of cases."""

from __future__ import annotations

import pytest

from bench.records.case_names import name_cases, short_name, split_id

MLP = "tensor_parallel/mlp[batch=1,ffn_hidden=1024,hidden=256,{}sequence=256]"


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("collective/all_reduce[dtype=bfloat16,num_bytes=1048576]", "all_reduce 1 MiB bf16"),
        ("collective/all_reduce[num_bytes=1024,timing=streamed]", "all_reduce 1 KiB streamed"),
        ("collective/all_reduce[async_op=true,num_bytes=1000]", "all_reduce 1000 B async"),
        ("collective/barrier", "barrier"),
        ("compute/matmul[dtype=bfloat16,shape=square,size=1024]", "matmul square 1024 bf16"),
        ("overlap/all_reduce[num_bytes=16777216,size=1024]", "overlap all_reduce 1024 16 MiB"),
        ("training_step/run[batch=8,shape=tiny]", "training step tiny batch 8"),
        ("odd", "odd"),
        ("odd/", "odd"),
        ("odd/x[", "odd x"),
        ("odd/x[a=b,c]", "odd x b,c"),
    ],
)
def test_a_name_says_what_people_say(case: str, name: str) -> None:
    assert short_name(case) == name


def test_common_parameters_stand_once() -> None:
    cases = [MLP.format(""), MLP.format("implementation=dtensor,"), MLP.format("implementation=sequence,")]
    names = name_cases(cases)
    assert [names.within(case) for case in cases] == ["mlp", "mlp dtensor", "mlp sequence"]
    assert names.across(cases[0]) == "tensor parallel mlp"
    assert names.shared == {"tensor_parallel": ("mlp: batch=1, ffn_hidden=1024, hidden=256, sequence=256",)}


def test_names_of_unlike_cases_are_never_alike() -> None:
    cases = ["s/a[x=1,y=word]", "s/a[y=1,x=word]", "s/a[p=fast]", "s/a[q=fast]"]
    names = name_cases(cases)
    assert len({names.within(case) for case in cases}) == 4
    assert names.within("s/a[p=fast]") == "a[p=fast]"


def test_a_comma_in_a_value_stays_in_it() -> None:
    assert split_id("s/a[x=1,2,y=3]") == ("s", "a", {"x": "1,2", "y": "3"})
