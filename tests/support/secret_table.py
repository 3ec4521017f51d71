"""Texts that no result file may hold, and texts that each has to keep as they are.

No secret is written out here: each is drawn, always the same, after a template, so that no scanner of secrets finds it.
`{w20}` stands for 20 letters and digits, `{h}` for hexadecimal digits, `{A}` for capitals and digits, `{a}` for small
letters and digits, `{d}` for digits, `{b}` for base64.
"""

from __future__ import annotations

import random
import re
import string

_ALPHABETS = {
    "w": string.ascii_letters + string.digits,
    "h": "0123456789abcdef",
    "A": string.ascii_uppercase + string.digits,
    "a": string.ascii_lowercase + string.digits,
    "d": string.digits,
    "b": string.ascii_letters + string.digits + "+/",
}

_TEMPLATES = {
    "Hugging Face": "hf_{w34}",
    "Anthropic": "sk-ant-api03-{w40}-{w40}AA",
    "OpenAI, project": "sk-proj-{w48}",
    "OpenAI": "sk-{w48}",
    "OpenRouter": "sk-or-v1-{h64}",
    "GitHub, personal": "ghp_{w36}",
    "GitHub, server": "ghs_{w36}",
    "GitHub, fine-grained": "github_pat_{w22}_{w59}",
    "GitLab, personal": "glpat-{w20}",
    "GitLab, runner": "glrt-{w20}",
    "AWS key id": "AKIA{A16}",
    "AWS temporary key id": "ASIA{A16}",
    "AWS secret key": "aws_secret_access_key={b40}",
    "AWS secret key alone": "{b40}",
    "AWS session token": "AWS_SESSION_TOKEN={b100}",
    "Slack bot": "xoxb-{d12}-{d12}-{w24}",
    "Slack app": "xapp-1-{A11}-{d13}-{h64}",
    "Slack webhook": "https://hooks.slack.com/services/T{A8}/B{A8}/{w24}",
    "Bearer": "Authorization: Bearer {w40}",
    "Basic": "Authorization: Basic {b24}==",
    "JWT": "eyJ{w34}.eyJ{w40}.{w43}",
    "RSA key": "-----BEGIN RSA PRIVATE KEY-----\n{b64}\n{b64}\n-----END RSA PRIVATE KEY-----",
    "OpenSSH key, cut off": "-----BEGIN OPENSSH PRIVATE KEY-----\n{b70}",
    "password=": "password={a9}",
    "PASSWD=": "DB_PASSWD={a9}",
    "password in prose": "the password is {a7}7",
    "passphrase": "passphrase: {a10}",
    "pwd=": "Server=db;Uid=sa;Pwd={a11};",
    "PSK": "wpa_psk={a12}",
    "token=": "?token={a14}",
    "api_key": "api_key: {a18}2",
    "client secret": "client_secret={w20}",
    "JSON": '{"user": "x", "password": "{a10}"}',
    "URL, user and password": "http://svc:{a10}@proxy.example:3128/",
    "URL, token alone": "https://{h32}@git.example/r.git",
    "URL, Postgres": "postgresql://app:{w14}@db/x",
    "URL, Redis": "redis://:{w16}@cache:6379/0",
    "npm": "npm_{w36}",
    "PyPI": "pypi-AgEIcHlwaS5vcmc{w60}",
    "Google API": "AIza{w35}",
    "Google OAuth": "ya29.{w60}",
    "Google client secret": "GOCSPX-{w28}",
    "Stripe": "sk_live_{w24}",
    "Stripe, restricted": "rk_test_{w24}",
    "Azure SAS": "https://a.example/c?sv=2024&sig={w43}%3D",
    "Azure account key": "AccountKey={b86}==",
    "Azure client secret": "{w3}8Q~{w34}",
    "SendGrid": "SG.{w22}.{w43}",
    "Twilio": "SK{h32}",
    "Mailgun": "key-{h32}",
    "DigitalOcean": "dop_v1_{h64}",
    "Databricks": "dapi{h32}",
    "Vault": "hvs.{w24}",
    "Docker Hub": "dckr_pat_{w27}",
    "NVIDIA": "nvapi-{w60}",
    "Replicate": "r8_{w37}",
    "Groq": "gsk_{w52}",
    "LangSmith": "lsv2_pt_{h32}_{h10}",
    "W&B": "WANDB_API_KEY={h40}",
    "Kaggle": '{"username":"x","key":"{h32}"}',
    "Grafana": "glsa_{w32}_{h8}",
    "New Relic": "NRAK-{A27}",
    "Shopify": "shpat_{h32}",
    "Atlassian": "ATATT3xFfGF0{w60}",
    "Postman": "PMAK-{h24}-{h34}",
    "Figma": "figd_{w40}",
    "Linear": "lin_api_{w40}",
    "Sentry": "sntrys_{w60}",
    "Tailscale": "tskey-auth-{w12}-{w32}",
    "Terraform": "{w14}.atlasv1.{w60}",
    "Pulumi": "pul-{h40}",
    "age": "AGE-SECRET-KEY-1{A58}",
    "Telegram": "{d9}:AA{w33}",
    "Discord": "M{w23}.{w6}.{w27}",
    "1Password": "ops_eyJ{w60}",
    "Cookie": "Cookie: session={w24}; id=1",
    "netrc": "machine h login u password {a9}",
    "MUNGE": "MUNGE:AwQFAAC{b60}:",
    "bcrypt": "$2b$12${w53}",
    "crypt": "$6${w16}${w86}",
    "curl": "curl -u svc:{a10} https://h.example",
    "random, letters and digits": "{w32}",
    "random, base64url": "{w20}-{w19}_{w8}",
}


