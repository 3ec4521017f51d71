"""Variables of the environment that change speed, and of which form their values are.

A variable is kept only if it is here, by its name or by its prefix, and its value only if it has the form that stands
here: what else a value may hold (a URL with a password, a token) is no setting, and is left out. Of a value without its
form the file says that it was set. A value that a prefix alone stands for is a number, a size or a switch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bench.records.privacy.placeholders import REMOVED, SET
from bench.records.privacy.secret_forms import holds_secret
from bench.records.privacy.secret_names import is_secret_name
from bench.records.privacy.value_forms import FORMS, MAX_LENGTH, Form, words

PREFIXES = (
    # GPUs: drivers, runtimes and their libraries
    "AMD_", "CUBLAS_", "CUBLASLT_", "CUDA_", "CUDNN_", "GPU_", "HIP_", "HIPBLASLT_", "HIPBLAS_", "HSA_", "MIOPEN_",
    "NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES", "ROCBLAS_", "ROCR_", "TENSILE_",
    # communication
    "CCL_", "FI_", "GLOO_", "HCOLL_", "NCCL_", "NVSHMEM_", "PSM2_", "PSM3_", "RCCL_", "SHARP_", "UCC_", "UCX_",
    # torch and its compilers
    "ATEN_", "FLASH_ATTENTION_", "NVTE_", "PYTORCH_", "TORCHINDUCTOR_", "TORCH_", "TRITON_",
    # processors
    "BLIS_", "DNNL_", "GLIBC_TUNABLES", "GOMP_", "KMP_", "LD_PRELOAD", "MALLOC_", "MKL_", "OMP_", "ONEDNN_",
    "OPENBLAS_", "VECLIB_",
)  # fmt: skip
"""Variables of these families change speed, or say which devices are used."""


def _rows(text: str) -> dict[str, str]:
    """{what stands before a colon: the rest of its row}; a row goes on in lines that begin with blanks."""
    lines = text.replace("\n  ", " ").strip().splitlines()
    return {name: rest.strip() for name, _, rest in (line.partition(":") for line in lines)}


_BY_FORM = _rows("""
scalar: NCCL_IB_PKEY UCX_IB_PKEY UCX_IB_PKEYS NCCL_IB_PCI_RELAXED_ORDERING
scalars: OMP_NUM_THREADS OMP_STACKSIZE OMP_DYNAMIC OMP_MAX_ACTIVE_LEVELS MKL_NUM_THREADS KMP_STACKSIZE
  UCX_IB_TRAFFIC_CLASS UCX_IB_SL NCCL_IB_TC NCCL_IB_SL NCCL_TREE_THRESHOLD NCCL_BUFFSIZE NCCL_LL_BUFFSIZE
  CUBLAS_WORKSPACE_CONFIG CUBLASLT_WORKSPACE_SIZE UCX_RNDV_THRESH UCX_ZCOPY_THRESH UCX_BCOPY_THRESH
devices: CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL NVIDIA_VISIBLE_DEVICES
interfaces: NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME NCCL_OOB_NET_IFNAME RCCL_SOCKET_IFNAME FI_TCP_IFACE FI_SOCKETS_IFACE
  FI_VERBS_IFACE NVSHMEM_BOOTSTRAP_UID_SOCK_IFNAME CCL_SOCKET_IFNAME
adapters: NCCL_IB_HCA UCX_NET_DEVICES HCOLL_MAIN_IB SHARP_COLL_IB_DEVICES NVSHMEM_HCA_LIST NCCL_GIN_HCA
  FI_VERBS_DEVICE_NAME CCL_KVS_IFACE NVSHMEM_HCA_PE_MAPPING UCX_IB_DEVICES
