"""Failures against Monte Carlo and a published run; money by hand; prices from a file."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.predict.cost import failures, prices
from bench.predict.cost.failures import Domain, Failures

HOUR = 3600.0


def _simulated_goodput(of: Failures, interval_seconds: float, intervals: int, seed: int = 0) -> float:
    """Monte Carlo of the same process, event by event."""
    draw = random.Random(seed)
    whole = interval_seconds + of.checkpoint_seconds
    wall = 0.0
    for _ in range(intervals):
        while (until := draw.expovariate(1.0 / of.mtbf_seconds)) < whole:
            wall += until
            while (until := draw.expovariate(1.0 / of.mtbf_seconds)) < of.restart_seconds:
                wall += until
            wall += of.restart_seconds
        wall += whole
    return intervals * interval_seconds / wall


@pytest.mark.parametrize(
    ("interval", "delta", "restart"), [(600.0, 30.0, 300.0), (3600.0, 60.0, 1200.0), (100.0, 5.0, 60.0)]
)
def test_goodput_is_what_a_simulation_of_it_gives(interval: float, delta: float, restart: float) -> None:
    found = Failures(mtbf_seconds=2 * HOUR, checkpoint_seconds=delta, restart_seconds=restart)
    simulated = _simulated_goodput(found, interval, intervals=20_000, seed=7)
    assert found.goodput(interval) == pytest.approx(simulated, rel=0.02)


def test_the_best_interval_is_the_best_and_youngs_is_near_it() -> None:
    found = Failures(3.09 * HOUR, 60.0, 600.0)
    best = found.best_seconds
    assert found.goodput(best) >= max(found.goodput(best * f) for f in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0))
    assert found.young_seconds == pytest.approx(math.sqrt(2 * 60.0 * 3.09 * HOUR))
    assert best == pytest.approx(found.young_seconds, rel=0.05)
    assert found.goodput(best) >= found.goodput(found.young_seconds)
    rough = Failures(100.0, 90.0, 10.0)  # where the first order no longer holds
    assert rough.goodput(rough.best_seconds) > 1.05 * rough.goodput(rough.young_seconds)
    assert Failures(1.0, 1.0, 1.0).goodput(1e6) == 0.0


def test_llama_3_was_effective_over_90_percent_of_the_time() -> None:
    # 16,384 H100, 54 days, 419 unexpected interruptions; checkpoints of 5.7 TB at 2 TB/s, ten minutes to restart.
    found = failures.failures_of_job(16384, failures.DEVICE_MTBF_SECONDS, 2.9, 600.0)
    assert found.mtbf_seconds / HOUR == pytest.approx(3.09, abs=0.005)
    assert found.goodput(found.best_seconds) > 0.9


def test_domains_fail_as_one_and_add_to_the_rate() -> None:
    alone = failures.failures_of_job(1000, 1e9, 10.0, 100.0)
    feed = Domain("feed", devices=500, mtbf_seconds=1e6, restart_seconds=1000.0)
    both = failures.failures_of_job(1000, 1e9, 10.0, 100.0, (feed,))
    assert 1 / both.mtbf_seconds == pytest.approx(1 / alone.mtbf_seconds + 2 / 1e6)
    assert both.restart_seconds == pytest.approx((1e-6 * 100.0 + 2e-6 * 1000.0) / 3e-6)
    with pytest.raises(BenchError, match="restart time 0"):
        failures.failures_of_job(8, 1e9, 1.0, 0.0)


def test_owning_costs_what_its_assumptions_say() -> None:
    own = prices.Own(30000.0, 1.0, installation=1.0, years=5.0, residual=0.0, pue=1.2, usd_per_kwh=0.1, operations=0.0)
    assert own.fixed_usd_per_hour() == pytest.approx(30000 / 5 / 8766)
    assert own.usd_per_hour() == pytest.approx(30000 / 5 / 8766 / 0.9 + 0.12)
    even = own.break_even_utilisation(2.0)
    assert even == pytest.approx(30000 / 5 / 8766 / (2.0 - 0.12))
    assert prices.Own(30000.0, 1.0).break_even_utilisation(0.5) is None
    given = prices.parse_own("years=3, pue=1.1,purchase_usd=20000", None, 1.3)
    assert (given.years, given.pue, given.purchase_usd, given.kw) == (3.0, 1.1, 20000.0, 1.3)
    for text, message in (
        ("age=3", "there are: installation"),
        ("pue=0.5", "from 1 to 3"),
        ("years", "from 0.5"),
        ("", "not known"),
    ):
        with pytest.raises(BenchError, match=message):
            prices.parse_own(text, None, 1.0)


def test_a_run_is_priced_with_its_failures() -> None:
    cost = prices.RunCost(100, 2.0, 1e6, 0.8, 6e9, 8e11, usd_per_waiting_day=10.0)
    assert cost.seconds == pytest.approx(1e6)
    assert cost.run_usd == pytest.approx(100 * 2.0 * 1e6 / 3600)
    assert cost.usd_per_million_tokens == pytest.approx(cost.run_usd / 8e5)
    assert cost.usd_per_pflops_day == pytest.approx(cost.run_usd / (8e11 * 6e9 / (1e15 * 86400)))
    assert cost.waiting_usd == pytest.approx(10.0 * 1e6 / 86400)


def test_prices_have_sources_and_a_bad_file_is_refused(tmp_path: Path) -> None:
    rows = prices.prices()
    assert all(row.source and row.recorded for row in rows)
    cheapest = prices.cheapest(rows, "H100-SXM-80GB", "on_demand")
    assert cheapest is not None
    assert "recorded" in cheapest.text
    assert prices.cheapest(rows, "TPU v5p", "spot") is None
    file = tmp_path / "prices.csv"
    for text, message in (
        ("name,usd\nx,1\n", "no column accelerator"),
        ("accelerator,kind,usd,provider,sku,recorded,source\nH100,weekly,1,a,b,c,d\n", "line 2"),
        ("accelerator,kind,usd,provider,sku,recorded,source\nH100,spot,free,a,b,c,d\n", "line 2"),
    ):
        file.write_text(text)
        with pytest.raises(BenchError, match=message):
            prices.prices(file)
    with pytest.raises(BenchError, match="cannot be read"):
        prices.prices(tmp_path / "none.csv")
