"""The harness's own kernels: how many rounds of them a visit may have, and that nobody else can change them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.core.clock import cpu_clock
from bench.measure.engine.timing.calibration import (
    COMPUTE,
    COPY,
    EXCHANGE,
    MOST_ROUNDS,
    PLANNED_SHARE,
    Calibration,
    VisitControls,
    make_kernels,
)
from tests.measure.engine.timing.test_sampler import MILLISECOND, FakeTime
from tests.support.plans import lone_rank


def calibrated(time: FakeTime, *milliseconds: int) -> Calibration:
    """Two kernels, each as long as the other; the first calls are the cold one and the warm-up."""
    both = {name: time.takes(name, *(ms * MILLISECOND for ms in milliseconds)) for name in (COMPUTE, COPY)}
    return Calibration(lone_rank(), both, time.clock(), time.seconds)


def passes(time: FakeTime, seconds: float) -> None:
    time.nanoseconds += round(seconds * 1e9)


@pytest.mark.parametrize("visit_seconds", [0.05, 0.21, 1.0, 3.0])
def test_a_visit_spends_its_share_of_time_on_them_and_no_more(visit_seconds: float) -> None:
    time = FakeTime()
    calibration = calibrated(time, 1)
    began, num_visits = time.seconds(), 20
    for _ in range(num_visits):
        controls = calibration.begin_visit()
        passes(time, visit_seconds / 2)
        controls.sample(0.5)
        passes(time, visit_seconds / 2)
        controls.sample()
    spent = time.seconds() - began - num_visits * visit_seconds
    assert spent <= PLANNED_SHARE * (time.seconds() - began) + 0.002
    assert spent >= 0.7 * min(PLANNED_SHARE * num_visits * visit_seconds, num_visits * MOST_ROUNDS * 0.002)


def test_samples_are_those_of_the_clock_without_the_cold_call_and_the_warm_up() -> None:
    time = FakeTime()
    controls = calibrated(time, 9, 8, 8, 8, 2).begin_visit()
    passes(time, 2.0)
    controls.sample()
    assert controls.nanoseconds[COMPUTE] == controls.nanoseconds[COPY] == [2 * MILLISECOND]  # a round was 16 ms so far
    passes(time, 2.0)
    controls.sample()
    assert set(controls.nanoseconds[COPY]) == {2 * MILLISECOND}
    assert len(controls.nanoseconds[COPY]) > 3


def test_a_long_visit_has_no_more_than_tell_anything() -> None:
    time = FakeTime()
    controls = calibrated(time, 1).begin_visit()
    passes(time, 1e4)
    controls.sample()
    assert len(controls.nanoseconds[COPY]) == MOST_ROUNDS


def test_too_short_a_visit_has_none_and_the_next_ones_make_up_for_it() -> None:
    time = FakeTime()
    calibration = calibrated(time, 1)
    numbers = []
    for _ in range(8):
        controls = calibration.begin_visit()
        passes(time, 0.04)  # 0.6 ms of controls, a third of a round
        controls.sample()
        numbers.append(len(controls.nanoseconds[COPY]))
    assert numbers[0] == 0
    assert sum(numbers) == 2


def test_of_one_rank_alone_nothing_is_exchanged() -> None:
    kernels = make_kernels(lone_rank())
    assert list(kernels) == [COMPUTE, COPY]
    assert EXCHANGE not in kernels


def test_the_kernels_of_a_cpu_do_not_see_the_threads_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **named: object) -> None:
        raise AssertionError("torch is under test, and so must not be a control")

    monkeypatch.setattr(torch, "mm", refuse)
    kernels = make_kernels(lone_rank())
    monkeypatch.setattr(torch, "zeros", refuse)
    for run in kernels.values():
        run()


def test_the_numbers_stay_ordinary_however_often_a_kernel_runs() -> None:
    run = make_kernels(lone_rank())[COMPUTE]
    for _ in range(2000):
        run()
    (values,) = [cell.cell_contents for cell in run.__closure__ or () if isinstance(cell.cell_contents, np.ndarray)]
    assert np.allclose(values, 1.0)


def test_real_kernels_take_time_by_the_real_clock() -> None:
    rank = lone_rank()
    calibration = Calibration(rank, make_kernels(rank), cpu_clock(), FakeTime().seconds)
    controls = VisitControls(calibration, FakeTime(10**12).seconds)
    controls._began = 0.0  # long ago by a clock that stands still
    controls.sample()
    assert all(sample > 0 for samples in controls.nanoseconds.values() for sample in samples)
    assert len(controls.nanoseconds[COPY]) == MOST_ROUNDS
