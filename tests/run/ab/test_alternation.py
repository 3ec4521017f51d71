"""`bench ab`: what is set on each side, the order and the budget, and what a real one leaves behind."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
import venv
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from bench.analysis.compare.presentation import CompareOptions as Comparing
from bench.cli.run_command import given_options
from bench.core import exit_codes
from bench.errors import BenchError
from bench.measure.planning.planner import RunOptions as RunOptions
from bench.measure.planning.planner import unpaired
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.session import BUDGET_REASON
from bench.records.ab_pair import Pair, are_paired, pair_of, parse
from bench.records.file import Record, Result, Writer, load
from bench.records.planned_case import PlannedCase
from bench.records.published_copy import shared
from bench.records.visits import num_samples
from bench.run.ab.ab_check import refuse_unlike, refuse_useless
from bench.run.ab.ab_resume import TakenUp, taken_up
from bench.run.ab.ab_sides import PairSchedule, Setting, first_words, order, schedule, side, sides, wanted
from bench.run.ab.alternation import AbOptions, Alternation
from bench.run.ab.child import Ended, probe
from bench.run.outlook import Outlook
from tests.support.command import BENCH, SUITES, call, start
from tests.support.plans import a_plan
from tests.support.results import end, header, measurement, not_ok, save

TINY = str(SUITES / "tiny.py")
COUNTED = str(SUITES / "counted.py")
PLAIN = Pair("0123abcd", "a", "unchanged")


def side_of(*texts: str, name: str = "b", python: str | None = None) -> Setting:
    return side(name, texts, python, "/here/python", given_options)


def test_a_side_is_variables_and_options_and_says_so() -> None:
    made = side_of("NCCL_ALGO=Tree", "--backend gloo --set dtype=float32", "LD_PRELOAD=a b", "--device cpu")
    assert made.variables == (("LD_PRELOAD", "a b"), ("NCCL_ALGO", "Tree"))
    assert made.options == ("--backend", "gloo", "--set", "dtype=float32", "--device", "cpu")
    assert made.setting == "NCCL_ALGO=Tree LD_PRELOAD='a b' --backend gloo --set dtype=float32 --device cpu"
    assert (made.device, made.python) == ("cpu", "/here/python")
    # Words, never a shell: what a shell would do with them stays undone.
    assert side_of("--backend '$(false)' --set 'x=a;b'").options == ("--backend", "$(false)", "--set", "x=a;b")
    assert side_of("EMPTY=", "EQUALS=a=b").variables == (("EMPTY", ""), ("EQUALS", "a=b"))
    assert side_of().setting == "unchanged"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NCCL_ALGO", "NAME=VALUE"),
        ("1ST=x", "NAME=VALUE"),
        ("A B=x", "NAME=VALUE"),
        ("ÄRGER=x", "NAME=VALUE"),
        ("=x", "NAME=VALUE"),
        ("", "NAME=VALUE"),
        ("--backend 'gloo", "mind the quotes"),
        ("--no-such-option", "bench run --help"),
        ("--help", "bench run --help"),
        ("--ranks two", "bench run --help"),
        ("--launches 5", "--pairs"),
        ("--resume x.jsonl", "measured anew"),
        ("--backend gloo compute", "same SUITEs"),
        ("--budget 5m", "both sides together"),
        ("--one-launch 1", "itself"),
        ("-o elsewhere", "folder of both files"),
        ("--allow-unlike", "measured anew"),
    ],
)
def test_what_a_side_cannot_have_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(BenchError, match=said) as caught:
        side_of(text)
    assert str(caught.value).startswith("--b ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["HF_TOKEN", "api_key", "MY_SECRET", "PGPASSWORD"])
def test_secrets_are_refused_and_their_value_not_repeated(name: str) -> None:
    with pytest.raises(BenchError, match="secret") as caught:
        side_of(f"{name}=hunter2")
    assert "hunter2" not in str(caught.value)


def test_a_variable_is_set_once() -> None:
    with pytest.raises(BenchError, match="twice"):
        side_of("OMP_NUM_THREADS=1", "OMP_NUM_THREADS=2")


def test_sides_have_to_differ_unless_both_are_said() -> None:
    def both(a: Sequence[str] = (), b: Sequence[str] = (), b_python: str | None = None) -> tuple[Setting, Setting]:
        return sides((a, b), (None, b_python), sys.executable, given_options)

    for same in (both, lambda: both(b_python=sys.executable)):
        with pytest.raises(BenchError, match="do not differ"):
            same()
    a, b = both(b=["NCCL_ALGO=Tree"])
    assert (a.setting, b.setting) == ("unchanged", "NCCL_ALGO=Tree")
    a, b = both(["X=1", "Y=2"], ["Y=2", "X=1"])  # an A/A check
    assert a.does_as(b)
    a, b = sides(((), ()), (sys.executable, sys.executable), "/here/python", given_options)
    assert a.does_as(b)
    assert a.python == sys.executable


def test_an_interpreter_has_to_be_there_and_have_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no program of that name"):
        side_of(python=str(tmp_path / "python"))
    (tmp_path / "bin").mkdir()
    # The same program outside its environment: it has no torch.
    (tmp_path / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    with pytest.raises(BenchError, match=r"did you mean .*/bin/python\?"):
        side_of(python=str(tmp_path))
    if sys.prefix != sys.base_prefix:
        with pytest.raises(BenchError, match=r"lacks .*torch"):
            probe(side_of("PYTHONPATH=", python=str(tmp_path / "bin" / "python")))
    for words, said in (("exit 3", "no working Python"), ("echo hello", "cannot be started as a Python")):
        script = tmp_path / "script"
        script.write_text(f"#!/bin/sh\n{words}\n")
        script.chmod(0o755)
        with pytest.raises(BenchError, match=said):
            probe(side_of(python=str(script)))
    assert probe(side_of(python=sys.executable)).startswith(f"Python {sys.version.split()[0]}, torch ")


def test_an_environment_is_not_left_by_following_its_link(tmp_path: Path) -> None:
    venv.create(tmp_path / "pr", symlinks=True, with_pip=False)
    assert side_of(python=str(tmp_path / "pr" / "bin" / "python")).python == str(tmp_path / "pr" / "bin" / "python")


def test_pairs_without_a_budget() -> None:
    # Smoke gives a launch 54 s, standard 460 s for three; full has no limit.
    smoke, standard, full = (PRESETS[name].budget_seconds for name in ("smoke", "standard", "full"))
    assert smoke is not None
    assert standard is not None
    assert full is None
    assert schedule("smoke", wanted(None, None), ()) == PairSchedule(10, smoke, None)
    assert schedule("smoke", wanted(None, None), ()).most_seconds == 20 * smoke
    assert schedule("standard", wanted(4, None), ()).side_seconds == pytest.approx(4 * standard / 3)
    assert schedule("full", wanted(3, None), ()) == PairSchedule(3, None, None)
    assert schedule("full", wanted(3, None), ()).most_seconds is None
    for pairs, budget, said in ((1, None, "--pairs 1"), (None, "soon", "--budget soon"), (None, "0s", "above 0")):
        with pytest.raises(BenchError, match=said):
            wanted(pairs, budget)


def test_the_order_turns_round_from_pair_to_pair() -> None:
    assert "".join("ab"[number] for pair in range(4) for number in order(pair)) == "abbaabba"


def test_a_pair_goes_through_a_command_line_and_a_file(tmp_path: Path) -> None:
    b = Pair("0123abcd", "b", 'X="y z" --set é=1')
    assert parse(b.to_text()) == b
    for text in ("", "{", "[]", "{}", '{"id": "1", "side": "c", "setting": "x"}', '{"id": 1, "side": "a"}'):
        with pytest.raises(BenchError, match="--pair"):
            parse(text)

    def file(name: str, pair: Pair | None) -> Result:
        options = {} if pair is None else {"pair": json.loads(pair.to_text())}
        return load(save(tmp_path / name, header(plan={"options": options}), measurement(), end()))

    one, other, plain = file("a.jsonl", PLAIN), file("b.jsonl", b), file("plain.jsonl", None)
    stranger = file("c.jsonl", Pair("ffff", "b", "unchanged"))
    assert (pair_of(one), pair_of(other), pair_of(plain)) == (PLAIN, b, None)
    assert are_paired(one, other)
    assert not any(are_paired(one, result) for result in (one, plain, stranger))
    # A published copy is still one of its pair, without the path of the interpreter.
    private = file("d.jsonl", Pair("0123abcd", "b", "python /home/someone/pr/bin/python"))
    published = load(save(tmp_path / "public.jsonl", *shared(private)))
    assert pair_of(published) == Pair("0123abcd", "b", "python (removed)")


def test_only_the_run_that_makes_a_side_records_its_pair() -> None:
    recorded = RunOptions(preset="smoke", one_launch=0, save_as=Path("x.jsonl"), pair=PLAIN.to_text()).recorded()
    assert recorded["pair"] == {"id": "0123abcd", "side": "a", "setting": "unchanged"}
    assert not {"one_launch", "save_as"} & set(recorded)
    assert "pair" not in RunOptions(preset="smoke").recorded()
    assert unpaired(a_plan(options=recorded)) == a_plan(options=RunOptions(preset="smoke").recorded())


class Fake:
    """Stands in for the processes: writes a side's lines as a run would, and takes its time for every launch.

    A launch starts for `startup` seconds, then does cases that take `around` seconds and `each` a sample, as many
    samples as there is time for, at least 6 and at most those of the preset's time; what there is no time for is left
    out.
    """

    def __init__(self, folder: Path, ends: Callable[[int], Ended] = lambda _: Ended(0, ""), startup: float = 10.0):
        self.said: list[list[str]] = []
        self.sides: list[str] = []
        self.time = 100.0
        self.ends, self.startup = ends, startup
        self.around, self.each, self.num_cases = 0.2, 0.005, 1
        self.files = (folder / "a.jsonl", folder / "b.jsonl")
        self.plan: dict[str, object] = {}

    def __call__(self, which: Setting, words: Sequence[str]) -> Ended:
        self.said.append(list(words))
        self.sides.append(which.name)
        self.time += self.startup
        said = dict(pairwise(words))
        path = Path(said.get("--save-as") or said["--resume"])
        if not path.exists():
            cases = [{"id": f"sum/n[size={n}]"} for n in range(self.num_cases)]
            save(path, header(plan={"cases": cases, "case_seconds": 0.5, "visits": 1} | self.plan))
        left = float(said.get("--launch-seconds", "inf")) - self.startup
        with Writer.reopen(path) as writer:
            for record in self._records(int(said["--one-launch"]), left):
                writer.append(record)
                self.time += record["seconds"] or 0.0
        return self.ends(len(self.said))

    def _records(self, launch: int, left: float) -> Iterator[Record]:
        for n in range(self.num_cases):
            name = f"sum/n[size={n}]"
            seconds = min(0.5, left / (self.num_cases - n) - self.around)
            count = max(6, int(seconds / self.each))
            took = self.around + count * self.each
            if seconds < 0:
                yield not_ok(name, "skipped", BUDGET_REASON, launch) | {"seconds": None}
                continue
            left -= took
            rows = [[round(1e9 * self.each)] * count] * 2
            yield measurement(name, rows, launch, seconds=took)

    def samples(self) -> dict[int, list[int]]:
        """Launch -> samples of each measured case, of the side that has fewer."""
        found: dict[int, list[list[int]]] = {}
        for path in self.files:
            by_launch: dict[int, list[int]] = {}
            for record in load(path).measurements:
                by_launch.setdefault(record["launch"], []).append(num_samples(record))
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
        planned = schedule("smoke", wanted(pairs, budget), cases, spent)
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
    of_a, of_b = (parse(words[words.index("--pair") + 1]) for words in (a, b))
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

    def slower(number: int) -> Ended:
        fake.startup = 5.0 if number < 3 else 13.0
        return Ended(0, "")

    fake.ends = slower
    alternation = fake.within("2m")
    alternation.run()
    assert 3 <= alternation.pairs < 6
    assert fake.time - alternation.began <= 120.0
    assert len(fake.samples()) == alternation.pairs


def test_it_ends_where_not_even_starting_fits_any_more(tmp_path: Path) -> None:
    fake = Fake(tmp_path, startup=5.0)

    def stuck(number: int) -> Ended:
        fake.startup = 5.0 if number < 2 else 50.0
        return Ended(0, "")

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
    """Files of an alternation that had begun so many launches of a, and one less of b."""
    for side_name, path in zip("ab", fake.files, strict=True):
        setting = {"a": "unchanged", "b": "X=1 --device cpu"}[side_name]
        pair = {"id": "0123abcd", "side": side_name, "setting": setting} | changes
        plan = {"cases": [{"id": "sum/one"}], "launches": 4, "options": {"pair": pair}}
        count = num_launches - (side_name == "b")
        save(path, header(plan=plan), *(measurement("sum/one") | {"launch": launch} for launch in range(count)))
    return fake.files


def test_an_interrupted_alternation_goes_on_with_the_next_whole_pair(tmp_path: Path) -> None:
    fake = Fake(tmp_path)
    both = sides(((), ("X=1", "--device cpu")), (None, None), sys.executable, given_options)
    before = taken_up(half_done(fake, 3)[::-1], both)  # in either order
    assert before == TakenUp(fake.files, "0123abcd", pairs=4, first=3)
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
        taken_up([a], both)
    with pytest.raises(BenchError, match="not the two sides"):
        taken_up([a, a], both)
    with pytest.raises(BenchError, match="side b was 'X=1 --device cpu' and is now 'X=2'"):
        taken_up([a, b], others)
    with pytest.raises(BenchError, match="no file of `bench ab`"):
        taken_up([a, save(tmp_path / "c.jsonl", header(), measurement("sum/one"))], both)


def test_a_side_s_own_setting_takes_the_place_of_a_common_one() -> None:
    own = side_of("--set num_bytes=4MiB")
    given = ["--preset", "smoke", "--set", "num_bytes=1MiB", "--set", "op=all_reduce"]
    words = first_words(given, (), own, PairSchedule(2, None, None), "try", Path("b.jsonl"), "{}")
    assert shlex.join(words).startswith("run --preset smoke --set op=all_reduce --set num_bytes=4MiB --launcher")


def test_a_failed_case_goes_on_and_a_mistake_ends_it(tmp_path: Path) -> None:
    fake = Fake(tmp_path, lambda n: Ended(exit_codes.PARTIAL if n == 2 else 0, ""))
    alternation = fake.alternation(PairSchedule(2, 20.0, None))
    alternation.run()
    assert len(fake.said) == 4
    assert max(alternation.codes) == exit_codes.PARTIAL
    endings = {
        Ended(2, "bench: error: no suite 'x'"): "^pair 1 of 2: b: no suite 'x'$",
        Ended(1, "ImportError: libcudart.so.12"): r"exit code 1\): ImportError: libcudart.so.12$",
        Ended(-9, ""): r"killed by signal 9\): it said nothing$",
    }
    for number, (ended, said) in enumerate(endings.items()):
        folder = tmp_path / str(number)
        fake = Fake(folder, lambda n, ended=ended: ended if n == 2 else Ended(0, ""))  # type: ignore[misc]
        alternation = fake.alternation(PairSchedule(2, 20.0, None))
        with pytest.raises(BenchError, match=said):
            alternation.run()
        assert alternation.kept() == f"saved: {folder}/a.jsonl and {folder}/b.jsonl"
    fake = Fake(tmp_path / "stopped", lambda _: Ended(exit_codes.INTERRUPTED, ""))
    with pytest.raises(KeyboardInterrupt):
        fake.alternation(PairSchedule(2, 20.0, None)).run()
    assert len(fake.said) == 1


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        ((), {}, "do not differ"),
        (("--b", "X=1", "--fail-slower", "ten"), {}, "--fail-slower ten"),
        (("--b", "X=1"), {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, "cannot be alternated"),
        (("--b", "X=1", "--budget", "30s"), {}, "give more"),
    ],
)
def test_mistakes_are_told_before_anything_is_started(
    words: Sequence[str], variables: dict[str, str], said: str, tmp_path: Path
) -> None:
    done = call("ab", COUNTED, *words, "-o", str(tmp_path / "results"), **variables)
    assert done.returncode == exit_codes.USAGE
    assert said in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert not (tmp_path / "results").exists()


@pytest.mark.seeded
def test_a_side_made_slower_is_found_and_fails_the_gate(tmp_path: Path) -> None:
    given = ("--ranks", "1", "--device", "cpu", "--pairs", "3", "--label", "counted")
    shown = ("--fail-slower", "50%", "--where", "op=varied", "--format", "json")
    done = call("ab", COUNTED, "--b", "COUNTED_FACTOR=10", *given, *shown, "-o", str(tmp_path))
    assert done.returncode == exit_codes.GATE, done.stderr
    (row,) = json.loads(done.stdout)["cases"]
    assert (row["case"], row["verdict"]) == ("counted/varied", "slower")
    assert 2 < row["change"] < 50  # ten times the work
    # Two ordinary files, each with its three launches, that ended well and know of each other.
    a, b = (load(next(tmp_path.glob(f"counted_{name}-*.jsonl"))) for name in "ab")
    assert are_paired(a, b)
    assert pair_of(b) == Pair(pair_of(a).id, "b", "COUNTED_FACTOR=10")  # type: ignore[union-attr]
    for result in (a, b):
        assert sorted((record["case"], record["launch"]) for record in result.latest()) == [
            (f"counted/{op}", launch) for op in ("constant", "varied") for launch in range(3)
        ]
        assert result.end is not None
        assert (result.end["status"], result.end["exit_code"]) == ("complete", 0)
        assert (result.plan["launches"], result.plan["budget_seconds"]) == (3, 162.0)
        assert "one_launch" not in result.plan["options"]
    starts = [(stamp, name) for name, r in (("a", a), ("b", b)) for stamp in _starts(r)]
    assert "".join(name for _, name in sorted(starts)) == "abbaab"
    assert f"saved: {a.path} and {b.path}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Gate: FAILED")


def _starts(result: Result) -> list[str]:
    return [result.header["started"], *(record["started"] for record in result.resumes)]


def test_an_interrupted_one_keeps_its_file_and_leaves_no_process(tmp_path: Path) -> None:
    command = [*BENCH, "ab", COUNTED, "--b", "COUNTED_FACTOR=2", "--ranks", "1", "--device", "cpu", "-o", str(tmp_path)]
    with start(command) as process:
        try:
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            next(line for line in lines if line.startswith("pair 1 of 10: b"))  # a's launch is done
            family = psutil.Process(process.pid).children(recursive=True)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == exit_codes.INTERRUPTED
    (path,) = tmp_path.glob("ab_a-*.jsonl")
    assert f"interrupted; saved: {path}" in errors
    assert {record["launch"] for record in load(path).measurements} == {0}
    assert not psutil.wait_procs(family, timeout=10)[1]


def test_a_childs_mistake_is_shown_in_one_line(tmp_path: Path) -> None:
    done = call("ab", "nosuch", "--b", "X=1", "-o", str(tmp_path))
    assert done.returncode == exit_codes.USAGE
    assert "nosuch" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("bench: error: side a: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # Each of these was known before the first launch, and told after the last.
        (
            ("--b", "--slow-link 1=0.5", "--fail-slower", "10%"),
            "side b is .*emulated: rank 1 communicates at 0.5.*: a gate",
        ),
        (("--b", "--set op=first", "--set", "op=second"), "the sides have no case in common"),
        (("--b", "--set nosuch=1"), "side b: --set nosuch"),
    ],
)
def test_all_that_is_known_before_is_asked_before(words: Sequence[str], said: str, tmp_path: Path) -> None:
    done = call("ab", TINY, *words, "--device", "cpu", "-o", str(tmp_path))
    assert done.returncode == exit_codes.USAGE
    assert re.search(said, done.stderr.splitlines()[-1]), done.stderr
    assert "pair 1" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def an_outlook(*sizes: int, architecture: str = "2 x A") -> Outlook:
    named = tuple(PlannedCase("sum", f"sum/run[size={size}]", {"size": size}) for size in sizes)
    return Outlook(a_plan(cases=named, left_out=()), architecture)


@pytest.mark.parametrize(
    ("comparing", "said"),
    [
        (Comparing(where=("size=3",)), "--where size=3: no case fits; size is one of 2$"),
        (Comparing(metrics=("nosuch",)), "--metric nosuch: there are .*speed"),
    ],
)
def test_what_is_to_be_compared_has_to_be_there(comparing: Comparing, said: str) -> None:
    both = [an_outlook(1, 2), an_outlook(2, 3)]
    refuse_useless(both, Comparing(where=("size=2",), metrics=("speed",)))
    with pytest.raises(BenchError, match=said):
        refuse_useless(both, comparing)
    with pytest.raises(BenchError, match=r"no case in common \(a measures sum/run\[size=1\], b sum/run\[size=3\]\)"):
        refuse_useless([an_outlook(1), an_outlook(3)], Comparing())


def test_unlike_sides_are_gated_where_that_is_asked_for() -> None:
    both = ["2 x A", "2 x A (emulated: rank 1 computes at 0.5)"]
    with pytest.raises(BenchError, match="add --allow-unlike"):
        refuse_unlike(both, Comparing(fail_slower="10%"))
    refuse_unlike(both, Comparing(fail_slower="10%", allow_unlike=True))
    refuse_unlike(both, Comparing())
    refuse_unlike(both[:1] * 2, Comparing(fail_slower="10%"))


def test_a_plan_can_be_told_without_measuring(tmp_path: Path) -> None:
    done = call(
        "run", TINY, "--preset", "smoke", "--slow", "1=0.5", "--plan-only", "--device", "cpu", "-o", str(tmp_path)
    )
    outlook = Outlook.from_text(done.stdout)
    assert [case.id for case in outlook.cases] == ["tiny/first", "tiny/second", "tiny/third"]
    assert outlook.architecture.endswith("(emulated: rank 1 computes at 0.5)")
    assert list(tmp_path.iterdir()) == []