path: LD_PRELOAD CUDA_HOME CUDA_PATH CUDA_CACHE_PATH NCCL_TOPO_FILE NCCL_TOPO_DUMP_FILE NCCL_GRAPH_FILE
  NCCL_GRAPH_DUMP_FILE NCCL_DEBUG_FILE NCCL_CONF_FILE NCCL_TUNER_CONFIG_FILE TORCHINDUCTOR_CACHE_DIR TRITON_CACHE_DIR
  TORCH_HOME MIOPEN_USER_DB_PATH MIOPEN_CUSTOM_CACHE_DIR MIOPEN_SYSTEM_DB_PATH UCX_MODULE_DIR HIP_PATH UCX_LOG_FILE
  RCCL_MSCCL_ALGO_DIR CUDNN_PATH GLOO_DEVICE_FILE TORCH_LOGS_OUT
library: NCCL_NET NCCL_NET_PLUGIN NCCL_TUNER_PLUGIN NCCL_PROFILER_PLUGIN NCCL_GIN_PLUGIN NCCL_ENV_PLUGIN
cores: GOMP_CPU_AFFINITY
tunables: GLIBC_TUNABLES
architectures: TORCH_CUDA_ARCH_LIST PYTORCH_ROCM_ARCH HSA_OVERRIDE_GFX_VERSION AMD_TARGETS
version: CUDA_VERSION CUDNN_VERSION NCCL_VERSION HIP_VERSION RCCL_VERSION PYTORCH_VERSION NVIDIA_PYTORCH_VERSION
address family: NCCL_SOCKET_FAMILY NCCL_IB_ADDR_FAMILY
""")
"""Form -> names of variables whose values have it: more than numbers, or a name that seems to speak of a secret."""

_BY_WORDS = _rows("""
NCCL_ALGO RCCL_ALGO: ring tree collnet collnetdirect collnetchain nvls nvlstree pat allreduce allgather reducescatter
  broadcast reduce alltoall sendrecv
NCCL_PROTO RCCL_PROTO: ll ll128 simple allreduce allgather reducescatter broadcast reduce alltoall sendrecv
NCCL_DEBUG RCCL_DEBUG: version warn info trace abort
NCCL_DEBUG_SUBSYS: init coll p2p shm net graph tuning env alloc call proxy nvls bootstrap reg profile ras version
NCCL_P2P_LEVEL NCCL_NET_GDR_LEVEL NCCL_P2P_DIRECT_LEVEL NCCL_NET_GDR_READ NCCL_IB_MERGE_LEVEL NCCL_SHM_LEVEL
  NCCL_NVB_LEVEL NCCL_CROSS_NIC: loc nvl pix pxb pxn phb node sys p2c port
NCCL_LAUNCH_MODE: parallel group
NCCL_TOPO_AFFINITY: cpu
CUDA_DEVICE_ORDER: pci_bus_id fastest_first
CUDA_MODULE_LOADING: lazy eager
CUDA_MODULE_DATA_LOADING: lazy eager
GLOO_DEVICE_TRANSPORT: tcp tcp_tls ibverbs uv
ATEN_CPU_CAPABILITY: avx2 avx512 avx512_vnni amx vsx zvector sve256 sve128 sve avx
ONEDNN_MAX_CPU_ISA DNNL_MAX_CPU_ISA MKL_ENABLE_INSTRUCTIONS ONEDNN_CPU_ISA_HINTS DNNL_CPU_ISA_HINTS: sse41 sse4_2 avx
  avx2 avx2_vnni avx2_vnni_2 avx512_core avx512_core_vnni avx512_core_bf16 avx512_core_fp16 avx512_core_amx
  avx512_core_amx_fp16 avx10_1_512 avx10_2_512 avx512 avx512_e1 avx512_e2 avx512_e3 avx512_e4 avx512_mic
  avx10_1_512_amx avx10_1_512_amx_fp16 no_hints prefer_ymm
