"""The table of error codes is whole: every place that has codes or errors has those of the table, and no others."""

from __future__ import annotations

import re
from collections import Counter

import jobledger
from jobledger.cli.exits import MEANINGS, Exit
from jobledger.client import errors as client
from jobledger.domain.values import Code
from jobledger.graphql.types import errors as types
from jobledger.schemas.error_codes import (
    BY_REJECTION,
    CLIENT_CODES,
    CODES,
    INTERNAL,
    RATE_LIMITED,
    REFUSED,
    UNAUTHENTICATED,
    UNREACHABLE,
    ErrorCode,
)


def _codes_in(text: str | None) -> list[str]:
    """The codes that the first words of a docstring name."""
    found = re.match(r"[A-Z_]+(, [A-Z_]+)*(?=[:.])", text or "")
    return [] if found is None else sorted(found[0].split(", "))


def test_every_code_has_one_entry() -> None:
    assert Counter(one.code for one in CODES) == Counter([*ErrorCode, INTERNAL, UNAUTHENTICATED, RATE_LIMITED])
    assert all(one.meaning and one.what_to_do for one in (*CODES, *CLIENT_CODES))


def test_every_rejection_of_an_owner_is_answered_with_one_code() -> None:
    assert Counter(code for one in CODES for code in one.rejections) == Counter(Code)
    assert BY_REJECTION.keys() == set(Code)


def test_every_type_of_the_schema_names_its_codes() -> None:
    """Each code that a mutation answers with has its type, which says so; codes of queries alone have none."""
    for cls in types.UserError.__subclasses__():
        named = _codes_in(cls.__doc__)
        assert named and set(named) <= {one.code for one in CODES if one.answer == cls.__name__}, cls.__name__
    for code in ErrorCode:
        assert types.user_error(code, "It went wrong").code is code


def test_every_exception_of_the_client_names_its_codes() -> None:
    """The base stands for a code that is not known here."""
    own = {one.exception: [one.code] for one in CLIENT_CODES}
    for name, cls in vars(client).items():
        if isinstance(cls, type) and issubclass(cls, client.JobledgerError) and cls is not client.JobledgerError:
            expected = own.get(name) or sorted(one.code for one in CODES if one.exception == name)
            assert expected and _codes_in(cls.__doc__) == expected, name
    for one in (*CODES, *CLIENT_CODES):
        assert getattr(jobledger, one.exception) is getattr(client, one.exception), one.exception
    assert {one.code: one.exception for one in CODES} == {c: cls.__name__ for c, cls in client.BY_CODE.items()}


def test_the_exit_statuses_are_the_programs() -> None:
    assert (REFUSED, UNREACHABLE) == (Exit.REFUSED, Exit.UNREACHABLE)
    assert MEANINGS.keys() == set(Exit)
