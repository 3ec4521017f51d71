"""`bench run` as one of the ranks that another program started."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import click

import bench
from bench.core import exit_codes
from bench.core.crash.module_shadows import ShadowsNamed
from bench.core.crash.unforeseen import UnforeseenTold, code_of, final_code
from bench.core.process import stop_signals
from bench.core.process_environment import environment_variables
from bench.core.values import parse_seconds
from bench.errors import BenchError
from bench.measure.launch import other_work
from bench.measure.launch.relaunch import Continuation, run_again, without_orders
from bench.measure.launchers import rank_zero
from bench.measure.launchers.host_lists import rank_hosts
from bench.measure.launchers.interfaces import check_interfaces, host_addresses
from bench.measure.launchers.loopback import keep_to_loopback
from bench.measure.planning.options import RunOptions
from bench.measure.planning.planner import load_earlier_run, new_plan
from bench.measure.planning.presets import PRESETS
from bench.measure.planning.suite_digest import engine_digest
from bench.measure.planning.suite_loader import load_all
from bench.measure.system.backends import resolve
from bench.measure.system.devices import choose_device
from bench.run import closing
from bench.run.opening import claim_file, examine_host, is_judged, open_run, show_progress

if TYPE_CHECKING:
    from bench.measure.engine.store import Store
    from bench.measure.joining.agreement import CommonFacts
    from bench.measure.launch.joined_start import JoinedJob
    from bench.measure.launch.recorder import Recorder
    from bench.measure.launchers.place import LauncherRank, Place
    from bench.measure.planning.plan import Plan
    from bench.records.file import Result
    from bench.records.run_file.run_file import RunFile

DEFAULT_LIMIT_SECONDS = 120.0
HEAD_START_SECONDS = 5.0
"""Time for rank 0 to say for all ranks why they cannot be joined."""
REACH_SECONDS = 5.0
"""Time for a connection from one host to another."""


def run_joined(options: RunOptions, arguments: list[str], joined: LauncherRank, began: float) -> NoReturn:
    """Run as one of a launcher's ranks, and end the process with the exit code."""
    continuation = Continuation.from_text(options.continuation)
    refused = exit_codes.PARTIAL if continuation.number else exit_codes.USAGE
    from bench.measure.joining.meeting import RefusedError
    from bench.measure.launch.joined_end import leave_process

    words = without_orders(arguments)
    try:
        with UnforeseenTold(), ShadowsNamed():
            code = _Joined(options, words, _located(joined), continuation, began).run()
    except BenchError as error:
        if not isinstance(error, RefusedError) or error.is_said:
            head = "" if joined.index == 0 else f"rank {joined.index}: "
            click.echo(f"bench: error: {head}{error}", err=True)
        code = code_of(error, refused)
    except KeyboardInterrupt:  # before there was anything to end
        code = stop_signals.handle()
        if joined.index == 0:
            click.echo("interrupted; nothing was measured", err=True)
    leave_process(final_code(code))


def _located(joined: LauncherRank) -> LauncherRank:
    """The rank with the address of rank 0, which is the first to report an error of all ranks. Raises BenchError."""
    try:
        return rank_zero.locate(joined, environment_variables())
    except BenchError:
        if joined.index:  # most launchers end the other ranks once one has ended with an error
            threading.Event().wait(HEAD_START_SECONDS)
        raise


