"""Shares what time is left among the turns that are left, the most informative first if it does not suffice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.core import clock
from bench.measure.planning.plan import Turn
from bench.measure.planning.visit_overhead import VisitCost, VisitOverheads, guess_overhead

MIN_SAMPLING_SECONDS = 0.03
MIN_LATER_SECONDS = 0.1
"""A case is taken up again only if all that is to be done then gets this much time for its samples, on average."""
LATE_SHARE = 0.25
"""Share of its time by which a turn that lasts may end late, if cases before it took more than was foreseen."""
FAIR_SHARES = 4.0
"""Most that a turn may take before all others had theirs, in equal shares of the time left."""


class NextTurn(NamedTuple):
    """The next turn and what it may take."""

    turn: Turn
    seconds: float
    """Time for its samples."""
    most_seconds: float | None
    """Limit for the whole turn, the work around the samples included; None: there is no limit."""
    aim_seconds: float | None = None
    """Time to stay within if it allows a few samples; None: `most_seconds`."""
    is_dear: bool = False
    """True: the case was postponed and has its turn now, with one warm-up and three samples."""


@dataclass(frozen=True)
class _Room:
    """The turns that the time left suffices for."""

    turns: frozenset[Turn]
    share_seconds: float
    """Time for the samples of each turn that is not expensive."""
    seconds: float
    """The whole time left."""


class TimeBudget:
    """Chooses the next turn and its time; only rank 0's counts.

    The time of a turn besides its samples (prepare, checks, warm-up, trace) is learnt on the way
    (`visit_overhead`). If time is short, later visits are postponed first and then the cases that come
    last in the plan. A postponed visit is not yet left out: it is done after all if better estimates leave room
    for it. A case whose first call shows that it takes more than FAIR_SHARES equal shares waits until all others had
    their turn. A visit that was disturbed brings one more to its case, after all others and if there is time for it.
    """

    def __init__(
        self,
        seconds_left: float | None,
        cap_seconds: float,
        pending: Sequence[Turn],
        suites: Sequence[str],
        visits: int = 1,
        now: Callable[[], float] = clock.monotonic_seconds,
        lasts: Callable[[Turn], float] = lambda turn: 0.0,
        known: Mapping[int, VisitCost] | None = None,
    ) -> None:
        """`suites` has the suite's name of every case in the plan, `cap_seconds` is for the samples of one visit,
        `visits` are planned to each case. `lasts` says for how long a turn is sampled at least; `known` is what earlier
        launches have shown of cases, by index.
        """
        self.cap_seconds = cap_seconds
        self._lasts = lasts
        self.left = list(pending)
        self.suites = suites
        self.visits = visits
        self.further: Counter[int] = Counter()
        """Index of a case -> number of visits beyond the planned ones."""
        self.overheads = VisitOverheads(suites, known)
        self.dear: dict[int, float] = {}
        """Index of a case that was postponed -> seconds of its turn."""
        self._dropped: dict[int, list[Turn]] = {}
        """Further visits to these: one turn of them is enough."""
        self._first = {suite: suites.index(suite) for suite in dict.fromkeys(suites)}
        self._num_planned = self._num_disturbed = 0
        self._now = now
        self._ends = None if seconds_left is None else now() + seconds_left
        for turn in list(self.left) if self._ends is not None else ():
            dear = known[turn[0]].dear_seconds if known and turn[0] in known else None
            if dear is not None and not turn[1]:
                self.put_off(turn, dear)

    def seconds_left(self) -> float | None:
        """Return the launch's time left; None: there is no limit."""
        return None if self._ends is None else self._ends - self._now()

    def choose(self) -> NextTurn | None:
        """The next turn, and what it may take; None: no time is left for any."""
        if not self.left:
            return None
        seconds = self.seconds_left()
        if seconds is None:
            return NextTurn(self.left[0], max(self.cap_seconds, self._lasts(self.left[0])), None)
        room = self._room(seconds)
        if not room.turns:
            return None
        turn = min((turn for turn in self.left if turn in room.turns), key=self._rank)
        if turn[0] in self.dear:
            return NextTurn(turn, 0.0, seconds, seconds, is_dear=True)
        sampling = self._sampling(turn, room.share_seconds)
        if self._lasts(turn):
            return NextTurn(turn, sampling, None)
        most = min(seconds, FAIR_SHARES * seconds / len(room.turns))
        aim = min(most, self._first_share(turn, seconds)) if self._is_first(turn) else most
        return NextTurn(turn, sampling, most, aim)

    def _first_share(self, turn: Turn, seconds: float) -> float:
        """Return a suite's first case's part of these seconds if every suite without a number is to get one."""
        waiting = [other for other in self.left if self._is_first(other) and other[0] not in self.dear]
        return seconds * self._weight(turn) / sum(map(self._weight, waiting))

    def _weight(self, turn: Turn) -> float:
        return guess_overhead(self.suites[turn[0]]) + self.cap_seconds

    def _is_first(self, turn: Turn) -> bool:
        """Return True for the first visit to the first case of its suite."""
        return not turn[1] and self._first[self.suites[turn[0]]] == turn[0]

    def _rank(self, turn: Turn) -> tuple[bool, bool]:
        """Planned turns first, then those that were postponed, then what disturbances have brought."""
        return turn[1] >= self.visits, turn[0] in self.dear

    def _sampling(self, turn: Turn, share_seconds: float) -> float:
        return max(MIN_SAMPLING_SECONDS, self._lasts(turn), min(self.cap_seconds, share_seconds))

    def _room(self, seconds: float) -> _Room:
        """Take as many turns as the seconds suffice for, the most informative first."""
        fitting: set[Turn] = set()
        around, num_dear = 0.0, 0
        for turn in sorted(self.left, key=self._priority):
            cost, is_dear = self._cost(turn), turn[0] in self.dear
            if self._is_first(turn) and not is_dear and not self._lasts(turn):
                # Not left out for what is only guessed of a slow machine: after its first call it keeps to its share.
                share = self._first_share(turn, seconds) - MIN_SAMPLING_SECONDS
                cost = min(cost, max(guess_overhead(self.suites[turn[0]]), share))
            least = 0.0 if is_dear else MIN_LATER_SECONDS if turn[1] else MIN_SAMPLING_SECONDS
            late = LATE_SHARE * self._lasts(turn)
            if around + cost + (len(fitting) - num_dear) * least + least <= seconds + late:
                fitting.add(turn)
                around += cost
                num_dear += is_dear
        return _Room(frozenset(fitting), (seconds - around) / max(1, len(fitting) - num_dear), seconds)

    def _priority(self, turn: Turn) -> tuple[bool, int, bool, bool, int]:
        """Order lasting cases first, whose time is set aside, then first visits before later ones, each suite's first
        case before the others in the plan's order.

        Expensive ones would take the time of many others, so they come after those; but a suite is to have its number.
        """
        index, visit = turn
        return not self._lasts(turn), visit, not self._is_first(turn), index in self.dear, index

    def _cost(self, turn: Turn) -> float:
        """Return the seconds of a turn besides samples that could be fewer."""
        dear = self.dear.get(turn[0])
        return self.overheads.expected_seconds(turn[0]) + self._lasts(turn) if dear is None else dear

    def turn_seconds(self, choice: NextTurn) -> float:
        """Estimate the whole time of the next turn."""
        index = choice.turn[0]
        return self.dear[index] if choice.is_dear else self.overheads.expected_seconds(index) + choice.seconds

    def finish(
        self, turn: Turn, seconds: float, sampling_seconds: float, disturbed: bool = False, measured: bool = True
    ) -> float:
        """A turn is done; it took so long, of which this much was meant for its samples. Returns the rest.

        What was not `measured` (skipped, failed) tells nothing of what measuring takes.
        If it was `disturbed` its case is taken up once more, in the end: foreign load comes in spells. At most as
        many visits are added as the plan has, since a machine that is never calm would double its work for nothing.
        """
        self.left.remove(turn)
        index, around = turn[0], max(0.0, seconds - sampling_seconds)
        if index in self.dear or not measured:
            return around
        self.overheads.learn(index, around)
        if turn[1] < self.visits:
            self._num_planned += 1
            self._num_disturbed += disturbed
        if disturbed and not self._lasts(turn) and self.further[index] < self.visits:
            self.left.append((index, self.visits + self.further[index]))
            self.further[index] += 1
        return around

    def put_off(self, turn: Turn, seconds: float) -> list[Turn]:
        """A turn would take more than it may; once all others had theirs it will take this many seconds.

        A later visit adds to samples that are there, and those of the case alone would be unlike them: it is not made.
        Returns what was planned and will not be done.
        """
        index = turn[0]
        if turn[1]:
            self.left.remove(turn)
            return [turn] if turn[1] < self.visits else []
        self.dear[index] = seconds
        self._dropped[index] = [other for other in self.left if other[0] == index and other != turn]
        self.left = [other for other in self.left if other not in self._dropped[index]]
        return []

    def give_up(self, index: int) -> list[Turn]:
        """Give up further visits to a case that failed, cannot run here, or is expensive; return the planned ones."""
        given_up = [turn for turn in self.left if turn[0] == index] + self._dropped.pop(index, [])
        self.left = [turn for turn in self.left if turn[0] != index]
        return [turn for turn in given_up if turn[1] < self.visits]

    def undone_turns(self) -> list[Turn]:
        """Planned turns for which no time was left."""
        dropped = [turn for turns in self._dropped.values() for turn in turns]
        return [turn for turn in (*self.left, *dropped) if turn[1] < self.visits]

    def expected_seconds(self) -> float:
        """Estimate the time of all turns that will still be done in this launch; if not all fit, its time left."""
        seconds = self.seconds_left()
        if not self.left:
            return 0.0
        room = _Room(frozenset(self.left), self.cap_seconds, 0.0) if seconds is None else self._room(max(0.0, seconds))
        if seconds is not None and len(room.turns) < len(self.left):
            return max(0.0, seconds)
        normal = [turn for turn in room.turns if turn[0] not in self.dear]
        around = sum(self._cost(turn) for turn in room.turns)
        sampling = sum(self._sampling(turn, room.share_seconds) - self._lasts(turn) for turn in normal)
        planned = [turn for turn in normal if turn[1] < self.visits and not self._lasts(turn)]
        # As often as visits were disturbed so far, they will be, and each brings another.
        share = self._num_disturbed / self._num_planned if self._num_planned else 0.0
        expected = around + sampling + len(planned) * share * (around + sampling) / len(room.turns)
        return expected if seconds is None else min(expected, max(0.0, seconds))

    def whole_launch_seconds(self) -> float:
        """Estimate the time of all planned turns of a launch, as far as it is known by now."""
        indices = range(len(self.suites))
        dear = sum(self.dear.values())
        return dear + sum(
            self.visits * (self.overheads.expected_seconds(index) + self.cap_seconds)
            for index in indices
            if index not in self.dear
        )
