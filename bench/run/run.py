"""`bench run` from options to exit code: plan, measure through the launcher at hand, and say what came out."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.core import clock, exit_codes
from bench.core.process_environment import environment_variables
from bench.errors import BenchError
from bench.measure.engine.passes import torch_profile
from bench.measure.launch import other_work
from bench.measure.launch.recorder import Recorder, done_turns
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.launchers.rank_zero import locate
from bench.measure.launchers.table import RefusedLauncherError, detect
from bench.measure.planning.budget_fit import estimate_seconds
from bench.measure.planning.options import RunOptions
from bench.measure.planning.plan import Plan
from bench.measure.planning.planner import (
    load_earlier_run,
    new_plan,
    resume_plan,
    saved_plan,
    without_pair,
)
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.suite_loader import load_all
from bench.measure.system.devices import choose_device
from bench.records.last_result import DEFAULT_FOLDER
from bench.records.lines.parts import DoctorReport
from bench.run import closing, outlook

if TYPE_CHECKING:
    from bench.measure.engine.store import Store
    from bench.measure.launch.other_work import OtherWork
    from bench.records.file import Result


REFUSAL_SECONDS = 5.0
"""Time that the other ranks leave rank 0 to say for all why their launcher is not joined."""


def run(options: RunOptions, arguments: list[str]) -> int:
    """Run; returns the exit code. Raises BenchError for the user's errors, KeyboardInterrupt after it has tidied up."""
    began = clock.monotonic_seconds()
    try:
        joined = detect(options.launcher, environment_variables())
    except RefusedLauncherError as error:
        if error.index:  # rank 0 says it once for all; its launcher may end the others as soon as one has ended
            threading.Event().wait(REFUSAL_SECONDS)
            return exit_codes.USAGE
        raise
    quiet = joined is not None and joined.index != 0
    try:
        if joined is not None:
            joined = locate(joined, environment_variables())
        options.refuse_mixed()
        if joined is None:
            return _run_local(options, arguments, began)
        return _run_attached(options, arguments, joined, began)
    except BenchError:
        if quiet:  # rank 0 says it once for all
            return exit_codes.USAGE
        raise


def _run_local(options: RunOptions, arguments: list[str], began: float) -> int:
    from bench.measure.launch.launchers import run_local as run_ranks
    from bench.measure.system.devices import default_ranks
    from bench.measure.system.host import usable_cores

    load_all(options.suites)  # before torch is imported: who made a mistake in a suite is to hear of it at once
    earlier = load_earlier_run(options)
    others = _others_here(options, earlier)  # before torch is imported: the answer is to be quick
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
        recorder.end("failed", exit_codes.USAGE)
        raise
    # The other launches are still to come, and `bench ab` shows what came out of both sides.
    return code if options.one_launch is not None else closing.close(options.against, recorder.path, code)


def _run_attached(options: RunOptions, arguments: list[str], joined: LauncherRank, began: float) -> int:
    from bench.measure.launch.attached import run_attached
    from bench.measure.launch.launchers import check_gpus

    if options.ranks is not None and options.ranks != joined.world_size:
        raise BenchError(f"--ranks {options.ranks}: {joined.how} started {joined.world_size} ranks; leave --ranks out")
    if (options.launches or 1) > 1:
        raise BenchError(
            f"--launches {options.launches}: {joined.how} starts the processes, so a run is one launch; start it "
            f"{options.launches} times and give the files to `bench compare` together"
        )
    device, num_gpus = choose_device(options.device)

    def check(place: Place, hosts: Sequence[str], store: Store) -> None:
        if device != "cpu":
            check_gpus(place, num_gpus, "this node")
        # A saved plan's preset is known to rank 0 alone, so with one every host looks, and rank 0 need not listen.
        if options.like or options.resume or PRESETS[options.preset or "standard"].judged:
            other_work.publish(place, hosts, store, device != "cpu")

    def open_here(place: Place, hosts: Sequence[str], store: Store) -> Recorder:
        earlier = load_earlier_run(options)
        others = other_work.read_published(hosts, store) if _is_judged(options, earlier) else ()
        return open_run(options, arguments, device, place, joined, earlier, others)

    def close(recorder: Recorder, code: int) -> int:
        return closing.close(options.against, recorder.path, code)

    return run_attached(joined, open_here, began, check, close)


