"""`bench run` from options to exit code: plan, measure through the launcher at hand, and say what came out."""

from __future__ import annotations

import os
import shlex
import threading
from contextlib import suppress

import click

from bench.core import clock, exit_codes
from bench.core.crash import unforeseen
from bench.core.crash.module_shadows import ShadowsNamed
from bench.core.process_environment import environment_variables, quiet_torch
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
from bench.run import closing, outlook
from bench.run.joined_run import HEAD_START_SECONDS, run_joined
from bench.run.opening import open_run, others_here


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
    from bench.measure.launch.supervisor import run_local as run_ranks
    from bench.measure.system.devices import default_ranks
    from bench.measure.system.host import usable_cores

    if options.join_timeout is not None:
        raise BenchError(
            f"--join-timeout {options.join_timeout}: no launcher started this process, and there is no rank to wait "
            "for; leave it out"
        )
    load_all(options.suites)  # before torch is imported: who made a mistake in a suite is to hear of it at once
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
        return exit_codes.OK
    recorder = open_run(options, arguments, device, place, None, earlier, others)
    try:
        code = run_ranks(recorder, began, options.one_launch, options.launch_seconds)
    except KeyboardInterrupt:
        recorder.end("interrupted", exit_codes.INTERRUPTED)
        there = recorder.path.exists()  # a file without a single record is taken away
        if there and options.one_launch is None:
            closing.close(None, recorder.path, exit_codes.INTERRUPTED)
        remedy = (
            f"go on with: bench run --resume {shlex.quote(str(recorder.path))}" if there else "nothing was measured"
        )
        click.echo(f"interrupted; {remedy}", err=True)
        return exit_codes.INTERRUPTED
    except BenchError as error:
        recorder.trouble = str(error)
        recorder.end("failed", unforeseen.code_of(error, exit_codes.USAGE))
        raise
    except BaseException as error:
        recorder.trouble = unforeseen.name_error(error)
        with suppress(BenchError):  # such as a full disk; the first error is to be heard
            recorder.end("failed", exit_codes.UNFORESEEN)
        raise
    # The other launches are still to come, and `bench ab` shows what came out of both sides.
    return code if options.one_launch is not None else closing.close(options.against, recorder.path, code)
