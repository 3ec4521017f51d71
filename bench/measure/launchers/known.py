"""Launchers in one table: how each is recognised, and its variables for this process.

Variables are those that the launchers' own pages and sources name, and that were seen in ranks of torchrun (torch
2.13), srun (Slurm 22.05), Open MPI 4.1.4 and MPICH's Hydra 4.0.2. Launchers that were not tried are recognised and not
joined: their rows have a command to type instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Environ = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """A row of the table: a program that starts ranks."""

    name: str
    option: str
    """Value of --launcher that insists on it."""
    program: str
    """Words for it in a sentence: `started by srun`."""
    marks: tuple[str, ...]
    """Variables that are all set in its ranks."""
    unlike: Callable[[Environ], bool] = lambda environ: False
    """True if the marks are there and another launcher set them."""
    rank: str
    world_size: str | None
    """None: its variables do not say."""
    local_rank: str
    local_world_size: str | None = None
    job: tuple[str, ...] = ()
    """Variables that are equal on all ranks of a job, and different in another; the first that is set counts."""
    hides_slurm: bool = False
    """True if SLURM_* in its ranks may be those of its daemons, which it starts by srun."""
    address_option: str = ""
    """Beginning of the command that gives MASTER_ADDR to all ranks, with {} for the address."""
    refusal: str = ""
    """Words in place of `bench run` that make it join; empty: it is joined as it is."""

    def is_here(self, environ: Environ) -> bool:
        """Return True if this launcher started this process."""
        return all(name in environ for name in self.marks) and not self.unlike(environ)


def _set_here(rank: str, world_size: str, local_rank: str) -> str:
    """The plain environment made of a launcher's own variables, for a shell in each rank."""
    return (
        f"bash -c 'RANK={rank} WORLD_SIZE={world_size} LOCAL_RANK={local_rank} MASTER_ADDR=HOST exec bench run', "
        "with the name of rank 0's host for HOST"
    )


def _is_intel(environ: Environ) -> bool:
    # Its mpirun sets the first, its mpiexec.hydra the others; I_MPI_ROOT alone is set by its module or setvars.sh.
    return any(name == "I_MPI_MPIRUN" or name.startswith(("I_MPI_HYDRA_", "I_MPI_INFO_")) for name in environ)


def _is_slurm_pmix(environ: Environ) -> bool:
    return environ.get("PMIX_NAMESPACE", "").startswith("slurm.")