def open_run(
    options: RunOptions,
    arguments: list[str],
    device: str,
    place: Place,
    joined: LauncherRank | None,
    earlier: Result | None,
    others: Sequence[OtherWork] = (),
) -> Recorder:
    """A recorder with the plan, on an open file, that knows what a resumed file already has.

    `earlier` is the run to finish or to repeat, `others` what other programs do on its hosts where it is to be judged.
    Says on stderr what will be done. Raises BenchError.
    """
    from bench.measure.engine.worker import host_name
    from bench.measure.launch import progress
    from bench.records.file import Writer, new_path
    from bench.run.baseline import refuse_incomparable

    if not options.busy:
        other_work.refuse_busy(others)
    if earlier is None:
        plan = new_plan(options, device, place, joined)
    else:
        plan = resume_plan(earlier, options, place, device)
        plan = replace(plan, label=options.label or plan.label)
        plan = plan if options.resume is not None else without_pair(plan)
    resumed = earlier if options.resume is not None else None
    folder = options.output or DEFAULT_FOLDER
    again = None if resumed is None else resumed.path
    path = again or options.save_as or new_path(folder, plan.label, host_name(), clock.utc_now())
    if options.against is not None:
        refuse_incomparable(options.against, path, (case.id for case in (*plan.cases, *plan.left_out)))
    writer = Writer.create(path) if resumed is None else Writer.reopen(path)
    done = done_turns(plan, resumed)
    turns = {(launch, *turn) for launch in range(plan.launches) for turn in plan.order(launch)}
    whole, left = len(turns), len(turns - done)
    estimate = estimate_seconds(plan) * left / max(1, whole)
    _announce(plan, left, estimate, joined)
    judged = PRESETS[plan.preset].judged and options.one_launch is None
    return Recorder(
        doctor=_examine(host_name(), others) if judged and resumed is None else None,
        judge=_judge if judged else None,
        profile=str(torch_profile.trace_folder(path).resolve()) if options.profile else None,
        plan=plan,
        writer=writer,
        path=path,
        progress=progress.choose_display(sys.stderr, left, estimate, [case.id for case in plan.cases]),
        command=["bench", *arguments],
        run_id=uuid.uuid4().hex,
        resumed=resumed,
        allow_unlike=options.allow_unlike,
        done=done,
    )


def _is_judged(options: RunOptions, earlier: Result | None) -> bool:
    """True if the run ends in a verdict on the machine. Raises BenchError for a --busy that would mean nothing."""
    preset = options.preset or "standard" if earlier is None else str(earlier.plan.preset)
    judged = preset in PRESETS and PRESETS[preset].judged and options.one_launch is None
    if options.busy and not judged:
        raise BenchError(
            f"--busy: only a run that judges the machine (--preset node) asks for a quiet one, not {preset}"
        )
    return judged


def _others_here(options: RunOptions, earlier: Result | None) -> list[OtherWork]:
    """Work of other programs on this host, if it matters. Raises BenchError if they are in the way."""
    from bench.measure.engine.worker import host_name

    if not _is_judged(options, earlier):
        return []
    activity = [other_work.measure_other_work([os.getpid()], host_name())]
    if not options.busy:
        other_work.refuse_busy(activity)
    return activity


def _examine(host: str, others: Sequence[OtherWork]) -> DoctorReport:
    """The findings of the doctor on this host, before any rank is at work, and of other programs', for the header."""
    from bench.measure.doctor.checks import examine, gather

    warnings = [other_work.to_finding(other) for other in others]
    findings = [*examine(gather()), *warnings]
    bad = [finding for finding in findings if finding.level != "ok"]
    for finding in bad:
        click.echo(f"doctor: {finding.line()}", err=True)
    click.echo(f"doctor: {len(findings)} findings, {len(bad)} of them not ok", err=True)
    return DoctorReport(host=host, findings=findings)


def _judge(path: Path) -> int:
    from bench.analysis.health import verdict
    from bench.records.file import load

    return verdict.judge(load(path)).exit_code


def _announce(plan: Plan, left: int, estimate: float, joined: LauncherRank | None) -> None:
    """Print to stderr, before anything is measured: on what, how much, how long."""
    how = "started here" if joined is None else f"joined through {joined.how}"
    click.echo(f"devices: {_devices(plan)}; {plan.world_size} ranks ({how}), backend {plan.backend}", err=True)
    budget = "" if plan.budget_seconds is None else f" (budget {plan.budget_seconds:g} s)"
    click.echo(
        f"{len(plan.cases)} cases x {plan.launches} launch(es) x {plan.visits} visit(s), {left} to do, "
        f"about {estimate:.0f} s{budget}",
        err=True,
    )
    if plan.world_size == 1 and not plan.options.get("suites") and not plan.options.get("cases"):
        device = "GPU" if plan.device_type == "cuda" else "rank"
        click.echo(f"one {device}: collectives and parallel suites take two ranks or more and are left out", err=True)
    if plan.left_out:
        click.echo(f"{len(plan.left_out)} cases do not fit the budget and are left out", err=True)


def _devices(plan: Plan) -> str:
    """Devices to measure on, from this process's view, and the number of GPUs that torch does not see."""
    import torch

    from bench.measure.system.host import cpu_model, present_gpus

    if plan.device_type == "cpu":
        return f"CPU, {cpu_model() or 'model unknown'}, {plan.threads_per_rank} thread(s) a rank"
    visible, present = torch.cuda.device_count(), present_gpus()
    names = sorted({torch.cuda.get_device_name(index) for index in range(visible)})
    return f"{visible} of {max(visible, present)} GPUs ({', '.join(names)})"
