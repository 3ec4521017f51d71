"""What a published copy keeps of each field of the record types, and how.

Every field has one row. A field without a row is left out of a copy, and a test fails until it is added deliberately.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Rule(Enum):
    """What is done with a field."""

    FIGURES = "kept: numbers, states, or further records, whose fields have rules of their own"
    IDENTITY = "kept: names of cases, suites and parameters, without hosts, paths and secrets"
    TEXT = "scrubbed: hosts numbered; paths, addresses, names of people and secrets taken out"
    VERSION = "kept if it has the form of a version"
    TIME = "kept if it has the form of a time"
    DIGEST = "kept if it has the form of a digest"
    RUN_ID = "hashed"
    HOST = "numbered"
    LABEL = "numbered, unless it is the default"
    VARIABLES = "names of the allow list; values that name no interface, device, address or file"
    OPTIONS = "options of the allow list"
    COMMAND = "words of listed options"
    REFERENCE = "names, no paths"
    DROPPED = "left out"


RULES: Mapping[str, Mapping[Rule, str]] = {
    "Header": {
        Rule.FIGURES: "schema environment plan doctor", Rule.LABEL: "label", Rule.TEXT: "architecture",
        Rule.RUN_ID: "run_id", Rule.TIME: "started", Rule.COMMAND: "command",
    },
    "Environment": {
        Rule.FIGURES: "ranks imported_from", Rule.HOST: "hosts", Rule.TEXT: "architecture settings",
        Rule.VERSION: "versions", Rule.VARIABLES: "variables", Rule.DIGEST: "commit",
    },
    "RankFacts": {
        Rule.FIGURES: "rank host_index local_index memory_bytes numa_node mig visible_devices present_devices "
        "num_threads num_interop_threads cpu_affinity emulated_speed emulated_link_speed",
        Rule.HOST: "host", Rule.TEXT: "device_type device_name omp_num_threads", Rule.VERSION: "driver",
        Rule.DROPPED: "uuid pci_bus_id",
    },
    "HostFacts": {
        Rule.FIGURES: "logical_cores physical_cores sockets numa_nodes usable_cores cpu_quota_cores "
        "cpu_max_frequency_hz cpu_frequency_hz memory_bytes memory_available_bytes memory_limit_bytes shm_bytes "
        "shm_free_bytes virtualised load_averages present_gpus",
        Rule.TEXT: "cpu_model cpu_architecture cpu_governor os", Rule.VERSION: "kernel gpu_driver",
        Rule.DROPPED: "hostname",
    },
    "ImportedFrom": {
        Rule.FIGURES: "unread unknown_lines", Rule.TEXT: "tool format contradictions remarks",
        Rule.VERSION: "version", Rule.DIGEST: "sha256", Rule.DROPPED: "file taken_off",
    },
    "UnreadRow": {Rule.TEXT: "where text"},
    "PlanRow": {
        Rule.FIGURES: "suites cases left_out world_size launches case_seconds budget_seconds timeout_seconds precision "
        "seed threads_per_rank visits slow slow_links",
        Rule.IDENTITY: "preset device_type backend", Rule.LABEL: "label", Rule.OPTIONS: "options",
    },
    "SuiteFacts": {
        Rule.IDENTITY: "name metrics", Rule.REFERENCE: "reference", Rule.TEXT: "summary", Rule.DIGEST: "digest sha256",
    },
    "PlannedCase": {Rule.IDENTITY: "suite id params", Rule.FIGURES: "min_seconds prepare_seconds"},
    "DoctorReport": {Rule.HOST: "host", Rule.FIGURES: "findings"},
    "Finding": {Rule.FIGURES: "level action", Rule.TEXT: "what value remedy"},
    "Measurement": {
        Rule.FIGURES: "launch status num_ranks visit seconds traced_call_ns spans check work stop disturbance energy",
        Rule.IDENTITY: "suite case params variants derived metrics traced_variants controls launch_ns num_late",
        Rule.TEXT: "notes reason per_rank tables", Rule.TIME: "started", Rule.DROPPED: "profile",
    },
    "VariantSamples": {Rule.FIGURES: "calls nanoseconds per_iteration rank_quantiles"},
    "RankExtremes": {Rule.FIGURES: "max min last_rank"},
    "RankQuantiles": {Rule.FIGURES: "q nanoseconds"},
    "CheckOutcome": {Rule.FIGURES: "error tolerance error_after timed_samples error_timed", Rule.TEXT: "scope"},
    "WorkFacts": {
        Rule.FIGURES: "bytes bus_factor memory_traffic_bytes flops hardware_flops tokens",
        Rule.IDENTITY: "flops_dtype clock",
    },
    "Stop": {Rule.FIGURES: "half_width warmup_calls samples", Rule.TEXT: "reason"},
    "Span": {
        Rule.FIGURES: "rank call stage microbatch start_ns duration_ns sequence num_bytes launch_ns",
        Rule.IDENTITY: "kind axis",
    },
    "TableRows": {Rule.TEXT: "columns rows title notes"},
    "Interference": {Rule.FIGURES: "hosts ranks"},
    "HostInterference": {
        Rule.HOST: "host",
        Rule.FIGURES: "steal_share busy_share other_load_share other_load_noise_share thermal_events",
    },
    "RankInterference": {
        Rule.FIGURES: "rank num_ranks seconds cpu_seconds run_delay_share involuntary_switches quota_throttled_periods "
        "quota_throttled_seconds frequency_before_hz frequency_after_hz gpu_sm_clock_before_hz gpu_sm_clock_at_work_hz "
        "gpu_sm_clock_after_hz gpu_memory_clock_before_hz gpu_memory_clock_at_work_hz gpu_memory_clock_after_hz "
        "gpu_temperature_before_celsius gpu_temperature_at_work_celsius gpu_temperature_after_celsius "
        "gpu_power_before_watts gpu_power_at_work_watts gpu_power_after_watts",
        Rule.TEXT: "gpu_clock_reasons_before gpu_clock_reasons_at_work gpu_clock_reasons_after",
    },
    "Energy": {
        Rule.FIGURES: "calls seconds joules busy_share idle_watts rank_joules", Rule.TEXT: "source scope reason",
    },
    "Profile": {Rule.FIGURES: "calls", Rule.DROPPED: "folder files"},
    "Choices": {Rule.IDENTITY: "case", Rule.FIGURES: "nccl setup"},
    "NcclChoice": {Rule.IDENTITY: "function algorithm protocol", Rule.FIGURES: "num_bytes channels"},
    "NcclSetup": {
        Rule.VERSION: "version", Rule.TEXT: "network",
        Rule.FIGURES: "coll_channels collnet_channels nvls_channels p2p_channels",
    },
    "Resume": {Rule.FIGURES: "environment", Rule.TIME: "started", Rule.COMMAND: "command"},
    "Joined": {Rule.FIGURES: "environment plan doctor", Rule.TIME: "started"},
    "End": {Rule.FIGURES: "status exit_code", Rule.TIME: "ended", Rule.TEXT: "reason"},
}  # fmt: skip
"""Record type -> rule -> its fields."""

RULE_OF: Mapping[str, Rule] = {
    f"{kind}.{field}": rule
    for kind, rules in RULES.items()
    for rule, fields in rules.items()
    for field in fields.split()
}
"""Place of a field, such as `Header.label` -> its rule."""

DEFAULT_LABELS = frozenset(("", "run", "ab", "ab-a", "ab-b"))
"""Labels of runs whose user gave none."""
