"""Names that say that their value is a secret: of variables, of options, of fields."""

from __future__ import annotations

import re
from functools import lru_cache

_ANYWHERE = re.compile(
    r"(?<!PER_)(?<!NUM_)(?<!MAX_)TOKEN(?!IZ|S_|S$)|SECRET|PASSW|PASSPHRASE|PASSCODE|PASSKEY|CREDENTIAL|COOKIE|APIKEY|PRIVATEKEY|ACCESSKEY"
    r"|BEARER|WEBHOOK|OAUTH"
)
"""In a name at any place: no word of another meaning has them."""
_WORDS = re.compile(
    r"(?:^|_)(?:[A-Z]{0,12}?(?:(?<!BY)(?<!COM)PASS|PASSWD|PWD|PSK|JWT)|PW|[A-Z]{0,3}PW|CRED|CREDS|AUTH|AUTHN|AUTHKEY|AUTHORIZATION|KEY|KEYS|KEYTAB"
    r"|[A-Z]{1,8}(?<!MON)KEY|SESSION|SESSIONID|SESSID|SID|SIG|SIGNATURE|SAS|SALT|OTP|TOTP|PIN|DSN|NONCE|CERT|PEM|PFX|LICEN[CS]E|CSRF|XSRF)(?:_|$)"
)
"""A whole word of a name, by its underscores."""
_WORDS_IN_PROSE = re.compile(
    r"(?:^|_)(?:[A-Z]{0,12}?(?:(?<!BY)(?<!COM)PASS|PASSWD|PWD|PSK|JWT)|[A-Z]{0,3}PW|CREDS?|AUTH|AUTHKEY|AUTHORIZATION"
    r"|(?:API|ACCESS|SECRET|PRIVATE|SSH|ACCOUNT|ENCRYPTION|SIGNING|MASTER|SHARED|STORAGE|CLIENT|LICEN[CS]E|AUTH|RSA|AES"
    r"|HMAC|SERVICE|DEPLOY)_?(?:ACCESS_?)?KEY(?:_DATA)?|SESSION_?ID|SESSID|SESSION|SIG|SIGNATURE|OTP|TOTP|PIN)$"
)
"""The end of names that a text has before `=` or `:` for nothing else: a lone `key` is any table's."""


@lru_cache(maxsize=65536)
def is_secret_name(name: str, in_prose: bool = False) -> bool:
    """True for a name that speaks of a secret; `in_prose`, for one in a text, which also speaks of other things."""
    bare = name.strip("\"'\\").lstrip("-")
    spelt = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", bare)  # clientSecret
    folded = re.sub(r"[^A-Z0-9]+", "_", spelt.upper()).strip("_")
    words = _WORDS_IN_PROSE if in_prose else _WORDS
    return any(_ANYWHERE.search(form) or words.search(form) for form in {folded, bare.upper()})