ONEDNN_VERBOSE DNNL_VERBOSE: error check profile dispatch profile_create profile_exec level
ONEDNN_DEFAULT_FPMATH_MODE DNNL_DEFAULT_FPMATH_MODE: strict bf16 f16 tf32 any
OPENBLAS_CORETYPE: prescott nehalem sandybridge haswell skylakex cooperlake sapphirerapids zen barcelona bulldozer
  piledriver steamroller excavator armv8 armv8sve neoversen1 neoversev1 neoversen2 cortexa57 thunderx2t99 power8
  power9 power10
BLIS_ARCH_TYPE: zen zen2 zen3 zen4 zen5 haswell skx knl generic
MKL_THREADING_LAYER: intel sequential tbb gnu pgi
MKL_INTERFACE_LAYER: lp64 ilp64 gnu intel
MKL_CBWR: compatible sse2 sse3 ssse3 sse4_1 sse4_2 avx avx2 avx512 avx512_e1 branch strict
OMP_PROC_BIND: close spread master primary
OMP_PLACES: threads cores sockets ll_caches numa_domains
OMP_SCHEDULE: static dynamic guided monotonic nonmonotonic
OMP_WAIT_POLICY: active passive
OMP_DISPLAY_ENV: verbose
OMP_TARGET_OFFLOAD: mandatory
KMP_AFFINITY: verbose noverbose warnings nowarnings respect norespect reset noreset granularity fine thread core tile
  die node group socket explicit proclist compact scatter balanced logical physical
KMP_HW_SUBSET: c t s n 1s 2s 1t 2t 1n 2n cores threads sockets numa socket core thread
KMP_LIBRARY: serial turnaround throughput
KMP_FORKJOIN_BARRIER_PATTERN KMP_PLAIN_BARRIER_PATTERN KMP_REDUCTION_BARRIER_PATTERN: linear tree hyper hierarchical
  dist
KMP_TOPOLOGY_METHOD: cpuid_leaf31 cpuid_leaf11 cpuid_leaf4 cpuinfo group flat hwloc
PYTORCH_CUDA_ALLOC_CONF PYTORCH_HIP_ALLOC_CONF PYTORCH_ALLOC_CONF: backend native cudamallocasync max_split_size_mb
  roundup_power2_divisions expandable_segments garbage_collection_threshold pinned_use_cuda_host_register
  pinned_num_register_threads pinned_use_background_threads release_lock_on_cudamalloc release_lock_on_hipmalloc
  max_non_split_rounding_mb pinned_reserve_segment_size_mb per_process_memory_fraction pinned_use_hip_host_register
  hipmallocasync graph_capture_record_stream_reuse
TORCH_LOGS: dynamo aot aot_graphs inductor graph graph_code graph_breaks guards recompiles output_code schedule
  perf_hints fusion autograd distributed dist_c10d dist_ddp dist_fsdp c10d ddp fsdp dtensor cudagraphs overlap
  bytecode kernel_code autotuning sym_shapes dynamic trace_source trace_call cudagraph_static_inputs benchmarking
TORCH_DISTRIBUTED_DEBUG: info detail
TORCH_CPP_LOG_LEVEL: info warning error fatal
TORCH_SYMMMEM: cuda nvshmem nccl
TORCH_COMPILE_BACKEND: inductor eager aot_eager cudagraphs
TORCHINDUCTOR_MAX_AUTOTUNE_GEMM_BACKENDS TORCHINDUCTOR_MAX_AUTOTUNE_CONV_BACKENDS: aten triton cutlass ck cpp
TORCHINDUCTOR_WORKER_START: subprocess fork spawn
UCX_TLS: self shm mm posix sysv xpmem cma knem tcp ib rc rc_x rc_v rc_mlx5 rc_verbs ud ud_x ud_v ud_mlx5 ud_verbs dc
  dc_x dc_mlx5 cuda cuda_copy cuda_ipc gdr_copy rocm rocm_copy rocm_ipc rocm_gdr srd ugni aux gga_mlx5 ze ze_copy
  ze_ipc sm efa
