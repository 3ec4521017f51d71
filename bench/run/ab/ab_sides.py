"""Plan of `bench ab`: the setting of each side, the number of pairs, their order, their time.

A launch of one side is followed by a launch of the other, so that a machine that grows slower by the minute slows both.
The order turns round from pair to pair (ABBA), so that neither side always comes first.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.masking.secret_names import is_secret_name
from bench.core.values import parse_seconds
from bench.errors import BenchError
from bench.measure.planning.presets import PRESETS
from bench.records.lines.header import PlannedCase
from bench.records.privacy.recorded import mask_command
from bench.records.saved_plan import SIDES, UNCHANGED
from bench.run.ab import ab_budget

DEFAULT_PAIRS = 10

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_OF_BOTH = {
    "suites": "both sides measure the same SUITEs; name them before the options",
    "launches": "--pairs says how many launches each side makes",
    "budget": "--budget outside the quotes is for both sides together",
    "seed": "--seed outside the quotes gives both sides the same order and inputs",
    "label": "--label outside the quotes names both files",
    "output": "-o outside the quotes is the folder of both files",
    "launcher": "both sides start their own ranks",
    "resume": "both sides are measured again",
    "like": "both sides are measured again",
    "against": "the two sides are compared with each other",
    "allow_unlike": "both sides are measured again",
    "one_launch": "`bench ab` hands that to each side itself",
    "save_as": "`bench ab` hands that to each side itself",
    "pair": "`bench ab` hands that to each side itself",
    "plan_only": "`bench ab` asks for that itself",
    "launch_seconds": "`bench ab` hands that to each side itself",
    "busy": "`bench ab` judges no machine",
}
"""Options of `bench run` that one side cannot have alone, and why."""


@dataclass(frozen=True)
class Setting:
    """One of the two settings."""

    name: str
    """"a" or "b"."""
    python: str
    variables: tuple[tuple[str, str], ...]
    options: tuple[str, ...]
    """Words for `bench run`."""
    device: str | None
    """Device of `options`; a resumed run needs it again."""
    sets: frozenset[str]
    """Keys of its own --set, which take the place of those that both sides were given."""
    setting: str
    """Setting as one would type it; `unchanged` if nothing was typed."""
    bench_root: Path | None = None
    """Folder of the bench that the side runs; None: the one that runs now."""
    folder: Path | None = None
    """Working directory of its launches; None: that of this process."""
    suites: tuple[str, ...] | None = None
    """Suites in place of those that both sides were given."""

    def does_as(self, other: Setting) -> bool:
        return (self.python, self.variables, self.options) == (other.python, other.variables, other.options)


ReadOptions = Callable[[list[str]], dict[str, Any]]
"""Words for `bench run` -> the options that they set. Raises BenchError for what it does not take."""


def side(name: str, texts: Sequence[str], python: str | None, default_python: str, read: ReadOptions) -> Setting:
    """A side from its `--a` or `--b` texts and its interpreter (None: not said).

    A text that begins with "-" is options of `bench run`, any other one NAME=VALUE, a variable of the environment.
    Raises BenchError for a text that is neither, for what only both sides can have, and for a name that speaks of a
    secret, since the settings of a side are recorded.
    """
    words: list[str] = []
    variables: dict[str, str] = {}
    for text in texts:
        if text.lstrip().startswith("-"):
            words += _option_words(name, text)
            continue
        variable, value = _variable(name, text)
        if variable in variables:
            raise BenchError(f"--{name} {text}: {variable} is set twice on this side; leave one out")
        variables[variable] = value
    given = _checked_options(name, words, read)
    # The file says what was set, without the secrets in it; the launches get all of it.
    shown = mask_command([f"{variable}={value}" for variable, value in variables.items()])
    words_text = [f"{n}={shlex.quote(v)}" for n, _, v in (text.partition("=") for text in shown)]
    words_text += map(shlex.quote, mask_command(words))
    if python is not None:
        words_text.append(f"python {shlex.quote(python)}")
    return Setting(
        name=name,
        python=default_python if python is None else find_python(name, python),
        variables=tuple(sorted(variables.items())),
        options=tuple(words),
        device=given.get("device"),
        sets=frozenset(_key(text) for text in given.get("settings", ())),
        setting=" ".join(words_text) or UNCHANGED,
    )


def _option_words(name: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BenchError(f"--{name} {text}: cannot be taken apart into words ({error}); mind the quotes") from error


def _variable(name: str, text: str) -> tuple[str, str]:
    variable, separator, value = text.partition("=")
    if not separator or not _VARIABLE.fullmatch(variable):
        raise BenchError(
            f'--{name} {text}: a variable is NAME=VALUE, such as NCCL_ALGO=Ring; options begin with "-", '
            f'such as --{name} "--backend gloo"'
        )
    if is_secret_name(variable):
        # Its value is kept out of this message, too.
        raise BenchError(
            f"--{name} {variable}=...: the name speaks of a secret, and what is set on a side is recorded; set it for "
            "both sides in the environment"
        )
    if "\0" in value:
        raise BenchError(f"--{name} {variable}=...: a value cannot hold a NUL character")
    return variable, value


def _checked_options(name: str, words: Sequence[str], read: ReadOptions) -> dict[str, Any]:
    """Options of `bench run` in the words. Raises BenchError for those that it, or one side alone, cannot have."""
    shown = f'--{name} "{shlex.join(words)}"'
    try:
        given = read(list(words))
    except BenchError as error:
        raise BenchError(f"{shown}: {error}") from error
    for option in given:
        if option in _OF_BOTH:
            raise BenchError(f"{shown}: {_OF_BOTH[option]}")
    return given


def find_python(name: str, text: str) -> str:
    """The path of an interpreter, absolute, but not through its link: that is what makes an environment of it.

    Raises BenchError if it is none that can be started.
    """
    path = shutil.which(text)
    if path is not None:
        return str(Path(path).absolute())
    inside = Path(text) / "bin" / "python"
    hint = f"did you mean {inside}?" if inside.exists() else "give the path of an interpreter, such as pr/bin/python"
    raise BenchError(f"--{name}-python {text}: no program of that name can be started; {hint}")


def sides(
    texts: tuple[Sequence[str], Sequence[str]],
    pythons: tuple[str | None, str | None],
    default_python: str,
    read: ReadOptions,
) -> tuple[Setting, Setting]:
    """Both sides. Raises BenchError as `side` does, and if they are alike and only one of them was given.

    Two sides that are both given and alike are an A/A check: how far apart are equal sides here?
    """
    a, b = (side(*given, default_python, read) for given in zip(SIDES, texts, pythons, strict=True))
    both_said = all(text or python is not None for text, python in zip(texts, pythons, strict=True))
    if a.does_as(b) and not both_said:
        raise BenchError(
            "the two sides do not differ; set something on one, such as --b NCCL_ALGO=Tree, --b '--backend gloo' or "
            "--b-python pr/bin/python (or the same on both, to see how far apart two equal sides are)"
        )
    return a, b


@dataclass(frozen=True)
class PairSchedule:
    """Number of pairs, and the time of each launch."""

    pairs: int
    launch_seconds: float | None
    """All that is part of it; None: as long as it needs. Within a budget this is what is planned, and what it comes to
    is seen launch by launch."""
    budget_seconds: float | None
    """Time for all launches; None: no budget."""

    @property
    def side_seconds(self) -> float | None:
        """The budget of one side's run."""
        return None if self.launch_seconds is None else self.launch_seconds * self.pairs

    @property
    def most_seconds(self) -> float | None:
        """An upper bound of the whole; None: not known."""
        if self.budget_seconds is not None or self.side_seconds is None:
            return self.budget_seconds
        return len(SIDES) * self.side_seconds


