"""The launches of `bench ab` on a clock of its own: order, budget, failures and resuming."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from bench.cli.run_command import given_options
from bench.core import exit_codes
from bench.core.crash.unforeseen import code_of
from bench.errors import BenchError
from bench.measure.planning.session import BUDGET_REASON
from bench.records.file import load
from bench.records.lines.header import PlannedCase
from bench.records.lines.kinds import Measurement
from bench.records.run_file.run_file import RunFile
from bench.records.saved_plan import parse_pair
from bench.records.visits import num_samples
from bench.run.ab.ab_resume import ResumedPair, resume_pair
from bench.run.ab.ab_sides import PairSchedule, Setting, parse_pair_request, schedule, sides
from bench.run.ab.alternation import AbOptions, Alternation
from bench.run.ab.child import LaunchEnd
from tests.support.results import header, line, measurement, not_ok, planned, save


class Fake:
    """Stands in for the processes: writes a side's lines as a run would, and takes its time for every launch.

    A launch starts for `startup` seconds, then does cases that take `around` seconds and `each` a sample, as many
    samples as there is time for, at least 6 and at most those of the preset's time; what there is no time for is left
    out.
    """

    def __init__(
        self, folder: Path, ends: Callable[[int], LaunchEnd] = lambda _: LaunchEnd(0, ""), startup: float = 10.0
    ):
        self.said: list[list[str]] = []
        self.sides: list[str] = []
        self.time = 100.0
        self.ends, self.startup = ends, startup
        self.around, self.each, self.num_cases = 0.2, 0.005, 1
        self.files = (folder / "a.jsonl", folder / "b.jsonl")
        self.plan: dict[str, object] = {}

    def __call__(self, which: Setting, words: Sequence[str]) -> LaunchEnd:
        self.said.append(list(words))
        self.sides.append(which.name)
        self.time += self.startup
        said = dict(pairwise(words))
        path = Path(said.get("--save-as") or said["--resume"])
        if not path.exists():
            cases = [planned(f"sum/n[size={n}]") for n in range(self.num_cases)]
            save(path, header(plan={"cases": cases, "case_seconds": 0.5, "visits": 1} | self.plan))
        left = float(said.get("--launch-seconds", "inf")) - self.startup
        with RunFile.resume(path) as writer:
            for record in self._records(int(said["--one-launch"]), left):
                writer.append(record)
                self.time += record.seconds or 0.0
        return self.ends(len(self.said))

    def _records(self, launch: int, left: float) -> Iterator[Measurement]:
        for n in range(self.num_cases):
            name = f"sum/n[size={n}]"
            seconds = min(0.5, left / (self.num_cases - n) - self.around)
            count = max(6, int(seconds / self.each))
            took = self.around + count * self.each
            if seconds < 0:
                yield line(not_ok(name, "skipped", BUDGET_REASON, launch) | {"seconds": None})
                continue
            left -= took
            rows = [[round(1e9 * self.each)] * count] * 2
            yield line(measurement(name, rows, launch, seconds=took))

    def samples(self) -> dict[int, list[int]]:
        """Launch -> samples of each measured case, of the side that has fewer."""
        found: dict[int, list[list[int]]] = {}
        for path in self.files:
            by_launch: dict[int, list[int]] = {}
            for record in load(path).measurements:
                by_launch.setdefault(record.launch, []).append(num_samples(record))
            for launch, counts in by_launch.items():
                found.setdefault(launch, []).append(counts)
        return {launch: min(counts) for launch, counts in found.items() if len(counts) == 2}

    def alternation(self, planned: PairSchedule, options: AbOptions | None = None) -> Alternation:
        both = sides(((), ("X=1", "--device cpu")), (None, None), sys.executable, given_options)
        return Alternation(
            options or AbOptions(), both, planned, self.files, self, began=self.time, now=lambda: self.time
        )

    def within(self, budget: str, pairs: int | None = None, spent: float = 0.0) -> Alternation:
        """As the command plans one, after it has spent some seconds."""
        cases = [PlannedCase("sum", f"sum/n[size={n}]", {}) for n in range(self.num_cases)]
        planned = schedule("smoke", parse_pair_request(pairs, budget), cases, spent)
        alternation = self.alternation(planned, AbOptions(budget=budget))
        self.time += spent
        return alternation


def test_launches_alternate_and_go_on_with_their_own_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake = Fake(tmp_path)
    fake.alternation(
        PairSchedule(3, 20.0, None), AbOptions(suites=("x.py",), given=("--ranks", "1"), label="try")
    ).run()
    assert "".join(fake.sides) == "abbaab"
    a, b = fake.said[:2]
    shared_words = "--ranks 1 {}--launcher local --launches 3 --label try-{} --budget 60.000s --one-launch 0"
    assert shlex.join(a).startswith(f"run --preset smoke {shared_words.format('', 'a')} --save-as {tmp_path}/a.jsonl")
    assert shlex.join(b).startswith(f"run --preset smoke {shared_words.format('--device cpu ', 'b')}")
    assert a[-2:] == b[-2:] == ["--", "x.py"]
    of_a, of_b = (parse_pair(words[words.index("--pair") + 1]) for words in (a, b))
    assert of_a.id == of_b.id
    assert (of_a.side, of_b.side, of_a.setting, of_b.setting) == ("a", "b", "unchanged", "X=1 --device cpu")
    again = f"--resume {tmp_path}/b.jsonl --one-launch {{}} --launcher local --device cpu"
    assert [shlex.join(words) for words in (fake.said[2], fake.said[5])] == [
        f"run {again.format(1)}",
        f"run {again.format(2)}",
    ]
    assert shlex.join(fake.said[4]) == f"run --resume {tmp_path}/a.jsonl --one-launch 2 --launcher local"
    assert not [word for words in fake.said for word in words if word == "--launch-seconds"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "3 pairs of launches in the order a b b a, at most 2 min"
    assert lines[1] == "pair 1 of 3: a unchanged"
    assert lines[3] == "pair 2 of 3: b X=1 --device cpu, about 43 s left"


def test_a_budget_that_is_too_short_is_refused_at_once_with_the_time_that_it_takes(tmp_path: Path) -> None:
    fake = Fake(tmp_path, startup=13.0)
    fake.num_cases = 10
    # A launch has 85 s / 6, which is not enough for a single case after 13 s: half as much again is the least advice.
    said = "^--budget 90s is too short: starting takes 13 s here; 3 pairs of 10 cases need about 2.5m; give more, or "
    with pytest.raises(BenchError, match=said):
        fake.within("90s").run()
    assert len(fake.said) == 1
    assert list(tmp_path.iterdir()) == []
    # What no machine could do is refused before the first launch.
    fake.num_cases = 100
    said = r"starting takes about 6 s here; 3 pairs of 100 cases need at least 4.5m; give more, or name fewer cases$"
    with pytest.raises(BenchError, match=said):
        fake.within("2m")
    with pytest.raises(BenchError, match=r"2 pairs of 1 case need at least 40s"):
        Fake(tmp_path).within("20s", pairs=2)


def test_a_machine_that_grows_slower_costs_pairs_and_then_samples(tmp_path: Path) -> None:
    fake = Fake(tmp_path, startup=5.0)
    fake.num_cases = 10

    def slower(number: int) -> LaunchEnd:
        fake.startup = 5.0 if number < 3 else 13.0
        return LaunchEnd(0, "")

    fake.ends = slower
    alternation = fake.within("2m")
    alternation.run()
    assert 3 <= alternation.pairs < 6
    assert fake.time - alternation.began <= 120.0
    assert len(fake.samples()) == alternation.pairs


def test_it_ends_where_not_even_starting_fits_any_more(tmp_path: Path) -> None:
    fake = Fake(tmp_path, startup=5.0)

    def stuck(number: int) -> LaunchEnd:
        fake.startup = 5.0 if number < 2 else 50.0
        return LaunchEnd(0, "")

    fake.ends = stuck
    alternation = fake.within("2m")
    alternation.run()
    assert "".join(fake.sides) == "abba"
    assert alternation.pairs == 2


def test_pairs_and_samples_are_what_fits(tmp_path: Path) -> None:
    fake = Fake(tmp_path, startup=13.0)
    fake.num_cases = 10
    alternation = fake.within("4m")
    alternation.run()
    # A launch needs 13 s and 10 x (0.2 + 20 x 0.005) s; 232.8 s hold fourteen of 16 s.
    assert alternation.pairs == 7
    assert len(fake.said) == 14
    assert fake.time - alternation.began <= 240.0
    assert sorted(fake.samples()) == list(range(7))
    for counts in fake.samples().values():
        assert len(counts) == 10
        assert min(counts) >= 20


def test_nccl_is_asked_what_it_chose_also_where_the_budget_ends_it_early(tmp_path: Path) -> None:
    fake = Fake(tmp_path, startup=13.0)
    fake.plan = {"backend": "nccl"}
    alternation = fake.within("2m")
    assert alternation.schedule.pairs == 9
    alternation.run()
    assert "".join(fake.sides) == "abbaabab"
    assert [shlex.join(words[3:5]) for words in fake.said[-2:]] == ["--one-launch 9"] * 2


def half_done(fake: Fake, num_launches: int, **changes: str) -> tuple[Path, Path]:
    """Files of an alternation that had begun this many launches of a, and one less of b."""
    for side_name, path in zip("ab", fake.files, strict=True):
        setting = {"a": "unchanged", "b": "X=1 --device cpu"}[side_name]
        pair = {"id": "0123abcd", "side": side_name, "setting": setting} | changes
        plan = {"cases": [planned("sum/one")], "launches": 4, "options": {"pair": pair}}
        count = num_launches - (side_name == "b")
        save(path, header(plan=plan), *(measurement("sum/one") | {"launch": launch} for launch in range(count)))
    return fake.files


def test_an_interrupted_alternation_goes_on_with_the_next_whole_pair(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    both = sides(((), ("X=1", "--device cpu")), (None, None), sys.executable, given_options)
    before = resume_pair(half_done(fake, 3)[::-1], both)  # in either order
    assert before == ResumedPair(fake.files, "0123abcd", pairs=4, first=3)
    alternation = fake.alternation(PairSchedule(before.pairs, None, None))
    alternation.first = before.first
    alternation.run()
    assert [shlex.join(words[:5]) for words in fake.said] == [
        f"run --resume {path} --one-launch 3" for path in (fake.files[1], fake.files[0])
    ]
    assert f"--resume {fake.files[0]} --resume {fake.files[1]}" in alternation.remedy()


def test_what_cannot_be_gone_on_with_is_refused(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    a, b = half_done(fake, 1)
    both = sides(((), ("X=1", "--device cpu")), (None, None), sys.executable, given_options)
    others = sides(((), ("X=2",)), (None, None), sys.executable, given_options)
    with pytest.raises(BenchError, match="files of both sides"):
        resume_pair([a], both)
    with pytest.raises(BenchError, match="not the two sides"):
        resume_pair([a, a], both)
    with pytest.raises(BenchError, match="side b was 'X=1 --device cpu' and is now 'X=2'"):
        resume_pair([a, b], others)
    with pytest.raises(BenchError, match="no file of `bench ab`"):
        resume_pair([a, save(tmp_path / "c.jsonl", header(), measurement("sum/one"))], both)


def test_a_failed_case_goes_on_and_a_mistake_ends_it(tmp_path: Path) -> None:
    fake = Fake(tmp_path, lambda n: LaunchEnd(exit_codes.PARTIAL if n == 2 else 0, ""))
    alternation = fake.alternation(PairSchedule(2, 20.0, None))
    alternation.run()
    assert len(fake.said) == 4
    assert max(alternation.codes) == exit_codes.PARTIAL
    endings = {
        LaunchEnd(2, "bench: error: no suite 'x'"): "^pair 1 of 2: b: no suite 'x'$",
        LaunchEnd(1, "ImportError: libcudart.so.12"): r"exit code 1\): ImportError: libcudart.so.12$",
        LaunchEnd(70, "bench: error: KeyError: 'x'; kept in FILE"): "^pair 1 of 2: b: KeyError: 'x'; kept in FILE$",
        LaunchEnd(-9, ""): r"killed by signal 9\): it said nothing$",
    }
    for number, (ended, said) in enumerate(endings.items()):
        folder = tmp_path / str(number)
        fake = Fake(folder, lambda n, ended=ended: ended if n == 2 else LaunchEnd(0, ""))  # type: ignore[misc]
        alternation = fake.alternation(PairSchedule(2, 20.0, None))
        with pytest.raises(BenchError, match=said) as raised:
            alternation.run()
        assert code_of(raised.value, exit_codes.USAGE) == (70 if ended.code == 70 else exit_codes.USAGE)
        assert alternation.kept() == f"saved: {folder}/a.jsonl and {folder}/b.jsonl"
    fake = Fake(tmp_path / "stopped", lambda _: LaunchEnd(exit_codes.INTERRUPTED, ""))
    with pytest.raises(KeyboardInterrupt):
        fake.alternation(PairSchedule(2, 20.0, None)).run()
    assert len(fake.said) == 1
