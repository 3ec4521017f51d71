"""Findings of an explanation: which part costs most, a sentence on each case, and who is accused of losing time."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from bench.analysis.explain import suspects
from bench.analysis.explain.explain_run import Explanation
from bench.analysis.explain.waterfall import EXPOSED, RESIDUAL, SLOW_MESSAGES, Waterfall
from bench.analysis.findings.kinds import Answer, Figure, Findings, Item, NextStep, Remark, Unmeasured
from bench.core.values import counted, show_seconds
from bench.records.lines.kinds import Measurement

LEAST_SHARES = (0.03, 0.03, 0.10)
"""Shares of a call from which on its largest, second and third part are named besides what runs at peak."""
AT_PEAK = "at peak"
_WORDS: Mapping[str, str] = {
    EXPOSED: "communication",
    SLOW_MESSAGES: "communication",
    RESIDUAL: "not explained",
    "pipeline idle and waiting": "waiting",
    "imbalance of the split": "uneven split",
    "slowest device": "waiting for the slowest device",
}
"""Part of the waterfall -> its words in a sentence, if others; parts of the same words are one."""
_REMEDIES: Mapping[str, str] = {
    "rank": "All others wait for it. Compare its clock, its temperature and other programs there: bench doctor",
    "late": "Look at its input and its host's other work: bench doctor",
    "link": "Check its cable, its port and the route: bench doctor",
}
"""Kind of a suspect -> what to do."""
ACCUSED = 100.0
"""Weight of an accusation besides how many times as long it takes: faults come before what is slow by design."""
FEWEST_RANKS_FOR_LINKS = 4
"""Ranks below which it is unknown which of their links is slow."""


def suspect_remarks(records: Iterable[Measurement]) -> list[Remark]:
    """Ranks and links that are accused, the slowest first; `records` have one for each case and launch."""
    return _remarks(suspects.suspects(records))


def _remarks(found: Iterable[suspects.Suspect]) -> list[Remark]:
    return [
        Remark(
            text=f"{suspect.text[:1].upper()}{suspect.text[1:]}",
            remedy=_REMEDIES[suspect.kind],
            weight=ACCUSED + suspect.times_as_long,
        )
        for suspect in sorted(found, key=lambda suspect: -suspect.times_as_long)
    ]


def findings(explanation: Explanation, most: int | None = None) -> Findings:
    """All findings, with the figures of at most this many cases, the most informative first."""
    found = explanation.suspects
    falls = most_telling(explanation.waterfalls)
    items: list[Item] = [Answer(_answer(explanation, found))]
    items += [figure(fall, explanation.names.across(fall.case)) for fall in falls[:most]]
    items += _remarks(found)
    items += [_unmeasured(reason, cases) for reason, cases in explanation.not_explained.items()]
    hidden = 0 if most is None else max(0, len(falls) - most)
    items += _next_steps(explanation, hidden)
    return Findings(_head(explanation, found), tuple(items))


def most_telling(falls: Sequence[Waterfall]) -> list[Waterfall]:
    """The case of each suite that loses most time, then the next of each, and so on."""
    by_suite: defaultdict[str, list[Waterfall]] = defaultdict(list)
    for fall in sorted(falls, key=lambda fall: fall.peak_seconds - fall.measured_seconds):
        by_suite[fall.case.partition("/")[0]].append(fall)
    places = {fall.case: place for of_suite in by_suite.values() for place, fall in enumerate(of_suite)}
    return sorted((fall for of_suite in by_suite.values() for fall in of_suite), key=lambda fall: places[fall.case])


def figure(fall: Waterfall, name: str) -> Figure:
    """One case: its time, and the largest parts of it in percent that add up to 100."""
    return Figure(
        group="explained",
        name=name,
        text=show_seconds(fall.measured_seconds, 2),
        value=fall.measured_seconds,
        unit="s",
        of=", ".join(f"{percent}% {words}" if words != "other" else f"other {percent}%"
                     for words, percent in sentence_percents(fall).items()),
        case=fall.case,
    )  # fmt: skip


def sentence_percents(fall: Waterfall) -> dict[str, int]:
    """Words -> whole percents of the call that add up to 100: the largest parts, then `other`."""
    shares = part_shares(fall)
    named = [words for words in sorted(shares, key=lambda words: -shares[words]) if words != AT_PEAK]
    kept = {words for words, least in zip(named, LEAST_SHARES, strict=False) if shares[words] >= least} | {AT_PEAK}
    shown = {words: share for words, share in sorted(shares.items(), key=lambda item: -item[1]) if words in kept}
    percents = whole_percents(shown | {"other": 1.0 - sum(shown.values())})
    return {words: percent for words, percent in percents.items() if percent or words == AT_PEAK}


def part_shares(fall: Waterfall) -> dict[str, float]:
    """Words -> share of the call; with what runs at peak they add up to 1."""
    shares: defaultdict[str, float] = defaultdict(float)
    shares[AT_PEAK] = fall.peak_seconds / fall.measured_seconds
    for part in fall.parts:
        if part.seconds is not None:
            shares[_WORDS.get(part.name, part.name)] += part.seconds / fall.measured_seconds
    return dict(shares)


def whole_percents(shares: Mapping[str, float]) -> dict[str, int]:
    """Shares of 1, the last of them the rest, in whole percents that add up to 100.

    Each is rounded as everywhere, and the rest makes up for it. If there is no rest to speak of, those that are nearest
    to the next percent are rounded up.
    """
    exact = {name: 100 * share for name, share in shares.items()}
    *named, rest = exact
    percents = {name: round(exact[name]) for name in named}
    percents[rest] = 100 - sum(percents.values())
    if abs(exact[rest]) >= 0.5 and percents[rest] * exact[rest] >= 0:
        return percents
    percents = {name: int(value // 1) for name, value in exact.items()}
    nearest = sorted(exact, key=lambda name: percents[name] - exact[name])
    for name in nearest[: 100 - sum(percents.values())]:
        percents[name] += 1
    return percents


def _answer(explanation: Explanation, found: Sequence[suspects.Suspect]) -> str:
    """Which part costs most over the cases, and whether a rank or a link is slow."""
    accused = [suspect.name if suspect.kind == "link" else suspect.text for suspect in found[:1]]
    parts = [_largest_part(explanation), *accused] if explanation.waterfalls else accused
    if not accused and _has_ranks(explanation):
        parts.append(suspects.ranks_judged(explanation.records))
    text = "; ".join(parts) or "Nothing here says where the time goes"
    if "emulated" in explanation.architecture:
        text = f"Emulated: {text}"
    return text[0].upper() + text[1:]


def _largest_part(explanation: Explanation) -> str:
    falls = explanation.waterfalls
    shares = [part_shares(fall) for fall in falls]
    words = dict.fromkeys(name for each in shares for name in each)
    medians = {name: median(each.get(name, 0.0) for each in shares) for name in words}
    largest = max((name for name in words if name not in (AT_PEAK, "not explained")), key=medians.__getitem__)
    of = explanation.names.across(falls[0].case) if len(falls) == 1 else f"the median of {len(falls)} cases"
    lost = f"{largest}: {100 * medians[largest]:.0f}% in {of}"
    if medians[AT_PEAK] > medians[largest]:
        return f"Most of the time is {AT_PEAK} ({100 * medians[AT_PEAK]:.0f}%), and the most is lost to {lost}"
    return f"Most time goes to {lost}"


def _has_ranks(explanation: Explanation) -> bool:
    return any(record.num_ranks > 1 for record in explanation.records)


def _head(explanation: Explanation, found: Sequence[suspects.Suspect]) -> str:
    sources = dict.fromkeys(fall.peak_source.partition(" (")[0] for fall in explanation.waterfalls)
    parts = [f"{explanation.path}: {explanation.architecture}"]
    parts += [f"peak: {', '.join(sources)}"] if sources else []
    if _has_ranks(explanation) and not any(suspect.kind == "link" for suspect in found):
        parts.append(suspects.links_judged(explanation.records))
    return "; ".join(parts)


def _unmeasured(reason: str, cases: Sequence[str]) -> Unmeasured:
    return Unmeasured(text=f"their parts: {reason}", num_cases=len(cases), remedy="run the suite compute with them")


def _next_steps(explanation: Explanation, hidden: int) -> list[Item]:
    command = f"bench explain {shlex.quote(str(explanation.path))}"
    steps: list[Item] = []
    if hidden:
        steps.append(NextStep(purpose=counted(hidden, "more case"), command=f"{command} --all"))
    if explanation.waterfalls:
        steps.append(NextStep(purpose="cause by cause", command=f"{command} --waterfall"))
    elif not explanation.not_explained:
        steps.append(NextStep(purpose="a step in its parts", command="bench run training_step"))
    most_ranks = max(record.num_ranks for record in explanation.records)
    has_pairs = any(record.suite == suspects.POINT_TO_POINT for record in explanation.records)
    if most_ranks >= FEWEST_RANKS_FOR_LINKS and not has_pairs:
        steps.append(NextStep(purpose="slow links", command="bench run point_to_point"))
    return steps
