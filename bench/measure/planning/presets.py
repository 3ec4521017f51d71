"""The presets: how much is measured by default, and which suites' cases.

A new preset, or a suite that is to be part of one, is a row here; the suites know what is most informative of them.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SUITES = ("compute", "collective", "tensor_parallel", "pipeline_parallel")
SOLO_SUITES = ("compute",)
"""Default suites on a single rank, for which nothing that communicates has a case."""
SOLO_NODE_SUITES = ("compute", "training_step", "soak")
NODE_SUITES = ("compute", "collective", "point_to_point", "tensor_parallel", "soak")
"""Suites that an engineer runs, after the doctor, on a machine that was just delivered."""


@dataclass(frozen=True)
class Preset:
    """A base point for how much is measured."""

    name: str
    budget_seconds: float | None
    """Budget of the whole run, start-up of every launch included; the cases' `min_seconds` come on top. None: as
    long as it needs."""
    launches: int
    visits: int
    case_seconds: float
    """Upper bound of the samples of one case in one launch, all visits together."""
    timeout_seconds: float
    suites: tuple[str, ...] = DEFAULT_SUITES
    """The suites that are measured if none is named."""
    solo_suites: tuple[str, ...] = SOLO_SUITES
    """Those of a single rank."""
    scale: str = ""
    """The preset whose sizes and cases the suites are to take; its own if nothing else is given."""
    further_start_seconds: float = 0.0
    """Addition to the budget on GPUs, whose processes start slower: for each launch and the pass of NCCL's choices."""
    judged: bool = False
    """True: a run ends in a verdict on the machine (`analysis.health`), the doctor's findings included."""

    @property
    def of_suites(self) -> str:
        """Name that suites get as `Machine.preset`."""
        return self.scale or self.name

    def budget_on(self, device_type: str) -> float | None:
        """The budget if a run is on devices of that type."""
        longer = 0.0 if device_type == "cpu" else self.further_start_seconds
        return None if self.budget_seconds is None else self.budget_seconds + longer


PRESETS: dict[str, Preset] = {
    # The budgets leave room below the promised 60 s, 4 min and 10 min for the end of the run and a slow machine. A
    # time-out of a quarter of the budget, so that a case that hangs does not take the others with it.
    "smoke": Preset("smoke", 54.0, 1, 1, 0.5, 15.0, further_start_seconds=30.0),
    "standard": Preset("standard", 225.0, 3, 1, 0.5, 60.0, further_start_seconds=60.0),
    "full": Preset("full", None, 3, 3, 10.0, 900.0),
    "node": Preset(
        "node",
        440.0,
        1,
        1,
        1.5,
        120.0,
        NODE_SUITES,
        SOLO_NODE_SUITES,
        scale="standard",
        further_start_seconds=30.0,
        judged=True,
    ),
}

CASES: dict[str, dict[str, int]] = {
    "standard": {"compute": 9, "collective": 14, "tensor_parallel": 6, "pipeline_parallel": 4},
}
"""Preset -> suites of its own, and how many of their first cases a run takes that names no suite; else all."""

FURTHER_CASES: dict[str, dict[str, int]] = {
    "smoke": {"training_step": 1, "point_to_point": 2, "overlap": 1, "data_parallel": 1, "inference": 1},
    "standard": {
        "point_to_point": 2,
        "transfer": 2,
        "overlap": 1,
        "concurrent": 1,
        "training_step": 2,
        "data_parallel": 2,
        "inference": 2,
        "context_parallel": 1,
        "expert_parallel": 1,
        "input_pipeline": 1,
        "checkpoint": 1,
    },
    "full": {
        "point_to_point": 9,
        "transfer": 5,
        "overlap": 3,
        "concurrent": 3,
        "training_step": 6,
        "data_parallel": 2,
        "inference": 4,
        "context_parallel": 2,
        "expert_parallel": 2,
    },
}
"""Preset -> further suites, and how many of their first cases a run takes that names no suite."""

SOLO_FURTHER_CASES: dict[str, dict[str, int]] = {
    "smoke": {"training_step": 1, "inference": 2, "input_pipeline": 1, "checkpoint": 1},
    "standard": {"transfer": 2, "training_step": 2, "inference": 4, "input_pipeline": 2, "checkpoint": 2},
    "full": {"transfer": 4, "training_step": 5, "inference": 8, "input_pipeline": 4, "checkpoint": 4},
}
"""Those of a single rank."""


def default_suites(preset: Preset, world_size: int) -> tuple[str, ...]:
    """The suites of a run that names none, those first whose cases are all taken."""
    whole = preset.suites if world_size > 1 else preset.solo_suites
    return (*whole, *further_cases(preset.name, world_size))


def further_cases(preset: str, world_size: int) -> dict[str, int]:
    """The suites of which such a run takes some cases, and how many."""
    return (FURTHER_CASES if world_size > 1 else SOLO_FURTHER_CASES).get(preset, {})


def most_cases(preset: str, world_size: int) -> dict[str, int]:
    """The suites of such a run of which only the first cases are taken, and how many; of the others all are."""
    return CASES.get(preset, {}) | further_cases(preset, world_size)
