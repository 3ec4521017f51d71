"""Opening of a run: its plan, its result file, the doctor's findings if it judges, and the announcement."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.core import clock
from bench.errors import BenchError
from bench.measure.engine.passes import torch_profile
from bench.measure.launch import other_work
from bench.measure.launch.recorder import Recorder, done_turns
from bench.measure.launchers.place import LauncherRank, Place
from bench.measure.planning.budget_fit import estimate_seconds
from bench.measure.planning.options import RunOptions
from bench.measure.planning.plan import Plan
from bench.measure.planning.planner import new_plan, resume_plan, with_budget, with_launches, without_pair
from bench.measure.planning.presets import PRESETS
from bench.records.last_result import DEFAULT_FOLDER, named_file
from bench.records.lines.parts import DoctorReport
from bench.records.privacy.recorded import mask_label
from bench.run.saved_suites import refuse_foreign_suites

if TYPE_CHECKING:
    from bench.measure.launch.other_work import OtherWork
    from bench.measure.launch.progress import Progress
    from bench.records.file import Result
    from bench.records.run_file.run_file import RunFile


def open_run(
    options: RunOptions,
    arguments: list[str],
    device: str,
    place: Place,
    joined: LauncherRank | None,
    earlier: Result | None,
    others: Sequence[OtherWork] | None = (),
    launch: int = 0,
    file: RunFile | None = None,
) -> Recorder:
    """A recorder with the plan, on an open file, that knows what a resumed file already has.

    `earlier` is the run to finish or to repeat, `file` what `claim_file` gave, which is closed if there is no run.
    `others` is the work of other programs on its hosts if it is to be judged; None: not known yet, since the ranks have
    not met, and the doctor waits too.
    Says on stderr what will be done; of a later `launch` of a job that is under way, only that. Raises BenchError.
    """
    from bench.measure.engine.worker import host_name
    from bench.records.file import new_path
    from bench.records.run_file.run_file import RunFile
    from bench.run.baseline import refuse_incomparable

    if not options.busy:
        other_work.refuse_busy(others or ())
    if earlier is None:
        plan = new_plan(options, device, place, joined)
    else:
        refuse_foreign_suites(earlier.path, (suite.reference for suite in earlier.plan.suites))
        plan = resume_plan(earlier, options, place, device)
        plan = with_launches(replace(plan, label=mask_label(options.label or plan.label)), options.launches)
        plan = with_budget(plan, options.budget) if options.resume is not None else without_pair(plan)
    resumed = earlier if options.resume is not None else None
    if options.against is not None:
        own = Path() if resumed is None else resumed.path
        refuse_incomparable(options.against, own, (case.id for case in (*plan.cases, *plan.left_out)))
    folder = options.output or DEFAULT_FOLDER
    if file is None:
        file = RunFile.create(options.save_as or (lambda: new_path(folder, plan.label, host_name(), clock.utc_now())))
    try:
        return _recorder_on(file, options, arguments, plan, joined, resumed, others, launch)
    except BaseException:
        file.close()
        raise


def _recorder_on(
    file: RunFile,
    options: RunOptions,
    arguments: list[str],
    plan: Plan,
    joined: LauncherRank | None,
    resumed: Result | None,
    others: Sequence[OtherWork] | None,
    launch: int,
) -> Recorder:
    from bench.measure.engine.worker import host_name

    if launch:
        click.echo(f"launch {launch + 1} of {plan.launches}: fresh processes meet again", err=True)
    else:
        _announce(plan, *_work_left(plan, resumed), joined)
    judged = PRESETS[plan.preset].judged and options.one_launch is None
    return Recorder(
        doctor=examine_host(host_name(), others) if judged and resumed is None and others is not None else None,
        judge=_judge if judged else None,
        profile=str(torch_profile.trace_folder(file.path).resolve()) if options.profile else None,
        plan=plan,
        writer=file,
        progress=show_progress(plan, resumed, waits=others is None),
        command=["bench", *arguments],
        run_id=uuid.uuid4().hex,
        resumed=resumed,
        allow_unlike=options.allow_unlike,
        done=done_turns(plan, resumed),
    )


def claim_file(options: RunOptions, held: str | None = None) -> RunFile | None:
    """The file that a run goes on with, locked before it is read; None for a run that makes a new one.

    `held`: orders of the process that has it, by `RunFile.pass_on`. Raises BenchError if another run has it.
    """
    from bench.records.run_file.run_file import RunFile

    if held is not None:
        return RunFile.inherit(held, lambda text: click.echo(text, err=True))
    return None if options.resume is None else RunFile.resume(named_file(options.resume))


def _work_left(plan: Plan, resumed: Result | None) -> tuple[int, float]:
    """Turns that are left to do, and about how many seconds they take."""
    turns = {(launch, *turn) for launch in range(plan.launches) for turn in plan.order(launch)}
    left = len(turns - done_turns(plan, resumed))
    return left, estimate_seconds(plan) * left / max(1, len(turns))


def show_progress(plan: Plan, resumed: Result | None, waits: bool = False) -> Progress:
    """The display of a run; one that waits for its ranks leaves the terminal's last line to their meeting."""
    from bench.measure.launch import progress

    left, estimate = _work_left(plan, resumed)
    choose = progress.Lines if waits else progress.choose_display
    return choose(sys.stderr, left, estimate, [case.id for case in plan.cases])


def is_judged(options: RunOptions, earlier: Result | None) -> bool:
    """True if the run ends in a verdict on the machine. Raises BenchError for a --busy that would mean nothing."""
    preset = options.preset or "standard" if earlier is None else str(earlier.plan.preset)
    judged = preset in PRESETS and PRESETS[preset].judged and options.one_launch is None
    if options.busy and not judged:
        raise BenchError(
            f"--busy: only a run that judges the machine (--preset node) asks for a quiet one, not {preset}"
        )
    return judged


def others_here(options: RunOptions, earlier: Result | None) -> list[OtherWork]:
    """Work of other programs on this host, if it matters. Raises BenchError if they are in the way."""
    from bench.measure.engine.worker import host_name

    if not is_judged(options, earlier):
        return []
    activity = [other_work.measure_other_work([os.getpid()], host_name())]
    if not options.busy:
        other_work.refuse_busy(activity)
    return activity


def examine_host(host: str, others: Sequence[OtherWork]) -> DoctorReport:
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
