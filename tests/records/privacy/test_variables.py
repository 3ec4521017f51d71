from __future__ import annotations

import pytest

from bench.core.masking.placeholders import SET
from bench.records.privacy.variables import form_of, kept_value, kept_variables
from tests.support.secret_table import SECRETS


def _assignments(text: str) -> list[str]:
    return text.split()


KEPT = _assignments("""
NCCL_ALGO=Ring,Tree NCCL_ALGO=allreduce:tree,ring;allgather:ring NCCL_ALGO=^Tree NCCL_PROTO=LL128 NCCL_DEBUG=INFO
NCCL_DEBUG_SUBSYS=INIT,COLL NCCL_IB_HCA==mlx5_0:1,mlx5_1:1 NCCL_IB_HCA=^mlx5_bond_0 NCCL_SOCKET_IFNAME==eth0,ib0
NCCL_SOCKET_IFNAME=^docker0,lo NCCL_P2P_LEVEL=NVL NCCL_NET_GDR_LEVEL=PHB NCCL_BUFFSIZE=4194304 NCCL_IB_PKEY=0x7fff
NCCL_IB_TC=106 NCCL_NET_PLUGIN=ofi NCCL_TOPO_FILE=/opt/topo.xml NCCL_P2P_DISABLE=1 NCCL_CUMEM_ENABLE=0
NCCL_SOCKET_FAMILY=AF_INET NCCL_MIN_NCHANNELS=16 NCCL_NEW_NUMBER=7 NCCL_CROSS_NIC=2 GLOO_SOCKET_IFNAME=eth0
GLOO_DEVICE_TRANSPORT=TCP CUDA_VISIBLE_DEVICES=0,1,2,3 CUDA_VISIBLE_DEVICES=GPU-3f2a9c1e-7b54-4d1a-9e21-0c8b7a6d5e4f
CUDA_VISIBLE_DEVICES= CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_LAUNCH_BLOCKING=1 CUDA_MODULE_LOADING=LAZY
CUDA_HOME=/usr/local/cuda-13.0 CUDA_VERSION=13.0.2 NCCL_VERSION=2.28.3-1 CUBLAS_WORKSPACE_CONFIG=:4096:8
NVIDIA_VISIBLE_DEVICES=all NVIDIA_TF32_OVERRIDE=0 TORCH_CUDA_ARCH_LIST=9.0a TORCH_CUDA_ARCH_LIST=8.0;9.0+PTX
PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True,max_split_size_mb:128 PYTORCH_CUDA_ALLOC_CONF=backend:cudaMallocAsync
PYTORCH_CUDA_ALLOC_CONF=roundup_power2_divisions:[256:1,512:2,1024:4,>:8] PYTORCH_ROCM_ARCH=gfx942;gfx90a
TORCH_NCCL_BLOCKING_WAIT=1 TORCH_LOGS=+dynamo,graph_breaks TORCH_DISTRIBUTED_DEBUG=DETAIL TORCH_CPP_LOG_LEVEL=FATAL
TORCHINDUCTOR_MAX_AUTOTUNE=1 TORCHINDUCTOR_CACHE_DIR=/tmp/cache OMP_NUM_THREADS=4 OMP_NUM_THREADS=4,2
OMP_PLACES=cores OMP_PLACES={0:4},{4:4} OMP_PROC_BIND=close,spread OMP_SCHEDULE=dynamic,4 OMP_STACKSIZE=16M
OMP_WAIT_POLICY=ACTIVE GOMP_CPU_AFFINITY=0-3,8-11 KMP_AFFINITY=granularity=fine,compact,1,0
KMP_AFFINITY=verbose,explicit,proclist=[0,1,2-3] KMP_BLOCKTIME=1 MKL_NUM_THREADS=8 MKL_THREADING_LAYER=GNU
MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 DNNL_VERBOSE=1 OPENBLAS_CORETYPE=SkylakeX
ATEN_CPU_CAPABILITY=avx2 UCX_TLS=rc,cuda_copy,cuda_ipc UCX_TLS=^tcp UCX_NET_DEVICES=mlx5_0:1,eth0 UCX_RNDV_THRESH=8192
UCX_RNDV_SCHEME=get_zcopy UCX_MAX_RNDV_RAILS=2 FI_PROVIDER=efa FI_EFA_USE_DEVICE_RDMA=1 FI_CXI_RX_MATCH_MODE=hybrid
HSA_FORCE_FINE_GRAIN_PCIE=1 HSA_OVERRIDE_GFX_VERSION=10.3.0 HIP_VISIBLE_DEVICES=0,1 ROCR_VISIBLE_DEVICES=0
RCCL_MSCCL_ENABLE=0 MIOPEN_FIND_MODE=FAST GPU_MAX_HW_QUEUES=2 AMD_LOG_LEVEL=0 LD_PRELOAD=/usr/lib/libjemalloc.so.2
MALLOC_ARENA_MAX=4 MALLOC_CONF=background_thread:true,metadata_thp:auto,dirty_decay_ms:30000
GLIBC_TUNABLES=glibc.malloc.hugetlb=2:glibc.cpu.x86_shstk=off NVSHMEM_SYMMETRIC_SIZE=1G CCL_ATL_TRANSPORT=ofi
NVTE_FUSED_ATTN=1 TRITON_CACHE_DIR=/tmp/t PSM3_DEVICES=self,nic BLIS_NUM_THREADS=8
""")