@dataclass(frozen=True)
class PairRequest:
    """Pairs and budget that the user asked for."""

    pairs: int
    budget: str | None
    """Text that the user typed."""

    @property
    def budget_seconds(self) -> float | None:
        return None if self.budget is None else parse_seconds("--budget", self.budget)


def parse_pair_request(pairs: int | None, budget: str | None) -> PairRequest:
    """Check both options. Raises BenchError for a number of pairs that is none, and for a budget that is not a time."""
    request = PairRequest(DEFAULT_PAIRS if pairs is None else pairs, budget)
    if request.pairs < 2:
        raise BenchError(f"--pairs {request.pairs}: at least 2, better {DEFAULT_PAIRS}; one pair has no error bar")
    assert request.budget_seconds is None or request.budget_seconds > 0
    return request


def schedule(preset: str, asked: PairRequest, cases: Sequence[PlannedCase], spent_seconds: float = 0.0) -> PairSchedule:
    """Schedule of the pairs asked for, or of fewer if a budget has no room for them even at the least cost.

    Without a budget each launch has what the preset gives a launch. Raises BenchError for a budget that cannot hold the
    fewest pairs that make sense; `spent_seconds` of it are over.
    """
    seconds = asked.budget_seconds
    if seconds is None:
        base = PRESETS[preset]
        launch_seconds = None if base.budget_seconds is None else base.budget_seconds / base.launches
        return PairSchedule(asked.pairs, launch_seconds, None)
    room, cost = ab_budget.launch_budget(seconds) - spent_seconds, ab_budget.guess_cost(cases)
    fitting = min(asked.pairs, ab_budget.pairs_within(room, cost))
    fewest = min(ab_budget.FEWEST_PAIRS, asked.pairs)
    if fitting < fewest:
        raise ab_budget.too_short(str(asked.budget), cost, fewest, spent_seconds, is_known=False)
    return PairSchedule(fitting, room / len(SIDES) / fitting, seconds)