# The first row that fits counts. A launcher's own marks go before Slurm's: mpirun, mpiexec and flux start their daemons
# by srun, and the ranks inherit the daemons' SLURM_*. Marks that srun sets as well (PMI_RANK with --mpi=pmi2, PMIX_RANK
# with --mpi=pmix) go after Slurm's.
LAUNCHERS: tuple[Launcher, ...] = (
    Launcher(
        name="torchrun",
        option="env",
        program="torchrun",
        marks=("TORCHELASTIC_RUN_ID",),
        rank="RANK",
        world_size="WORLD_SIZE",
        local_rank="LOCAL_RANK",
        local_world_size="LOCAL_WORLD_SIZE",
    ),
    Launcher(
        name="env",
        option="env",
        program="RANK and WORLD_SIZE",
        marks=("RANK", "WORLD_SIZE", "MASTER_ADDR"),
        rank="RANK",
        world_size="WORLD_SIZE",
        local_rank="LOCAL_RANK",
        local_world_size="LOCAL_WORLD_SIZE",
    ),
    Launcher(
        name="jsrun",
        option="mpi",
        program="jsrun",
        marks=("JSM_NAMESPACE_RANK",),
        rank="JSM_NAMESPACE_RANK",
        world_size="JSM_NAMESPACE_SIZE",
        local_rank="JSM_NAMESPACE_LOCAL_RANK",
        refusal="jsrun ... " + _set_here("$JSM_NAMESPACE_RANK", "$JSM_NAMESPACE_SIZE", "$JSM_NAMESPACE_LOCAL_RANK"),
    ),
    Launcher(
        name="Open MPI",
        option="mpi",
        program="mpirun (Open MPI)",
        marks=("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        rank="OMPI_COMM_WORLD_RANK",
        world_size="OMPI_COMM_WORLD_SIZE",
        local_rank="OMPI_COMM_WORLD_LOCAL_RANK",
        local_world_size="OMPI_COMM_WORLD_LOCAL_SIZE",
        job=("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"),
        hides_slurm=True,
        address_option="mpirun -x MASTER_ADDR={}",
    ),
    Launcher(
        name="Intel MPI",
        option="mpi",
        program="mpirun (Intel MPI)",
        marks=("MPI_LOCALRANKID", "PMI_RANK"),
        unlike=lambda environ: not _is_intel(environ),
        rank="PMI_RANK",
        world_size="PMI_SIZE",
        local_rank="MPI_LOCALRANKID",
        local_world_size="MPI_LOCALNRANKS",
        hides_slurm=True,
        refusal="mpirun ... " + _set_here("$PMI_RANK", "$PMI_SIZE", "$MPI_LOCALRANKID"),
    ),
    Launcher(
        name="Hydra",
        option="mpi",
        program="mpiexec (Hydra)",
        marks=("MPI_LOCALRANKID", "PMI_RANK"),
        rank="PMI_RANK",
        world_size="PMI_SIZE",
        local_rank="MPI_LOCALRANKID",
        local_world_size="MPI_LOCALNRANKS",
        hides_slurm=True,
        address_option="mpiexec.hydra -genv MASTER_ADDR {}",
    ),
    Launcher(
        name="PALS",
        option="mpi",
        program="mpiexec (PALS)",
        marks=("PALS_RANKID",),
        rank="PALS_RANKID",
        world_size="PMI_SIZE",
        local_rank="PALS_LOCAL_RANKID",
        local_world_size="PALS_LOCAL_SIZE",
        refusal="mpiexec ... " + _set_here("$PALS_RANKID", "$PMI_SIZE", "$PALS_LOCAL_RANKID"),
    ),
    Launcher(
        name="Flux",
        option="mpi",
        program="flux run",
        marks=("FLUX_TASK_RANK",),
        rank="FLUX_TASK_RANK",
        world_size="FLUX_JOB_SIZE",
        local_rank="FLUX_TASK_LOCAL_ID",
        hides_slurm=True,
        refusal="flux run ... " + _set_here("$FLUX_TASK_RANK", "$FLUX_JOB_SIZE", "$FLUX_TASK_LOCAL_ID"),
    ),
    Launcher(
        name="MVAPICH",
        option="mpi",
        program="mpirun_rsh (MVAPICH)",
        marks=("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
        unlike=lambda environ: "SLURM_STEP_ID" in environ,  # its library sets them under srun as well
        rank="MV2_COMM_WORLD_RANK",
        world_size="MV2_COMM_WORLD_SIZE",
        local_rank="MV2_COMM_WORLD_LOCAL_RANK",
        local_world_size="MV2_COMM_WORLD_LOCAL_SIZE",
        refusal="mpirun_rsh ... "
        + _set_here("$MV2_COMM_WORLD_RANK", "$MV2_COMM_WORLD_SIZE", "$MV2_COMM_WORLD_LOCAL_RANK"),
    ),
    Launcher(
        name="PRRTE",
        option="mpi",
        program="prterun (PRRTE)",
        marks=("PMIX_RANK",),
        unlike=_is_slurm_pmix,
        rank="PMIX_RANK",
        world_size=None,
        local_rank="PMIX_LOCAL_RANK",
        hides_slurm=True,
        refusal="prterun ... "
        + _set_here("$PMIX_RANK", "N", "L")
        + ", the number of ranks for N, and for L the rank's "
        "number on its host",
    ),
    Launcher(
        name="slurm",
        option="slurm",
        program="srun",
        # A batch shell has SLURM_PROCID=0 and SLURM_NTASKS, too; only a step of several tasks has ranks to join.
        marks=("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
        rank="SLURM_PROCID",
        world_size="SLURM_STEP_NUM_TASKS",
        local_rank="SLURM_LOCALID",
        job=("SLURM_JOB_ID",),
    ),
    Launcher(
        name="a program with PMI",
        option="mpi",
        program="a program with PMI",
        marks=("PMI_RANK", "PMI_SIZE"),
        rank="PMI_RANK",
        world_size="PMI_SIZE",
        local_rank="PMI_LOCAL_RANK",
        refusal="mpiexec ... " + _set_here("$PMI_RANK", "$PMI_SIZE", "L") + ", and for L the rank's number on its host",
    ),
)
