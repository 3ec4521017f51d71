"""Shares what time is left among the turns that are left, the most telling first where it does not suffice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from bench import clock
from bench.plan import Turn

MIN_SAMPLING_SECONDS = 0.03
MIN_LATER_SECONDS = 0.1
"""A case is taken up again only where all that is to be done then gets so much time for its samples, on average."""
FIRST_OVERHEAD_SECONDS = 0.2
"""Before any is known; with the least sampling it stays below what the plan allows a case at least."""
LEARNING_SHARE = 0.3
LATE_SHARE = 0.25
"""Of its time, by which a turn that lasts may end late, where cases before it took more than was foreseen."""


class Pace:
    """Chooses the next turn and its time; only rank 0's counts.

    What a turn takes besides its samples (prepare, check, warm-up, trace) is learnt on the way, suite by suite. Where
    time is short, later visits are put off first and then the cases that come last in the plan, and put off is not yet
    left out: once what is known better leaves room for them they are done after all. A visit that was disturbed brings
    one more to its case, after all others and where there is time for it.
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
    ) -> None:
        """`suites` has the suite's name of every case in the plan, `cap_seconds` is for the samples of one visit,
        `visits` are planned to each case; `lasts` says for how long a turn is sampled at least.
        """
        self.cap_seconds = cap_seconds
        self._lasts = lasts
        self.left = list(pending)
        self.suites = suites
        self.visits = visits
        self.further: Counter[int] = Counter()
        """Index of a case -> visits beyond the planned ones."""
        self.overhead_seconds = dict.fromkeys(suites, FIRST_OVERHEAD_SECONDS)
        self._now = now
        self._ends = None if seconds_left is None else now() + seconds_left

    def choose(self) -> tuple[Turn, float] | None:
        """The next turn, and seconds for its samples; None: no time is left for any."""
        if not self.left:
            return None
        if self._ends is None:
            return self.left[0], max(self.cap_seconds, self._lasts(self.left[0]))
        seconds = self._ends - self._now()
        fitting = self._fitting(seconds)
        if not fitting:
            return None
        around = sum(self._overhead(turn) for turn in fitting)
        share = (seconds - around) / len(fitting)
        turn = next(turn for turn in self.left if turn in fitting)
        return turn, max(MIN_SAMPLING_SECONDS, self._lasts(turn), min(self.cap_seconds, share))

    def _fitting(self, seconds: float) -> set[Turn]:
        """As many of the turns as the seconds suffice for: what lasts, whose time is set aside, then first visits
        before later ones, in the plan's order."""
        fitting: set[Turn] = set()
        around = 0.0
        for turn in sorted(self.left, key=lambda turn: (not self._lasts(turn), turn[1], turn[0])):
            overhead = self._overhead(turn)
            least = MIN_LATER_SECONDS if turn[1] else MIN_SAMPLING_SECONDS
            late = LATE_SHARE * self._lasts(turn)
            if around + overhead + (len(fitting) + 1) * least <= seconds + late:
                fitting.add(turn)
                around += overhead
        return fitting

    def _overhead(self, turn: Turn) -> float:
        """What a turn takes besides samples that could be fewer."""
        return self.overhead_seconds[self.suites[turn[0]]] + self._lasts(turn)

    def finished(self, turn: Turn, seconds: float, sampling_seconds: float, disturbed: bool = False) -> None:
        """A turn is done; it took so long, of which so much was meant for its samples.

        Where it was `disturbed` its case is taken up once more, in the end: foreign load comes in spells. At most as
        many visits are added as were planned, since a machine that is never calm would double its work for nothing.
        """
        self.left.remove(turn)
        suite = self.suites[turn[0]]
        extra = max(0.0, seconds - sampling_seconds)
        self.overhead_seconds[suite] += LEARNING_SHARE * (extra - self.overhead_seconds[suite])
        index = turn[0]
        if disturbed and not self._lasts(turn) and self.further[index] < self.visits:
            self.left.append((index, self.visits + self.further[index]))
            self.further[index] += 1

    def give_up(self, index: int) -> None:
        """No further visit to a case: it has failed, or cannot run here."""
        self.left = [turn for turn in self.left if turn[0] != index]
