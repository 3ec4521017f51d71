"""Who came, what is wrong with them, and who is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from bench.measure.joining.roll import (
    Arrival,
    absent_ranks,
    describe_absent,
    guess_hosts,
    name_ranks,
    objection,
    show_progress,
)


def came(*ranks: int, size: int = 8, per_host: int | None = 2, hosts: Mapping[int, str] | None = None) -> list[Arrival]:
    """Ranks of hosts that have `per_host` each, in turn."""
    return [
        Arrival(
            rank=rank,
            world_size=size,
            host=(hosts or {}).get(rank, f"node{rank // (per_host or 1)}"),
            process_id=100 + rank,
            local_world_size=per_host,
        )
        for rank in ranks
    ]


def test_ranks_that_fit_are_welcome() -> None:
    assert objection(came(0, 3, 1)) is None
    assert absent_ranks(came(0, 3, 1), 4) == [2]


def test_another_world_size_is_named_with_both() -> None:
    text = objection([*came(0, size=2), *came(1, size=3)])
    assert text is not None
    assert text.startswith("rank 0 on node0 has a world size of 2, rank 1 on node0 one of 3;")


def test_a_rank_that_is_there_twice_is_named_with_both_processes() -> None:
    twin = Arrival(rank=1, world_size=8, host="node3", process_id=7)
    text = objection([*came(0, 1), twin])
    assert text is not None
    assert text.startswith("two processes are rank 1: process 101 on node0 and process 7 on node3;")


def test_a_rank_beyond_the_world_size_has_another_world_size() -> None:
    assert "one of 12" in (objection([*came(0), *came(9, size=12)]) or "")


@pytest.mark.parametrize(
    ("arrivals", "known", "rank", "host"),
    [
        (came(0, 1, 6), {}, 7, "node3"),  # its sibling is there
        (came(0, 1), {}, 7, None),  # nobody of that host is there
        (came(0, 1), {7: "spare"}, 7, "spare"),  # the launcher said so
        (came(0, 1, 6), {7: "other"}, 7, "other"),
        (came(0, 1, 2, hosts={2: "node0"}), {}, 3, None),  # ranks do not fill the hosts in turn
        (came(0, 1, 2, per_host=None), {}, 3, None),
    ],
)
def test_the_host_of_a_missing_rank_is_guessed_if_those_that_came_confirm_it(
    arrivals: Sequence[Arrival], known: Mapping[int, str], rank: int, host: str | None
) -> None:
    assert guess_hosts(arrivals, known).get(rank) == host


def test_ranks_are_named_by_host_and_in_runs() -> None:
    hosts = {**dict.fromkeys(range(8), "a"), 8: "b", 9: "b"}
    assert name_ranks([0, 1, 2, 5, 8, 9, 12], hosts) == "rank 0 to 2, 5 on a; rank 8, 9 on b; rank 12"
    many = {rank: f"n{rank}" for rank in range(9)}
    assert name_ranks(range(9), many).endswith("; the ranks of 5 more hosts")


def test_the_line_while_waiting_and_the_report_name_the_missing() -> None:
    there = came(0, 1, 2, 3, 4, 5)
    hosts = {6: "node3", 7: "node3"}
    assert show_progress(there, 8, hosts) == "6 of 8 ranks; waiting for node3: rank 6, 7"
    report = describe_absent(there, 8, hosts, "node0:29500", 120)
    assert report.startswith("6 of 8 ranks came within 120 s; missing: node3: rank 6, 7;")
    alone = describe_absent(came(0), 8, {}, "node0:29500", 120)
    assert "missing: node0: rank 1; rank 2 to 7;" in alone
    assert "node0:29500" in alone
    assert "--join-timeout" in alone
