"""Forms of secrets in a text, and their masking: tokens of known issuers, credentials by their place, random words.

Tokens have a prefix of their issuer (`issued_tokens`). Other secrets are known by the words before them (`password=`,
`Bearer`, a URL's user), or by their looks (`random_words`). A short password that nothing announces is not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from bench.core.masking.issued_tokens import ISSUED
from bench.core.masking.placeholders import MASKED, REMOVED
from bench.core.masking.random_words import RUN, is_random
from bench.core.masking.secret_names import is_secret_name

MAX_VALUE = 512
_VALUE = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\"[^"\\]*\\"|[^\s"'`,;&|<>(){}\[\]]{1,512})"""
_REST = re.compile(r"""[^\s"'`,;&|<>(){}\[\]]*""")
"""What is left of a longer value: a limit in the pattern itself keeps texts such as `a=a=a=...` from taking minutes."""
_NO_SECRET = re.compile(
    r"(?i)[\"'\\]*(?:none|null|nil|true|false|yes|no|not|unset|set|missing|required|[-+]?\d{1,6}(?:\.\d+)?(?:e[-+]?\d+)?)"
    r"[\"'\\]*"
)
"""Values that give nothing away: of `token=5` or `auth=None`."""
_PASSWORD = re.compile(r"(?i)passw|passphrase|pwd|psk|secret|(?<![a-z])pin$")
"""Names whose values are masked whatever they look like."""


class _Form(NamedTuple):
    """A pattern whose group `secret`, or all of it, is masked if `is_meant` says so."""

    pattern: re.Pattern[str]
    is_meant: Callable[[re.Match[str]], bool] = lambda _: True


def _names_a_secret(match: re.Match[str]) -> bool:
    """True for a secret's name with a value that may be one.

    `name=value` is taken at its word. In prose other signs go between any two words (`unexpected token: if`), so that
    there the value has to look like a secret, unless the name is a password's.
    """
    name, value, between = match["name"], match["secret"], match["between"]
    if (
        value.startswith("...")
        or value.endswith(":")
        or value.strip("\"'\\") in (MASKED, REMOVED)
        or not is_secret_name(name, in_prose=True)
    ):
        return False
    is_password = _PASSWORD.search(name) is not None
    if _NO_SECRET.fullmatch(value):
        return is_password and value.strip("\"'\\").isdigit()
    if between == "=" or between.isspace() or (is_password and between.strip() != "is"):
        return True
    return _is_odd(value)


def _is_odd(value: str) -> bool:
    """True for a value that has a digit among its letters, and is long enough for a secret."""
    bare = value.strip("\"'\\.!?")
    return len(bare) >= 6 and re.search(r"\d", bare) is not None and re.search(r"[A-Za-z]", bare) is not None


_NOT_YET = r"(?!\s|\(masked\)|\(removed\))"

_FORMS = (
    _Form(
        re.compile(r"-----BEGIN[ A-Z0-9]{0,40}PRIVATE KEY[ A-Z]{0,20}-----.*?(?:-----END[ A-Z0-9]*-----|\Z)", re.DOTALL)
    ),
    _Form(re.compile(r"PuTTY-User-Key-File.*", re.DOTALL)),
    # A URL's user and password; a user alone too, which is how tokens are given to git.
    _Form(re.compile(rf"(?i)\b[a-z][a-z0-9+.-]{{0,30}}:/{{2,3}}(?P<secret>{_NOT_YET}[^\s/@?#'\"<>]{{1,500}})@")),
    _Form(
        re.compile(
            r"(?i)\b(?P<scheme>bearer|basic|digest|negotiate|token|apikey|api-key)\s{1,8}(?P<secret>[\w.~+/=-]{8,})"
        ),
        lambda match: match["scheme"].lower() == "bearer" or _is_odd(match["secret"]),
    ),
    _Form(re.compile(rf"(?i)\b(?:set-)?cookie\s{{0,8}}[:=]\s{{0,8}}(?P<secret>{_NOT_YET}[^\r\n'\"]+)")),
    _Form(
        re.compile(
            rf"(?i)\bauthorization[\s\"']{{0,8}}[:=][\s\"']{{0,8}}{_NOT_YET}"
            rf"(?P<secret>(?:\w{{1,20}}\s{{1,8}})?{_NOT_YET}[^\s\"',;]+)"
        )
    ),
    # netrc; `curl -u user:password`; `sshpass -p`, `mysql -psecret`
    _Form(re.compile(rf"(?i)\blogin\s{{1,8}}\S{{1,100}}\s{{1,8}}password\s{{1,8}}(?P<secret>{_NOT_YET}\S+)")),
    _Form(re.compile(rf"\s(?:-u|--user|--proxy-user)[ =]?(?P<secret>{_NOT_YET}[^\s:'\"]{{1,100}}:(?!//)[^\s'\"]+)")),
    _Form(
        re.compile(
            r"\b(?:sshpass|mysql|mysqldump|docker login|ldapsearch)\b[^\n|;]{0,200}?\s-[pw]\s?"
            rf"(?P<secret>{_NOT_YET}[^\s'\"-][^\s'\"]*)"
        )
    ),
    # NAME=VALUE, NAME: VALUE, "NAME": "VALUE"; --name VALUE
    _Form(
        re.compile(
            r"""(?P<name>["'\\]{0,2}(?<![\w%])(?:--?)?[A-Za-z][\w.-]{0,80}?["'\\]{0,2})"""
            rf"(?P<between>\s{{0,8}}(?:=>|:=|[=:])\s{{0,8}}|\s{{1,8}}is\s{{1,8}})(?P<secret>{_VALUE})"
        ),
        _names_a_secret,
    ),
    _Form(
        re.compile(rf"(?<![\w-])(?P<name>--?[A-Za-z][\w-]{{0,80}})(?P<between>\s{{1,8}})(?P<secret>(?!-){_VALUE})"),
        _names_a_secret,
    ),
    _Form(re.compile(rf"(?<![A-Za-z0-9])(?:{'|'.join(ISSUED)})")),
    # A JSON file of keys, as Kaggle's.
    _Form(re.compile(r"""["']key["']\s{0,8}:\s{0,8}["'](?P<secret>[\w+/=-]{20,})["']""")),
    _Form(RUN, lambda match: is_random(match[0])),
)


@lru_cache(maxsize=65536)
def mask_secrets(text: str) -> str:
    """The text with `(masked)` in the place of each secret that is found in it; once masked, it stays as it is."""
    for form in _FORMS:
        text = _mask_form(text, form)
    return text


def _mask_form(text: str, form: _Form) -> str:
    parts, done, place = [], 0, 0
    has_group = "secret" in form.pattern.groupindex
    while match := form.pattern.search(text, place):
        start, end = match.span("secret" if has_group else 0)
        if not form.is_meant(match):
            # A value may begin with a name: `source=password=...`.
            place = max(start, match.start() + 1) if has_group else match.end()
            continue
        if end - start > 1 and text[start] == text[end - 1] and text[start] in "\"'":
            start, end = start + 1, end - 1
        elif end - start == MAX_VALUE:
            rest = _REST.match(text, end)
            end = end if rest is None else rest.end()
        parts += [text[done:start], MASKED]
        done = end
        place = max(match.end(), end)
    return "".join([*parts, text[done:]]) if parts else text


def holds_secret(text: str) -> bool:
    """True if a secret is found in the text."""
    return mask_secrets(text) != text
