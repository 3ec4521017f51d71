"""Cost of a device per hour, rented or owned, and of a run. Every figure names where its price is from.

Owned, an hour that is used costs

    purchase x installation x ((1 - residual) / years + operations) / (8766 h x utilisation) + kW x PUE x price of
    energy

where the installation factor covers servers, network, storage and hall for each dollar of device, and `operations` is
the share of that which staff, spares and space cost a year. Idle hours' energy is not counted. Renting is cheaper
below the break-even utilisation, at which both cost the same.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from bench.errors import BenchError

HOURS_A_YEAR = 8766.0
PFLOPS_DAY = 1e15 * 86400.0
"""Model FLOPs of one PFLOP/s-day."""
KINDS = ("on_demand", "spot", "purchase")
COLUMNS = ("accelerator", "kind", "usd", "provider", "sku", "recorded", "source")


@dataclass(frozen=True)
class DevicePrice:
    """One row of the price file: US dollars an hour and device, or of a device if it is bought."""

    accelerator: str
    kind: str
    usd: float
    provider: str
    sku: str
    recorded: str
    source: str

    @property
    def text(self) -> str:
        per = "per device" if self.kind == "purchase" else "per device-hour"
        return f"{self.usd:g} USD {per} ({self.provider}, {self.sku}; {self.source}; recorded {self.recorded})"


def prices(path: Path | None = None) -> list[DevicePrice]:
    """Rows of the product's dated file, or of the user's own with the same columns; raises BenchError for a bad
    file."""
    if path is None:
        text = (resources.files("bench.catalog.data") / "prices.csv").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BenchError(f"--prices {path}: cannot be read ({error}); give a CSV file") from error
    reader = csv.DictReader(io.StringIO(text))
    missing = set(COLUMNS) - set(reader.fieldnames or ())
    if missing:
        raise BenchError(f"prices: no column {', '.join(sorted(missing))}; the file has {', '.join(COLUMNS)}")
    return [_price(row, number) for number, row in enumerate(reader, start=2)]


def _price(row: dict[str, str], line: int) -> DevicePrice:
    try:
        usd = float(row["usd"])
    except (TypeError, ValueError):
        usd = -1.0
    if not usd > 0.0 or row["kind"] not in KINDS:
        raise BenchError(
            f"prices, line {line}: usd {row['usd']!r}, kind {row['kind']!r}; a number, and {', '.join(KINDS)}"
        )
    return DevicePrice(
        row["accelerator"], row["kind"], usd, row["provider"], row["sku"], row["recorded"], row["source"]
    )


def cheapest(rows: Iterable[DevicePrice], accelerator: str, kind: str) -> DevicePrice | None:
    offers = [row for row in rows if row.accelerator == accelerator and row.kind == kind]
    return min(offers, key=lambda row: row.usd) if offers else None


@dataclass(frozen=True)
class Own:
    """Assumptions of owning; each of them can be given, and all are printed."""

    purchase_usd: float
    kw: float
    """A device with its share of host, network and storage, under load."""
    installation: float = 1.5
    years: float = 4.0
    residual: float = 0.1
    pue: float = 1.25
    usd_per_kwh: float = 0.08
    operations: float = 0.05
    utilisation: float = 0.9

    @property
    def capital_usd(self) -> float:
        """Price of one device with its share of servers, network, storage and hall."""
        return self.purchase_usd * self.installation

    def fixed_usd_per_hour(self) -> float:
        """Cost of one device per hour, used or not."""
        yearly = (1.0 - self.residual) / self.years + self.operations
        return self.capital_usd * yearly / HOURS_A_YEAR

    def energy_usd_per_hour(self) -> float:
        return self.kw * self.pue * self.usd_per_kwh

    def usd_per_hour(self) -> float:
        """Cost of one device per hour in use."""
        return self.fixed_usd_per_hour() / self.utilisation + self.energy_usd_per_hour()

    def break_even_utilisation(self, rent_usd_per_hour: float) -> float | None:
        """Utilisation above which owning is cheaper; None if it never is, not even in use all the time."""
        spared = rent_usd_per_hour - self.energy_usd_per_hour()
        if spared <= 0.0:
            return None
        share = self.fixed_usd_per_hour() / spared
        return share if share <= 1.0 else None


OWN_LIMITS = {
    "installation": (1.0, 10.0), "years": (0.5, 20.0), "residual": (0.0, 0.99), "pue": (1.0, 3.0),
    "usd_per_kwh": (0.0, 5.0), "operations": (0.0, 1.0), "utilisation": (0.01, 1.0), "kw": (0.01, 20.0),
    "purchase_usd": (1.0, 1e7),
}  # fmt: skip


def parse_own(text: str, purchase_usd: float | None, kw: float | None) -> Own:
    """Parse `years=4,pue=1.2,...`, names as the fields; raises BenchError for another name or a value out of reason.

    `purchase_usd` and `kw` are what the catalogue has, if the text does not say.
    """
    given: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in OWN_LIMITS:
            raise BenchError(f"--own {part!r}: there are: {', '.join(OWN_LIMITS)}, as NAME=NUMBER with commas between")
        low, high = OWN_LIMITS[name]
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise BenchError(f"--own {part!r}: {name} is a number from {low:g} to {high:g}")
        given[name] = number
    for name, known in (("purchase_usd", purchase_usd), ("kw", kw)):
        if name not in given and known is None:
            raise BenchError(f"--own: {name} is not known of this accelerator; give it: --own {name}=NUMBER")
        given.setdefault(name, known or 0.0)
    return Own(**given)


@dataclass(frozen=True)
class RunCost:
    """Cost of a run. `waiting_usd` is the price of its duration, if a day of waiting has a price."""

    devices: int
    usd_per_device_hour: float
    tokens_per_s: float
    """Speed while the job runs."""
    goodput: float
    flops_per_token: float
    tokens: float
    usd_per_waiting_day: float = 0.0

    @property
    def effective_tokens_per_s(self) -> float:
        return self.tokens_per_s * self.goodput

    @property
    def seconds(self) -> float:
        return self.tokens / self.effective_tokens_per_s

    @property
    def run_usd(self) -> float:
        return self.devices * self.usd_per_device_hour * self.seconds / 3600.0

    @property
    def waiting_usd(self) -> float:
        return self.seconds / 86400.0 * self.usd_per_waiting_day

    @property
    def usd_per_million_tokens(self) -> float:
        return self.run_usd / self.tokens * 1e6

    @property
    def usd_per_pflops_day(self) -> float:
        """Model FLOPs, attention in full."""
        return self.run_usd / (self.tokens * self.flops_per_token) * PFLOPS_DAY
