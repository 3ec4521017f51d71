"""Lines as a result file keeps them: without the secrets that are found in their texts.

A secret can come with the command, in the message of an error, in a note or a table of a suite, in a host's name, in
what the doctor says. A case's parameters are part of its id, and a resumed run needs them as they are: there a secret
is refused before anything is measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec

from bench.core.masking.placeholders import MASKED
from bench.core.masking.secret_forms import holds_secret, mask_secrets
from bench.core.masking.secret_names import is_secret_name
from bench.errors import BenchError
from bench.records.lines.header import Environment, PlannedCase, RankFacts
from bench.records.lines.kinds import Header, Joined, Line, Resume
from bench.records.privacy.typed_texts import TextWalk
from bench.records.privacy.variables import kept_value, kept_variables

LineKind = TypeVar("LineKind", bound=Line)

_DIGESTS = frozenset({"SuiteFacts.digest", "SuiteFacts.sha256", "ImportedFrom.sha256", "Environment.commit"})
"""Random by nature."""


def without_secrets(line: LineKind) -> LineKind:
    """The line as a file keeps it: secrets masked, variables by the allow list; itself if it has nothing to hide."""
    if isinstance(line, Header | Resume):
        line = msgspec.structs.replace(line, command=mask_command(line.command))
    if isinstance(line, Header | Resume | Joined):
        line = msgspec.structs.replace(line, environment=_environment(line.environment))
    masked: LineKind = _Masking().walk(line)
    return masked


class _Masking(TextWalk):
    def change(self, text: str, place: str) -> str:
        return text if place in _DIGESTS else mask_secrets(text)


def _environment(environment: Environment) -> Environment:
    variables = kept_variables({name: str(value) for name, value in environment.variables.items()})
    return msgspec.structs.replace(
        environment, variables=dict(variables), ranks=[_rank(rank) for rank in environment.ranks]
    )


def _rank(rank: RankFacts) -> RankFacts:
    threads = rank.omp_num_threads
    kept = None if threads is None else kept_value("OMP_NUM_THREADS", threads)
    return rank if kept == threads else msgspec.structs.replace(rank, omp_num_threads=kept)


def mask_command(words: Sequence[str]) -> list[str]:
    """The words of a command; the value of an option or a variable whose name speaks of a secret is masked whole."""
    kept: list[str] = []
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        before = words[number - 1] if number else ""
        if before.startswith("-") and "=" not in before and is_secret_name(before) and not word.startswith("-"):
            kept.append(MASKED)
        elif (
            equals and value and re.fullmatch(r"-{0,2}[\w-]+", name) and is_secret_name(name, in_prose=_is_prose(name))
        ):
            kept.append(f"{name}={MASKED}")
        else:
            kept.append(mask_secrets(word))
    return kept


def _is_prose(name: str) -> bool:
    """True for a name that is neither an option's nor a variable's: `key=value` may be any parameter."""
    return not name.startswith("-") and not name.isupper()


def mask_label(label: str) -> str:
    """A label as it is recorded, and as the file's name has it."""
    return mask_secrets(label)


def refuse_secret_parameters(cases: Iterable[PlannedCase]) -> None:
    """Raise BenchError for a case with a parameter that looks like a secret, without repeating it."""
    for case in cases:
        for name, value in case.params.items():
            has_secret = isinstance(value, str) and (holds_secret(value) or holds_secret(f"{name}={value}"))
            if has_secret or holds_secret(name):
                raise BenchError(
                    f"{mask_secrets(case.suite)}: the value of parameter {mask_secrets(name)} looks like a secret, and "
                    "the parameters of a case are recorded; let the suite read it from a variable or a file"
                )