NOT_OF_ITS_FORM = _assignments("""
NCCL_NET_URL=http://bob:hunter2@proxy NCCL_ALGO=hunter2 NCCL_FOO=hunter2 OMP_NUM_THREADS=hunter2
CUDA_VISIBLE_DEVICES=bob TORCH_HF=correct-horse NCCL_SOCKET_IFNAME=http://x NCCL_COMM_ID=10.0.0.1:5000
GLOO_SOCKET_IFNAME=bob:hunter2@proxy KMP_AFFINITY=hunter2 NCCL_TOPO_FILE=http://bob:hunter2@proxy/x
UCX_TLS=hunter2 GLIBC_TUNABLES=hunter2 MKL_DYNAMIC=hunter2 LD_PRELOAD=s3://bucket/x
""")


@pytest.mark.parametrize("assignment", KEPT)
def test_a_setting_that_changes_speed_is_kept(assignment: str) -> None:
    name, _, value = assignment.partition("=")
    assert kept_value(name, value) == value


@pytest.mark.parametrize("assignment", NOT_OF_ITS_FORM)
def test_of_a_value_without_the_form_of_its_name_it_is_kept_that_it_was_set(assignment: str) -> None:
    name, _, value = assignment.partition("=")
    assert kept_value(name, value) == SET
    assert kept_value(name, SET) == SET


@pytest.mark.parametrize(
    "name",
    ["NCCL_SECRET_SAUCE", "TORCH_API_KEY", "CUDA_PASSWORD", "GLOO_AUTH", "HIP_Credential", "PYTORCH_TOKEN", "NCCL_PW",
     "TORCH_HF_TOKEN", "UCX_CRED", "FI_PSK", "NCCL_SESSION", "TORCH_COOKIE", "NCCL_PRIVATE_KEY", "MKL_LICENSE_FILE",
     "HOME", "PATH", "AWS_REGION", "HTTP_PROXY", "MY_NCCL_ALGO", "nccl_algo", "NCCL_x", "WANDB_API_KEY", "USER",
     "OMPI_MCA_orte_hnp_uri", "SLURM_JOB_ID", "KUBERNETES_PORT"],
)  # fmt: skip
def test_a_variable_off_the_list_is_not_kept_at_all(name: str) -> None:
    assert form_of(name) is None
    assert kept_variables({name: "1"}) == {}


@pytest.mark.parametrize("name", SECRETS)
def test_no_variable_keeps_a_secret_in_its_value_or_its_name(name: str) -> None:
    text, part = SECRETS[name]
    names = (
        "NCCL_ALGO",
        "NCCL_FOO",
        "NCCL_SOCKET_IFNAME",
        "LD_PRELOAD",
        "CUDA_VISIBLE_DEVICES",
        "UCX_TLS",
        "TORCH_LOGS",
    )
    environ = {**dict.fromkeys(names, text), f"NCCL_{text}": "1"}
    if len(part) >= 20:
        environ[f"NCCL_{part.upper()}"] = "1"
    assert part.lower() not in str(kept_variables(environ)).lower()


def test_two_masked_values_are_alike_and_differ_from_unset() -> None:
    from bench.records.environments import differences
    from bench.records.lines.header import Environment

    one, two = (Environment(variables={"NCCL_NET_URL": url}) for url in ("http://a:b@c", SET))
    assert differences(one, two) == []
    assert differences(one, Environment()) == [("variables.NCCL_NET_URL", SET, None)]
