from __future__ import annotations

import random
import string
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.core.masking.random_words import is_random
from bench.core.masking.secret_forms import MASKED, holds_secret, mask_secrets
from bench.core.masking.secret_names import is_secret_name
from tests.support.secret_table import HARMLESS, SECRETS

AROUND = (
    "{}",
    "rank 1 (node07), measure: ValueError: bad answer '{}' (mine.py, line 3)",
    '{{"value": "{}", "other": 1}}',
    "before\n{}\nafter",
    "x={} y=2",
)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_masked_wherever_it_stands(name: str, around: str) -> None:
    text, part = SECRETS[name]
    whole = around.format(text)
    assert part in whole
    masked = mask_secrets(whole)
    assert part not in masked
    assert MASKED in masked
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_a_harmless_text_stays_as_it_is(text: str) -> None:
    assert mask_secrets(text) == text


def test_the_tables_are_long_enough() -> None:
    assert len(SECRETS) >= 60
    assert len(HARMLESS) >= 60
    assert len({part for _, part in SECRETS.values()}) == len(SECRETS)


_WORDS = st.sampled_from([*HARMLESS, "and", "at", "(", ")", ";", "\n", "->", "'", '"', "\\"])
_TEXTS = st.lists(st.one_of(_WORDS, st.sampled_from([text for text, _ in SECRETS.values()]), st.text(max_size=12)))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(_TEXTS, st.sampled_from(list(SECRETS)), _TEXTS)
def test_a_secret_between_any_texts_is_masked(before: list[str], name: str, after: list[str]) -> None:
    text, part = SECRETS[name]
    masked = mask_secrets(" ".join([*before, "\n", text, "\n", *after]))
    assert part not in masked
    assert mask_secrets(masked) == masked


@settings(max_examples=300, derandomize=True, deadline=None)
@given(st.text(max_size=200))
def test_masking_ends_and_once_masked_a_text_stays(text: str) -> None:
    masked = mask_secrets(text)
    assert mask_secrets(masked) == masked


@pytest.mark.parametrize(
    "text",
    ["curl -u " * 12_000, "a." * 50_000, "://" * 30_000, "token " * 16_000, "password: " * 10_000, "x" * 100_000,
     "-----BEGIN PRIVATE KEY-----" * 4_000, '"' * 100_000, "\\" * 100_000, "a=" * 50_000,
     "eyJ" * 33_000, " " * 100_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_long_hostile_text_takes_no_long_time(text: str) -> None:
    began = time.process_time()
    mask_secrets(text)
    assert time.process_time() - began < 10  # a pattern that backtracks takes minutes


def _share_found(alphabet: str, length: int) -> float:
    generator = random.Random(7)
    words = ("".join(generator.choices(alphabet, k=length)) for _ in range(1000))
    return sum(map(is_random, words)) / 1000


@pytest.mark.parametrize(
    ("alphabet", "length", "least"),
    [
        (string.ascii_letters + string.digits, 24, 0.96),
        (string.ascii_letters + string.digits, 40, 0.99),
        (string.ascii_letters + string.digits + "+/", 40, 0.98),
        (string.ascii_lowercase + string.digits, 24, 0.97),
        (string.ascii_uppercase + string.digits, 25, 0.97),
    ],
)
def test_most_random_words_are_found(alphabet: str, length: int, least: float) -> None:
    assert _share_found(alphabet, length) >= least


@pytest.mark.parametrize(
    "word",
    ["nvmlDeviceGetHandleByPciBusId", "DistributedDataParallelKwargs", "a" * 64, "0123456789abcdef" * 4, "A" * 40,
     "CUDAExecutionProviderOptionsV2", "lowercasewordswithoutanyspace", "20260101T120000Z", "1234567890" * 4,
     "-" * 40, "ProcessGroupNCCLWatchdogTimeoutMilliseconds"],
)  # fmt: skip
def test_words_digests_and_numbers_are_not_random(word: str) -> None:
    assert not is_random(word)


@pytest.mark.parametrize(
    "name",
    ["HF_TOKEN", "api_key", "MY_SECRET", "PGPASSWORD", "DB_PW", "NCCL_CRED", "WIFI_PSK", "GLOO_AUTH", "clientSecret",
     "SESSION", "SESSION_ID", "cookie", "AWS_SECRET_ACCESS_KEY", "SSH_PRIVATE_KEY", "MYSQL_PWD", "JWT", "LICENSE_KEY",
     "--password", "x-api-key", "TORCH_SALT", "UCX_PIN", "OTP", "SAS", "WEBHOOK_URL", "OAUTH2", "passphrase"],
)  # fmt: skip
def test_names_that_speak_of_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["NCCL_ALGO", "OMP_PROC_BIND", "num_tokens", "tokens_per_rank", "max_tokens", "TOKENIZERS_PARALLELISM", "author",
     "UCX_KEEPALIVE_INTERVAL", "bypass_cache", "KMP_BLOCKTIME", "monkey", "spinning", "joules_per_token", "NUM_TOKENS"],
)  # fmt: skip
def test_names_that_only_look_so(name: str) -> None:
    assert not is_secret_name(name), name


def test_a_long_value_is_masked_whole() -> None:
    assert mask_secrets("password=" + "x1" * 5000 + " end") == f"password={MASKED} end"


def test_a_value_is_masked_by_its_name_and_the_rest_stays() -> None:
    assert mask_secrets("run --password hunter2 --ranks 2") == f"run --password {MASKED} --ranks 2"
    assert mask_secrets("http://bob:hunter2@proxy:3128/x") == f"http://{MASKED}@proxy:3128/x"
    assert mask_secrets("token=5, auth=None, session: 3") == "token=5, auth=None, session: 3"
    assert holds_secret("password=12345")
