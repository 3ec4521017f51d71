"""Words and figures of a prediction as people say them: money, days, tokens, devices."""

from __future__ import annotations

from bench.core.values import show_number, show_seconds
from bench.predict.answer import Option, PredictedJob

_USD = ((1e12, "trn USD"), (1e9, "bn USD"), (1e6, "M USD"), (1e3, "k USD"), (1.0, "USD"))
_DAY, _YEAR = 86400.0, 365.25 * 86400.0
_TIMES = ((2 * _YEAR, _YEAR, "years"), (2 * _DAY, _DAY, "days"), (2 * 3600.0, 3600.0, "hours"))
_PERIODS = ((2 * _DAY, _DAY, "d"), (2 * 3600.0, 3600.0, "h"), (120.0, 60.0, "min"))
_COUNTS = ((1e12, " trillion"), (1e9, " billion"), (1e6, " M"), (1e3, "k"))


def show_usd(usd: float) -> str:
    """Money with two digits, as people say it: `76 M USD`, `4.5 bn USD`."""
    scale, unit = next((pair for pair in _USD if usd >= 0.995 * pair[0]), _USD[-1])
    return f"{_two_digits(usd / scale)} {unit}"


def show_duration(seconds: float) -> str:
    """A time of a run: `45 days`, `9.5 hours`, `3.1 years`."""
    for least, scale, unit in _TIMES:
        if seconds >= least:
            return f"{_two_digits(seconds / scale)} {unit}"
    return f"{_two_digits(seconds / 60.0)} minutes"


def show_range(low: float, high: float) -> str:
    """Two times of a run, the unit once if it is one: `37 to 55 days`."""
    first, last = show_duration(low), show_duration(high)
    unit = f" {last.rpartition(' ')[2]}"
    return f"{first.removesuffix(unit)} to {last}"


def show_period(seconds: float) -> str:
    """A time between events: `2.1 h`, `2.8 min`, `59 s`."""
    for least, scale, unit in _PERIODS:
        if seconds >= least:
            value = seconds / scale
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.2g} {unit}"
    return show_seconds(seconds, 2)


def show_count(number: float) -> str:
    """A large number: `15 trillion`, `4.27 M`, `12.3k`."""
    for scale, word in _COUNTS:
        if number >= scale:
            return f"{number / scale:.3g}{word}"
    return f"{number:,.0f}"


def show_percent(share: float) -> str:
    """A share in percent with two digits."""
    return f"{_two_digits(100 * share)}%"


def _two_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 9.95 else show_number(value, 2)


def name_fleet(job: PredictedJob) -> str:
    """Number and short name of the devices: `24,000 x H100`, in full if short ones are alike."""
    names = [member.device.name for member in job.request.members]
    short = [name.partition("-")[0] for name in names]
    chosen = short if len(set(short)) == len(short) else names
    return " + ".join(f"{m.devices:,} x {name}" for m, name in zip(job.request.members, chosen, strict=True))


def answer_of(job: PredictedJob) -> str:
    """Time of the run, and each way to pay for it: `45 days and 76 M USD rented`."""
    ways = [_way(job, option) for option in job.options]
    took = show_duration(job.run_seconds)
    if not ways:
        return took
    return f"{took} and {ways[0]}" if len(ways) == 1 else f"{took}, {' | '.join(ways)}"


def _way(job: PredictedJob, option: Option) -> str:
    usd = show_usd(option.cost.run_usd)
    took = "" if option.cost.goodput == job.options[0].cost.goodput else f" in {show_duration(option.cost.seconds)}"
    if option.capital_usd is not None and job.own is not None:
        busy = f"{100 * job.own.utilisation:g}% busy for {job.own.years:g} years"
        # The purchase says the unit; beside a rent it is said before, too.
        usd = usd if option is job.options[0] else usd.removesuffix(" USD")
        return f"{usd}{took} of a {show_usd(option.capital_usd)} purchase, if {busy}"
    rents = [other for other in job.options if other.name == option.name]
    price = f" at {option.usd_per_device_hour:g} USD per hour" if len(rents) > 1 else ""
    return f"{usd}{took} {'on spot' if option.name == 'spot' else 'rented'}{price}"
