"""How ranks agree: one failure, skip or refusal holds everywhere, and nobody waits for a rank that does not come.

On gloo and on a backend with NCCL's manners; votes go over the control group, which is gloo's on both.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from bench.measure.engine import consensus
from bench.measure.engine.consensus import Agreement, Broken, PhaseOutcome, Poll, case_key, first_error, post_error
from bench.measure.engine.rank import RankContext, leave_groups
from bench.measure.engine.store import Store
from tests.support import nccl_like
from tests.support.plans import lone_rank
from tests.support.ranks import on_ranks

OK, SKIP, INVALID, RAISED, CONTRACT = PhaseOutcome
# Phase -> what rank 0 and rank 1 say, and what both then know.
VOTES: dict[str, tuple[tuple[PhaseOutcome, str | None], tuple[PhaseOutcome, str | None], Agreement]] = {
    "all well": ((OK, None), (OK, None), Agreement(OK, None, sound=True)),
    "one skips": ((OK, None), (SKIP, "too small"), Agreement(SKIP, "too small", sound=True)),
    "both skip": ((SKIP, "first"), (SKIP, "second"), Agreement(SKIP, "first", sound=True)),
    "without a reason": ((SKIP, None), (SKIP, "second"), Agreement(SKIP, "second", sound=True)),
    "worst wins": ((SKIP, "skip"), (INVALID, "wrong"), Agreement(INVALID, "wrong", sound=True)),
    "one raises": ((OK, None), (RAISED, "boom on 1"), Agreement(RAISED, "boom on 1", sound=False)),
    "one raises, one skips": ((RAISED, "boom on 0"), (SKIP, "skip"), Agreement(RAISED, "boom on 0", sound=False)),
    "both raise": ((RAISED, "boom on 0"), (RAISED, "boom on 1"), Agreement(RAISED, "boom on 0", sound=True)),
    # Nothing is left over of a function that came to its end.
    "one breaks the contract": (
        (CONTRACT, "not two numbers"),
        (OK, None),
        Agreement(CONTRACT, "not two numbers", True),
    ),
    "one breaks it, one raises": ((CONTRACT, "a None"), (RAISED, "boom on 1"), Agreement(CONTRACT, "a None", False)),
}


def memory_store() -> Store:
    import torch.distributed as dist

    return Store(vars(dist)["HashStore"]())


def _file_store(path: str) -> Store:
    import torch.distributed as dist

    return Store(vars(dist)["FileStore"](path, 2))


def _vote(rank: RankContext, path: str) -> dict[str, Any]:
    store = _file_store(path)
    poll = Poll(rank, store, "g0", "case0")
    heard: dict[str, Any] = {phase: poll.agree(phase, *votes[rank.index]) for phase, (*votes, _) in VOTES.items()}
    heard["case after case"] = Poll(rank, store, "g0", "case1").agree("all well", OK)
    heard["first error"] = first_error(store, "g0", "case0")
    heard["first error of the next case"] = first_error(store, "g0", "case1")
    if rank.index == 1:
        leave_groups(rank)
        return heard
    try:
        poll.agree("deserted", OK)
    except Broken:
        heard["deserted"] = "broken"
    return heard


@pytest.fixture(scope="module", params=["gloo", nccl_like.NAME])
def heard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    path: Path = tmp_path_factory.mktemp("votes") / "store"
    return on_ranks(2, _vote, str(path), backend=request.param)


@pytest.mark.parametrize("phase", VOTES)
def test_both_ranks_know_the_worst_verdict_and_its_reason(heard: list[dict[str, Any]], phase: str) -> None:
    assert [each[phase] for each in heard] == [VOTES[phase][2]] * 2


def test_a_phase_of_another_case_is_a_vote_of_its_own(heard: list[dict[str, Any]]) -> None:
    assert [each["case after case"] for each in heard] == [Agreement(OK, None, sound=True)] * 2


def test_the_first_error_is_the_cause(heard: list[dict[str, Any]]) -> None:
    assert [each["first error"] for each in heard] == ["boom on 1"] * 2
    assert [each["first error of the next case"] for each in heard] == [None] * 2


def test_a_rank_whose_peer_left_its_groups_is_set_free(heard: list[dict[str, Any]]) -> None:
    assert heard[0]["deserted"] == "broken"


@pytest.mark.parametrize("verdict", list(PhaseOutcome))
def test_a_world_of_one_agrees_with_itself(verdict: PhaseOutcome) -> None:
    assert Poll(lone_rank(), memory_store(), "g0", "case0").agree("prepare", verdict, "why") == Agreement(
        verdict, "why", sound=True
    )


def test_a_rank_that_raised_gives_up_on_peers_that_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert consensus.GRACE_SECONDS == 2
    passing = iter(range(100))
    monkeypatch.setattr(consensus, "monotonic_seconds", lambda: float(next(passing)))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    store = memory_store()
    with pytest.raises(Broken, match="boom"):
        Poll(lone_rank(world_size=2), store, "g0", "case0").agree("measure", RAISED, "boom")
    assert first_error(store, "g0", "case0") == "boom"
    assert next(passing) == 3  # it began at 0 s, asked at 1 s and gave up at 2 s


def test_errors_are_kept_in_the_order_in_which_they_came() -> None:
    store = memory_store()
    assert first_error(store, "g0", "case1.0") is None
    post_error(store, "g0", "case1.0", "the cause\nin “two” lines")
    post_error(store, "g0", "case1.0", "a consequence")
    assert first_error(store, "g0", "case1.0") == "the cause\nin “two” lines"
    assert first_error(store, "g1", "case1.0") is None


def test_an_error_is_of_its_case_and_visit_alone() -> None:
    store = memory_store()
    post_error(store, "g0", case_key((1, 0)), "all ranks raised this, and went on")
    assert [first_error(store, "g0", case_key(turn)) for turn in ((1, 1), (2, 0), None)] == [None] * 3