def order(pair: int) -> tuple[int, int]:
    """Sides of a pair in their order, which alternates: ABBA."""
    return (1, 0) if pair % 2 else (0, 1)


def first_words(
    given: Sequence[str], suites: Sequence[str], chosen: Setting, plan: PairSchedule, label: str, file: Path, pair: str
) -> list[str]:
    """Words for `bench run` to plan a side and do its first launch; `given` are the options of both sides."""
    seconds = plan.side_seconds
    return [
        "run",
        *_without(given, chosen.sets),
        *chosen.options,
        *("--launcher", "local", "--launches", str(plan.pairs), "--label", f"{label}-{chosen.name}"),
        *(() if seconds is None else ("--budget", f"{seconds:.3f}s")),
        *("--one-launch", "0", "--save-as", str(file.absolute()), "--pair", pair),
        *("--", *(suites if chosen.suites is None else chosen.suites)),
    ]


def _key(setting: str) -> str:
    """Key of a --set."""
    return setting.partition("=")[0].strip()


def _without(words: Sequence[str], keys: Collection[str]) -> list[str]:
    """The words, each an option or its value by turns, without a --set of these keys."""
    pairs = zip(words[::2], words[1::2], strict=True)
    return [word for pair in pairs if pair[0] != "--set" or _key(pair[1]) not in keys for word in pair]


def next_words(launch: int, chosen: Setting, device: str | None, file: Path) -> list[str]:
    """Words for `bench run` to do a later launch of a side's file; its plan is in the file."""
    device = chosen.device or device
    words = ["run", "--resume", str(file.absolute()), "--one-launch", str(launch), "--launcher", "local"]
    return words if device is None else [*words, "--device", device]


def timed_words(words: Sequence[str], seconds: float | None) -> list[str]:
    """Words of a launch with this much time for all of it; None: as its plan says."""
    given = () if seconds is None else ("--launch-seconds", f"{seconds:.3f}")
    return [words[0], *given, *words[1:]]


def asking_words(given: Sequence[str], suites: Sequence[str], chosen: Setting) -> list[str]:
    """Words for `bench run` to print the plan of a side."""
    own = suites if chosen.suites is None else chosen.suites
    return ["run", *_without(given, chosen.sets), *chosen.options, "--launcher", "local", "--plan-only", "--", *own]