class _Joined:
    """The parts of a joined run that options decide."""

    def __init__(
        self,
        options: RunOptions,
        arguments: list[str],
        joined: LauncherRank,
        continuation: Continuation,
        began: float,
    ) -> None:
        self.options = options
        self.arguments = arguments
        self.joined = joined
        self.continuation = continuation
        self.began = began
        self.earlier: Result | None = None
        self.file: RunFile | None = None
        """The file to go on with, on rank 0."""
        self.known_hosts = _planned_hosts(joined)
        self._device: tuple[str, int] | None = None

    def run(self) -> int:
        from bench.measure.engine.worker import host_name
        from bench.measure.joining.meeting import Meeting
        from bench.measure.launch.attached import run_attached

        limit = _limit_seconds(self.options)
        number = self.continuation.number
        meeting = Meeting(
            joined=self.joined,
            host=host_name(),
            number=number,
            limit_seconds=limit,
            began=self.began,
            say=lambda text: click.echo(text, err=True),
            known_hosts=self.known_hosts,
        )
        return run_attached(self.joined, meeting, self._job(limit), self._run_again)

    def _job(self, limit_seconds: float) -> JoinedJob:
        from bench.measure.launch.joined_start import JoinedJob

        began = self.continuation.began
        return JoinedJob(
            open_run=self._open,
            settle=self._settle,
            look=self._look,
            reach=self._reach,
            gather_facts=self._gather_facts,
            close=lambda recorder, code: closing.close(self.options.against, recorder, code),
            limit_seconds=limit_seconds,
            allow_unlike=self.options.allow_unlike,
            continuation=self.continuation,
            began=self.began if began is None else began,
            process_began=self.began,
        )

    def _run_again(self, recorder: Recorder | None) -> None:
        file = None if recorder is None else recorder.writer
        began = self.continuation.began
        run_again(self.joined, self.arguments, self.continuation, file, self.began if began is None else began)

    def _choose_device(self) -> tuple[str, int]:
        """Device type and number of visible GPUs. Raises BenchError for accelerators that torch cannot use."""
        if self._device is None:
            self._device = choose_device(self.options.device)
        return self._device

    def _open(self, place: Place) -> Recorder:
        """Rank 0's recorder, on a file that has its header: all that is known before the others come."""
        self.file = claim_file(self.options, self.continuation.held)
        try:
            return self._open_run(place)
        except BaseException:
            if self.file is not None:
                self.file.close()
            raise

    def _open_run(self, place: Place) -> Recorder:
        options = self._options_now()
        if options.ranks is not None and options.ranks != self.joined.world_size:
            raise BenchError(
                f"--ranks {options.ranks}: {self.joined.how} started {self.joined.world_size} ranks; leave --ranks out"
            )
        options.refuse_mixed()
        device, _ = self._choose_device()
        self.earlier = load_earlier_run(options)
        is_judged(options, self.earlier)
        launch = self.continuation.number
        recorder = open_run(options, self.arguments, device, place, self.joined, self.earlier, None, launch, self.file)
        recorder.continues = self.continuation.number > 0
        self._remember_hosts()
        if options.resume is None:
            from bench.measure.system.environment import describe_alone

            recorder.begin(describe_alone(device))
        return recorder

    def _options_now(self) -> RunOptions:
        """The options as they hold for this launch: a later one goes on with the file of the job."""
        if self.file is None:
            return self.options
        if self.continuation.held is None:
            return replace(self.options, resume=self.file.path)
        same = ("launcher", "device", "against", "busy", "profile", "join_timeout", "allow_unlike")
        return RunOptions(**{name: getattr(self.options, name) for name in same}, resume=self.file.path)

    def _remember_hosts(self) -> None:
        """Tell the meeting where the ranks of an earlier launch were."""
        if self.earlier is not None:
            known = {fact.rank: fact.host for fact in self.earlier.environment.ranks}
            self.known_hosts.update({rank: host for rank, host in known.items() if rank is not None and host})

    def _look(self, place: Place, hosts: Sequence[str], store: Store) -> None:
        """Look at this rank's host. Raises BenchError if the ranks do not fit it."""
        from bench.measure.launch.joined_start import check_gpus

        device, num_gpus = self._choose_device()
        if device != "cpu":
            check_gpus(place, num_gpus, "this node")
        environ = environment_variables()
        check_interfaces(environ, list(host_addresses()))
        if place.num_hosts == 1:
            os.environ.update(keep_to_loopback(environ))
        # A saved plan's preset is known to rank 0 alone, so with one every host looks, and rank 0 need not listen.
        options = self.options
        saved = options.like or options.resume or self.continuation.number
        if saved or PRESETS[options.preset or "standard"].judged:
            other_work.publish(place, hosts, store, device != "cpu")

    def _reach(self, place: Place, hosts: Sequence[str], store: Store) -> str | None:
        """Complaint about hosts that do not reach each other, the same on all ranks; None: they do."""
        from bench.measure.joining.reach import check_reach

        backend = resolve(self._choose_device()[0], self.options.backend).name
        wait_seconds = _limit_seconds(self.options)  # some ranks take longer to import and to look at their host
        return check_reach(place, hosts, store, REACH_SECONDS, environment_variables(), backend, wait_seconds)

    def _settle(self, recorder: Recorder, place: Place, hosts: Sequence[str], store: Store) -> None:
        """Make the plan fit the places of all ranks, and let the doctor speak, before anything is measured."""
        from bench.measure.launch.joined_start import expected_place

        options, device = self._options_now(), self._choose_device()[0]
        plan, doctor = recorder.plan, recorder.doctor
        if self.earlier is None and place.local_world_size != expected_place(self.joined).local_world_size:
            plan = new_plan(options, device, place, self.joined)
        if is_judged(options, self.earlier):
            others = other_work.read_published(hosts, store)
            if not options.busy:
                other_work.refuse_busy(others)
            if options.resume is None:
                doctor = examine_host(hosts[0], others)
        recorder.change_plan(plan, doctor)
        recorder.progress = show_progress(plan, recorder.resumed)

    def _gather_facts(self, plan: Plan) -> CommonFacts:
        """Facts that all ranks must have in common. Raises BenchError for a suite that is not here."""
        import torch

        from bench.measure.joining.agreement import CommonFacts, comparable_variables
        from bench.measure.system.environment import named_variables

        suites = load_all(suite.reference for suite in plan.suites)
        python = ".".join(str(part) for part in sys.version_info[:2])
        options = self.options.to_record()
        return CommonFacts(
            release={"bench": bench.__version__},
            version={"torch": str(torch.__version__), "Python": python},
            code={"bench": engine_digest(), **{f"suite {suite.name}": suite.digest for suite in suites}},
            options={name: _spell(value) for name, value in options.items() if name not in _OWN_OPTIONS},
            device=self._choose_device()[0],
            variables=comparable_variables(named_variables(environment_variables())),
        )


def _planned_hosts(joined: LauncherRank) -> dict[int, str]:
    """Hosts of the ranks as Slurm placed them; other launchers do not say."""
    environ = environment_variables()
    if joined.how != "slurm":
        return {}
    nodes, counts = environ.get("SLURM_STEP_NODELIST", ""), environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    return rank_hosts(nodes, counts, environ.get("SLURM_DISTRIBUTION", ""))


_OWN_OPTIONS = frozenset(("label", "output", "against", "resume", "like", "launcher", "join_timeout"))
"""Options that rank 0 alone makes use of, or that each rank may have of its own."""


def _spell(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _limit_seconds(options: RunOptions) -> float:
    if options.join_timeout is None:
        return DEFAULT_LIMIT_SECONDS
    return parse_seconds("--join-timeout", options.join_timeout)
