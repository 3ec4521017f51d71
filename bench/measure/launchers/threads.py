"""Number of threads of a rank's CPU kernels."""

from __future__ import annotations

from collections.abc import Mapping

from bench.measure.launchers.place import LauncherRank


def threads_per_rank(environ: Mapping[str, str], joined: LauncherRank | None, num_cores: int, local_ranks: int) -> int:
    """Threads of a rank's CPU kernels: OMP_NUM_THREADS if the user set it, else the host's cores shared out.

    torchrun sets OMP_NUM_THREADS=1 when no one did, other launchers nothing: taken as it comes, one machine would be
    measured with different thread counts. So torchrun's 1 counts as not set.
    """
    # A list has one number for each level of nesting (OpenMP 5.2, section 21.1.2); ranks do not nest.
    text = environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    of_torchrun = joined is not None and joined.how == "torchrun" and text == "1"
    if text.isdecimal() and int(text) > 0 and not of_torchrun:
        return int(text)
    return max(1, num_cores // local_ranks)