def _drawn(name: str, template: str) -> tuple[str, str]:
    """(text with the secret, the longest drawn part, which may not be left)."""
    generator = random.Random(f"{name}/2")
    parts: list[str] = []

    def part(match: re.Match[str]) -> str:
        alphabet, length = _ALPHABETS[match[1]], int(match[2])
        text = "".join(generator.choice(alphabet) for _ in range(length))
        if match[1] in "wab":  # as issuers' are: of every kind of character
            text = (
                text[:-2] + "q7"
                if length < 16
                else text[:-3] + "kZ4"[: 3 if match[1] != "a" else 1] + ("q7" if match[1] == "a" else "")
            )
        parts.append(text)
        return text

    text = re.sub(r"\{([whAadb])(\d+)\}", part, template)
    return text, max(parts, key=len)


SECRETS: dict[str, tuple[str, str]] = {name: _drawn(name, template) for name, template in _TEMPLATES.items()}
"""Form of secret -> (text with it, the part of the text that must not be found anywhere)."""

HARMLESS = (
    "2.13.0+cu130", "cuDNN 9.10.2.21", "550.54.15", "3.11.9", "NCCL 2.27.3", "cuDNN 9.10.2", "driver 580.82.07",
    "8 x NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "NVIDIA H200", "AMD Instinct MI300X", "Tesla T4",
    "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "AMD EPYC 7B13",
    "5.15.0-1053-aws", "6.8.0-40-generic", "Linux-6.1.58+-x86_64-with-glibc2.35", "4.18.0-553.22.1.el8_10.x86_64",
    "4 MiB", "1.5 GB/s", "0.0083 x the last-level cache (480 MiB)", "1e-05", "0x1F", "12 GB/s, 3 tokens/s, 1 / time",
    "collective/all_reduce[num_bytes=4]", "compute/matmul[dtype=float16,shape=qkv,size=4096,tokens=8192]",
    "training_step/run[batch=8,dp_mode=shard,num_microbatches=1,pp=1,shape=small,tp=1]", "point_to_point/latency",
    "1532f3aafe7de33c687862535a6fe31850751aee37d31fe47f1591fe68babd52",
    "44171fc8d2b1a9e0c3f7561820fa4b9d7e6c5a31-dirty",
    "bench run collective --preset smoke --ranks 2 --set num_bytes=1MiB", "--precision 2%", "--budget 10min",
    "Ring,Tree", "allreduce:tree,ring;allgather:ring", "LL,LL128,Simple", "^Tree", "expandable_segments:True",
    "INIT,COLL", "granularity=fine,compact,1,0", "{0:4},{4:4}", "rc,cuda_copy,cuda_ipc", "avx512_core_bf16",
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.11 GiB of "
    "which 1.05 GiB is free. Process 4711 has 78.05 GiB memory in use.",
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x8 and 16x4)",
    "RuntimeError: The size of tensor a (128) must match the size of tensor b (256) at non-singleton dimension 3",
    "torch.OutOfMemoryError: HIP out of memory", "ncclUnhandledCudaError: Call to CUDA function failed.",
    "DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1275, unhandled system error, NCCL version 2.27.3",
    "ncclInternalError: Internal check failed. Last error: Cuda failure 2 'out of memory'",
    "[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE, "
    "NumelIn=1048576, NumelOut=1048576, Timeout(ms)=600000) ran for 600029 milliseconds before timing out.",
    "ValueError: Unexpected token: expected 3 values, got 2", "KeyError: 'hidden_size'",
    "JSONDecodeError: Expecting value", "check before: error 0.0312 on rank 1 is above the tolerance 0.01",
    "exit code 137", "num_tokens=8192, max_token=512",
    "AttributeError: 'NoneType' object has no attribute 'nvmlDeviceGetHandleByPciBusId'",
    "the case had 0.85 s; it takes 4 s", "RuntimeError: expected scalar type BFloat16 but found Float",
    "No token is dropped and none is padded", "DistributedDataParallel(device_ids=[0])",
    "ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_64x3_nn",
    "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>",
    "_ZN2at6native29vectorized_kernelILi4ENS0_11FillFunctorIfEEEEvi", "AssertionError: 3 != 4 (mine.py, line 12)",
    "rank 3, measure: TimeoutError: no answer in 30 s", "float8_e4m3fn", "2026-11-26T23:02:29.126+00:00",
    "AVX512_VNNI", "held down: SW power cap, HW thermal slowdown", "127.0.0.1:29500", "session 3 of 5",
    "key=value pairs", "pass 2 of 3", "author: PyTorch team", "tokenizer=llama", "joules_per_token=0.013",
)  # fmt: skip
"""Texts that every file, shared ones too, keeps as they are."""
