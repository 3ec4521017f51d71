"""The longest-path engine against a plain recursion, and what it refuses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bench.analysis.explain.dag import Dag, edges


def test_a_chain_adds_up_and_a_meeting_waits_for_the_last() -> None:
    graph = Dag(4, *edges([(0, 1), (1, 3), (2, 3)]))
    seconds = np.array([[1.0, 2.0], [2.0, 2.0], [5.0, 1.0], [1.0, 1.0]])
    assert graph.ends(seconds).tolist() == [[1.0, 2.0], [3.0, 4.0], [5.0, 1.0], [6.0, 5.0]]
    assert graph.makespans(seconds).tolist() == [6.0, 5.0]
    assert graph.depth == 3


def test_random_graphs_end_as_a_recursion_says() -> None:
    random = np.random.default_rng(7)
    for num_nodes in (1, 2, 30, 200):
        pairs = {tuple(sorted(pair)) for pair in random.integers(0, num_nodes, (3 * num_nodes, 2)).tolist()}
        names = random.permutation(num_nodes)  # so that the order of the numbers is not that of the graph
        waits = [(int(names[a]), int(names[b])) for a, b in pairs if a != b]
        seconds = random.exponential(size=(num_nodes, 2))
        before: dict[int, list[int]] = {node: [a for a, b in waits if b == node] for node in range(num_nodes)}

        @cache
        def end(node: int, lane: int, before: tuple[tuple[int, ...], ...], seconds: bytes) -> float:
            own = np.frombuffer(seconds).reshape(-1, 2)[node, lane]
            return float(own + max((end(b, lane, before, seconds) for b in before[node]), default=0.0))

        table, raw = tuple(tuple(before[node]) for node in range(num_nodes)), seconds.tobytes()
        expected = [[end(node, lane, table, raw) for lane in (0, 1)] for node in range(num_nodes)]
        assert np.allclose(Dag(num_nodes, *edges(waits)).ends(seconds), expected)


def test_edges_given_twice_count_once() -> None:
    graph = Dag(2, *edges([(0, 1), (0, 1)]))
    assert graph.makespans(np.ones((2, 1))).tolist() == [2.0]


def test_a_circle_is_refused_with_its_size() -> None:
    with pytest.raises(ValueError, match="2 of 3 operations wait for each other"):
        Dag(3, *edges([(0, 1), (1, 2), (2, 1)]))
