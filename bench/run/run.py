"""`bench run` from options to exit code: plan, measure through the launcher at hand, and say what came out."""

from __future__ import annotations

import os
import shlex
import threading
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from bench.core import clock, exit_codes
from bench.core.crash import unforeseen
from bench.core.crash.module_shadows import ShadowsNamed
from bench.core.process import stop_signals
from bench.core.process_environment import HELD_FILE, environment_variables, quiet_torch, take_variable
from bench.errors import BenchError
from bench.measure.launch import other_work
from bench.measure.launchers.place import Place
from bench.measure.launchers.table import RefusedLauncherError, detect
from bench.measure.planning.options import RunOptions
from bench.measure.planning.planner import (
    load_earlier_run,
    new_plan,
    saved_plan,
)
from bench.measure.planning.suite_loader import load_all
from bench.measure.system.devices import choose_device
from bench.records.run_file.run_file import NoRoomError
from bench.run import closing, outlook
from bench.run.joined_run import HEAD_START_SECONDS, run_joined
from bench.run.opening import claim_file, open_run, others_here

if TYPE_CHECKING:
    from bench.measure.launch.recorder import Recorder
    from bench.records.run_file.run_file import RunFile


def run(options: RunOptions, arguments: list[str]) -> int:
    """Run; returns the exit code. Raises BenchError for the user's errors, KeyboardInterrupt after it has tidied up."""
    began = clock.monotonic_seconds()
    quiet_torch()
    try:
        joined = detect(options.launcher, environment_variables())
    except RefusedLauncherError as error:
        if error.index:  # rank 0 says it; most launchers end the others then, and whom they leave says it too
            threading.Event().wait(HEAD_START_SECONDS)
        raise
    with ShadowsNamed():
        if joined is not None:
            return run_joined(options, arguments, joined, began)
        options.refuse_mixed()
        return _run_local(options, arguments, began)


def _run_local(options: RunOptions, arguments: list[str], began: float) -> int:
    """Run with ranks of this process; a signal ends it in order, at any time."""
    try:
        if options.join_timeout is not None:
            raise BenchError(
                f"--join-timeout {options.join_timeout}: no launcher started this process, and there is no rank to "
                "wait for; leave it out"
            )
        load_all(options.suites)  # before torch is imported: who made a mistake in a suite is to hear of it at once
        with ExitStack() as stack:
            file = claim_file(options, take_variable(HELD_FILE))
            if file is not None:
                stack.enter_context(file)
            return _measure(options, arguments, began, file)
    except KeyboardInterrupt:
        return _say_nothing_measured()


def _measure(options: RunOptions, arguments: list[str], began: float, file: RunFile | None) -> int:
    if file is not None and not file.is_empty:
        options = replace(options, resume=file.path)
    recorder = _open(options, arguments, file)
    if recorder is None:
        return exit_codes.OK
    with recorder.writer:
        try:
            return _close(options, recorder, _run_ranks(options, recorder, began))
        except KeyboardInterrupt:
            return _end_interrupted(options, recorder)
        except BenchError as error:
            recorder.trouble = str(error)
            # A disk that became full cost the rest; any other error is of the call, or the ranks did not start.
            full = isinstance(error, NoRoomError) and recorder.writer.is_saved
            code = unforeseen.code_of(error, exit_codes.PARTIAL if full else exit_codes.USAGE)
            recorder.end("failed", code)
            if code != exit_codes.PARTIAL:
                raise
            click.echo(f"bench: error: {error}", err=True)
            return code
        except BaseException as error:
            recorder.trouble = unforeseen.name_error(error)
            with suppress(BenchError):  # such as a full disk; the first error is to be heard
                recorder.end("failed", exit_codes.UNFORESEEN)
            raise
        finally:
            if options.one_launch is not None:  # `bench ab` goes on with the file, which may be another one by now
                click.echo(str(recorder.path.absolute()))


def _run_ranks(options: RunOptions, recorder: Recorder, began: float) -> int:
    from bench.measure.launch.supervisor import run_local as run_ranks

    with stop_signals.deferred():  # it looks for signals itself, between lines of the file
        return run_ranks(recorder, began, options.one_launch, options.launch_seconds)


def _close(options: RunOptions, recorder: Recorder, code: int) -> int:
    # The other launches are still to come, and `bench ab` shows what came out of both sides.
    shows = options.one_launch is None
    return closing.close(options.against, recorder, code) if shows else recorder.confirm(code)


def _end_interrupted(options: RunOptions, recorder: Recorder) -> int:
    """End a run after a signal, and say how to go on; returns the exit code."""
    code = stop_signals.handle()
    if recorder.has_ended:
        click.echo(f"interrupted; the run is over and saved: {shlex.quote(str(recorder.path))}", err=True)
        return code
    recorder.end("interrupted", code)
    if not recorder.writer.is_saved:
        return _say_nothing_measured()
    if options.one_launch is None:
        closing.close(None, recorder, code)
    click.echo(f"interrupted; go on with: bench run --resume {shlex.quote(str(recorder.path))}", err=True)
    return code


def _say_nothing_measured() -> int:
    """Say that a signal came before the run had anything to save; returns the exit code."""
    click.echo("interrupted; nothing was measured", err=True)
    return stop_signals.handle()


def _open(options: RunOptions, arguments: list[str], file: RunFile | None) -> Recorder | None:
    """Plan the run and open its file; None if the plan alone was asked for, which is printed then."""
    from bench.measure.system.devices import default_ranks
    from bench.measure.system.host import usable_cores

    earlier = load_earlier_run(options)
    others = others_here(options, earlier)  # before torch is imported: the answer is to be quick
    device, num_gpus = choose_device(options.device)
    if device != "cpu":
        others = [other_work.add_gpu_programs(each, [os.getpid()]) for each in others]
    preset = options.preset or "standard"
    ranks = options.ranks
    if ranks is None and earlier is not None:
        ranks = saved_plan(earlier).world_size
    if ranks is None:
        ranks = default_ranks(device, preset, num_gpus, usable_cores())
    if ranks < 1:
        raise BenchError(f"--ranks {ranks}: at least 1")
    if device != "cpu" and ranks > num_gpus:
        raise BenchError(
            f"--ranks {ranks}: this machine has {num_gpus} visible GPU(s), and a rank needs one of its own"
        )
    place = Place(0, ranks, 0, ranks)
    if options.plan_only:
        click.echo(outlook.local_outlook(new_plan(options, device, place, None)).to_text())
        return None
    return open_run(options, arguments, device, place, None, earlier, others, file=file)
