"""How much is measured where nothing else is said: the presets, and which suites' cases they take.

A new preset, or a suite that is to be part of one, is a row here; the suites know what is most telling of them.
"""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SUITES = ("compute", "collective", "tensor_parallel", "pipeline_parallel")
NODE_SUITES = ("compute", "collective", "point_to_point", "tensor_parallel", "soak")
"""After the doctor: what an engineer runs on a machine just handed over."""


@dataclass(frozen=True)
class Preset:
    """A base point for how much is measured."""

    name: str
    budget_seconds: float | None
    """For the whole run, start-up of every launch included; what cases ask for by `min_seconds` comes on top. None: as
    long as it needs."""
    launches: int
    visits: int
    case_seconds: float
    """Upper bound of the samples of one case in one launch, all visits together."""
    timeout_seconds: float
    suites: tuple[str, ...] = DEFAULT_SUITES
    """What is measured where no suite is named."""
    scale: str = ""
    """The preset whose sizes and cases the suites are to take; its own where nothing else is said."""
    further_start_seconds: float = 0.0
    """Added to the budget on GPUs, whose processes take longer to start: for each launch and to hear the choices."""
    judged: bool = False
    """Whether a run ends in a verdict on the machine (`bench.health`), which the doctor's findings are part of."""

    @property
    def of_suites(self) -> str:
        """What suites know as `Machine.preset`."""
        return self.scale or self.name

    def budget_on(self, device_type: str) -> float | None:
        """The budget where a run is on devices of that type."""
        longer = 0.0 if device_type == "cpu" else self.further_start_seconds
        return None if self.budget_seconds is None else self.budget_seconds + longer


PRESETS: dict[str, Preset] = {
    # The budgets leave room below the promised 60 s, 4 min and 10 min for the end of the run and a slow machine. A
    # time-out of a quarter of the budget, so that a case that hangs does not take the others with it.
    "smoke": Preset("smoke", 54.0, 1, 1, 0.5, 15.0, further_start_seconds=30.0),
    "standard": Preset("standard", 225.0, 3, 1, 0.5, 60.0, further_start_seconds=60.0),
    "full": Preset("full", None, 3, 3, 10.0, 900.0),
    "node": Preset(
        "node", 440.0, 1, 1, 1.5, 120.0, NODE_SUITES, scale="standard", further_start_seconds=30.0, judged=True
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
