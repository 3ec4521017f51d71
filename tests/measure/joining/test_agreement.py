"""Ranks that differ are found before they work, and the difference is said with host and rank."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bench.errors import BenchError
from bench.measure.joining import agreement
from bench.measure.joining.agreement import CommonFacts, collect_facts, comparable_variables, differing, post_facts
from tests.measure.engine.test_consensus import memory_store

HOSTS = ["node0", "node0", "node1", "node1"]
ALIKE = CommonFacts(
    release={"bench": "1"},
    version={"torch": "2"},
    code={"bench": "a" * 64},
    options={"seed": "0"},
    device="cpu",
    variables={"NCCL_ALGO": "Ring"},
)


def ranks(changes: Mapping[int, CommonFacts] | None = None) -> dict[int, CommonFacts]:
    return {**dict.fromkeys(range(4), ALIKE), **(changes or {})}


def changed(**fields: object) -> CommonFacts:
    import msgspec

    return msgspec.structs.replace(ALIKE, **fields)


def test_equal_ranks_differ_in_nothing() -> None:
    assert differing(ranks(), HOSTS) == []


@pytest.mark.parametrize(
    ("other", "text", "may_differ"),
    [
        (changed(release={"bench": "2"}), "rank 2 on node1 has bench 2; rank 0 on node0 has bench 1;", False),
        (changed(version={"torch": "3"}), "rank 2 on node1 has torch 3; rank 0 on node0 has torch 2;", True),
        (changed(code={"bench": "b" * 64}), "rank 2 on node1 has other code of bench (SHA-256 bbbbbbbbbbbb);", False),
        (changed(options={"seed": "1"}), "rank 2 on node1 was given seed 1; rank 0 on node0 was given seed 0;", False),
        (changed(options={}), "rank 2 on node1 was given seed (not set);", False),
        (changed(variables={}), "rank 2 on node1 has NCCL_ALGO=(not set);", True),
        (changed(device="cuda"), "rank 2 on node1 would measure on cuda; rank 0 on node0 on cpu;", False),
    ],
)
def test_a_difference_names_the_rank_its_host_and_both_values(other: CommonFacts, text: str, may_differ: bool) -> None:
    (found,) = differing(ranks({2: other}), HOSTS)
    assert found.startswith(text)
    assert ("--allow-unlike" in found) == may_differ
    assert bool(differing(ranks({2: other}), HOSTS, allow_unlike=True)) != may_differ


def test_ranks_of_one_difference_share_a_line() -> None:
    other = changed(version={"torch": "3"})
    (found,) = differing(ranks({2: other, 3: other}), HOSTS)
    assert found.startswith("rank 2, 3 on node1 has torch 3;")


def test_a_long_value_is_cut() -> None:
    (found,) = differing(ranks({1: changed(variables={"NCCL_ALGO": "x" * 500})}), HOSTS)
    assert len(found) < 300


def test_variables_of_hosts_and_ranks_may_differ() -> None:
    own = {
        "CUDA_VISIBLE_DEVICES": "3",
        "GLOO_SOCKET_IFNAME": "eth1",
        "NCCL_IB_HCA": "mlx5_1",
        "NCCL_TOPO_FILE": "/a",
        "KMP_AFFINITY": "x",
        "TORCHINDUCTOR_CACHE_DIR": "/b",
    }
    assert comparable_variables({**own, "NCCL_ALGO": "Ring"}) == {"NCCL_ALGO": "Ring"}


def accept(facts: Mapping[int, CommonFacts], hosts: object) -> None:
    """A check that finds nothing wrong."""


def test_the_first_rank_with_an_error_is_named_at_once() -> None:
    store = memory_store()
    post_facts(store, "facts", 0, ALIKE)
    post_facts(store, "facts", 3, CommonFacts(error="no GPU here; look at nvidia-smi"))
    with pytest.raises(BenchError, match=r"^rank 3 on node1: no GPU here; look at nvidia-smi$"):
        collect_facts(store, "facts", HOSTS, deadline=1e12, check=accept)


def test_rank_0_s_own_error_needs_no_name() -> None:
    store = memory_store()
    post_facts(store, "facts", 0, CommonFacts(error="no GPU here"))
    with pytest.raises(BenchError, match=r"^no GPU here$"):
        collect_facts(store, "facts", HOSTS, deadline=1e12, check=accept)


def test_silent_ranks_are_named_when_their_time_is_over() -> None:
    store = memory_store()
    for rank in (0, 1, 3):
        post_facts(store, "facts", rank, ALIKE)
    with pytest.raises(BenchError, match=r"^rank 2 on node1 came and has said nothing since;"):
        collect_facts(store, "facts", HOSTS, deadline=0.0, check=accept)


def test_those_that_are_there_are_compared_although_one_stays_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "SETTLE_SECONDS", 0.0)
    store = memory_store()
    for rank, facts in ranks({1: changed(options={"seed": "9"})}).items():
        if rank != 3:
            post_facts(store, "facts", rank, facts)
    with pytest.raises(BenchError, match="rank 1 on node0 was given seed 9"):
        collect_facts(
            store, "facts", HOSTS, deadline=1e12, check=agreement.refuse_differences(allow_unlike=False, warn=print)
        )


def test_what_is_waived_is_still_said() -> None:
    store, said = memory_store(), list[str]()
    for rank, facts in ranks({1: changed(version={"torch": "3"})}).items():
        post_facts(store, "facts", rank, facts)
    collect_facts(store, "facts", HOSTS, 1e12, agreement.refuse_differences(allow_unlike=True, warn=said.append))
    assert len(said) == 1
    assert said[0].startswith("rank 1 on node0 has torch 3")


def test_several_differences_are_counted() -> None:
    check = agreement.refuse_differences(allow_unlike=False, warn=print)
    other = changed(version={"torch": "3"}, options={"seed": "1"}, variables={})
    with pytest.raises(BenchError, match=r"\(and 2 more differences\)$"):
        check(ranks({1: other}), HOSTS)