UCX_RNDV_SCHEME: get_zcopy put_zcopy get_ppln put_ppln am rkey_ptr rndv
UCX_PROTO_INFO: used
UCX_LOG_LEVEL: fatal error warn diag info debug trace data func poll req
FI_PROVIDER: verbs tcp efa cxi psm2 psm3 opx shm sockets udp ofi_rxm ofi_rxd ofi_mrail lnx ucx lpp gni net usnic sm2
FI_HMEM: cuda rocr ze system
FI_CXI_RX_MATCH_MODE: hardware software hybrid
FI_MR_CACHE_MONITOR: memhooks userfaultfd kdreg2 cuda rocr import uffd
FI_LOG_LEVEL: warn trace info debug
FI_CXI_RDZV_PROTO: alt_read alt_write
MIOPEN_FIND_MODE: normal fast hybrid fast_hybrid dynamic_hybrid
MIOPEN_FIND_ENFORCE: db_update search search_db_update db_clean
CCL_ATL_TRANSPORT: mpi ofi
CCL_ALLREDUCE CCL_ALLGATHERV CCL_ALLTOALL CCL_REDUCE_SCATTER CCL_BCAST CCL_ALLTOALLV CCL_REDUCE: direct rabenseifner
  nreduce ring double_tree recursive_doubling 2d topo flat multi_bcast naive scatter scatter_barrier tree max
CCL_PROCESS_LAUNCHER: pmix hydra torchrun
CCL_LOG_LEVEL: error warn info debug trace
NVSHMEM_BOOTSTRAP: mpi shmem pmi pmi2 pmix uid plugin
NVSHMEM_REMOTE_TRANSPORT: ibrc ucx libfabric ibdevx ibgda
PSM3_DEVICES PSM2_DEVICES: self shm nic hfi
PSM3_HAL: verbs sockets loopback any
MALLOC_CONF: background_thread metadata_thp dirty_decay_ms muzzy_decay_ms oversize_threshold narenas percpu_arena
  percpu phycpu thp lg_tcache_max tcache retain abort_conf
UCC_TLS UCC_CLS: ucp nccl sharp cuda rccl self mlx5 basic hier
""")
"""Names of variables -> words of their values, besides numbers, sizes and switches."""

_CHECKS: dict[str, Form] = {name: FORMS[form] for form, names in _BY_FORM.items() for name in names.split()}
_CHECKS |= {
    name: Form("words", check)
    for names, vocabulary in _BY_WORDS.items()
    for check in (words(vocabulary),)
    for name in names.split()
}
_NAME = re.compile(
    r"[A-Z][A-Z0-9]*(?:_+(?:[A-Z]{0,24}|[A-Z]{0,12}\d{0,4}[A-Z]{0,8}\d{0,2}|[A-Z]{1,3}\d[A-Z]\d[A-Z]{0,8}))*", re.ASCII
)
"""Words of capitals, with few digits among them: no random word, which may be a secret itself."""
MAX_NAME_LENGTH = 80


def form_of(name: str) -> Form | None:
    """The form of a variable's values; None for a variable that no file keeps."""
    if name in _CHECKS:
        return _CHECKS[name]
    is_known = name.startswith(PREFIXES) and len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name) is not None
    return None if not is_known or is_secret_name(name) or holds_secret(name.lower()) else FORMS["scalar"]


def kept_value(name: str, value: str) -> str | None:
    """The value that a file keeps: as it is, or `(set, not kept)` without its form; None of a variable not kept."""
    form = form_of(name)
    if form is None:
        return None
    if value in (SET, REMOVED):
        return value
    has_form = len(value) <= MAX_LENGTH and form.matches(value) and not holds_secret(value)
    return value if has_form else SET


def kept_variables(environ: Mapping[str, str], is_own: Callable[[str], bool] = lambda _: False) -> dict[str, str]:
    """The variables that change speed, sorted, with the values that a file keeps; `is_own`: those to leave out."""
    values = {name: kept_value(name, value) for name, value in sorted(environ.items()) if not is_own(name)}
    return {name: value for name, value in values.items() if value is not None}
