"""Rounds of a tournament: every pair meets once, and no rank has two partners at a time."""

from __future__ import annotations

from collections.abc import Sequence

Round = tuple[tuple[int, int], ...]
"""Disjoint pairs of ranks that exchange at the same time."""


def tournament(count: int) -> list[Round]:
    """Each two of `count` players once: count - 1 rounds, or count where it is odd and one rests in each.

    The circle method of round-robin tournaments (T. P. Kirkman 1847): one player stays, the others move on by a seat.
    """
    if count < 2:
        return []
    seats = list(range(count + count % 2))
    rounds: list[Round] = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        facing = zip(seats[:half], reversed(seats[half:]), strict=True)
        rounds.append(tuple((min(pair), max(pair)) for pair in facing if max(pair) < count))
        seats = [seats[0], seats[-1], *seats[1:-1]]
    return rounds


def rounds_of_ranks(hosts: Sequence[int]) -> list[Round]:
    """Every pair of ranks once; `hosts` has the host of each rank.

    With as many ranks on every host, a round is either within the hosts or across them. So all the pairs of a
    round are alike, and across hosts all the ranks of a host use its network at once, as in training.
    """
    members = _by_host(hosts)
    sizes = {len(ranks) for ranks in members}
    if len(sizes) > 1:
        return tournament(len(hosts))
    (size,) = sizes
    within = [tuple((ranks[a], ranks[b]) for ranks in members for a, b in one_round) for one_round in tournament(size)]
    across = [
        tuple((members[x][k], members[y][(k + shift) % size]) for x, y in one_round for k in range(size))
        for one_round in tournament(len(members))
        for shift in range(size)
    ]
    return within + across


def rounds_of_hosts(hosts: Sequence[int]) -> list[Round]:
    """Every pair of hosts once: their ranks exchange at once, each with the one of its position on the other host."""
    members = _by_host(hosts)
    return [
        tuple(pair for x, y in one_round for pair in zip(members[x], members[y], strict=False))
        for one_round in tournament(len(members))
    ]


def _by_host(hosts: Sequence[int]) -> list[list[int]]:
    return [[rank for rank, host in enumerate(hosts) if host == name] for name in dict.fromkeys(hosts)]
