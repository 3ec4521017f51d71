"""Variables of the environment that change speed, and of which form their values are.

A variable is kept only if it is listed, by its name (words.toml) or by its prefix. Its value is kept only if it has the
form that is listed: a URL with a password, or a token, is not a setting. Of a value without its form the file says that
it was set. A value of a name that only a prefix stands for is a number, a size or a switch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from bench.core.masking.placeholders import REMOVED, SET
from bench.core.masking.secret_forms import holds_secret
from bench.core.masking.secret_names import is_secret_name
from bench.records.privacy.value_forms import FORMS, MAX_LENGTH, ValueForm, words
from bench.records.privacy.word_lists import variables_of_form, variables_of_words

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

_CHECKS: dict[str, ValueForm] = {name: FORMS[form] for name, form in variables_of_form().items()}
_CHECKS |= {
    name: ValueForm("words", check)
    for names, vocabulary in variables_of_words()
    for check in (words(vocabulary),)
    for name in names
}
_NAME = re.compile(
    r"[A-Z][A-Z0-9]*(?:_+(?:[A-Z]{0,24}|[A-Z]{0,12}\d{0,4}[A-Z]{0,8}\d{0,2}|[A-Z]{1,3}\d[A-Z]\d[A-Z]{0,8}))*", re.ASCII
)
"""Words of capitals, with few digits among them: no random word, which may be a secret itself."""
MAX_NAME_LENGTH = 80


def form_of(name: str) -> ValueForm | None:
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
