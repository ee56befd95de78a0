"""Cursors of connections: places in one ordering of one cell and tenant."""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from jobledger.eventlog.positions import InvalidPositionError, Vector, decode_position
from jobledger.graphql.scalars import Cursor
from jobledger.graphql.types.errors import ErrorCode, QueryError, user_error
from jobledger.projections.pages import JobCursor


class Cursors:
    """Writes and reads cursors and positions; raises QueryError for those that were made elsewhere."""

    def __init__(self, cell: str, tenant: str, partitions: int) -> None:
        self._cell = cell
        self.tenant = tenant
        self._partitions = partitions

    def write(self, ordering: str, *place: object) -> Cursor:
        """A cursor of `ordering` at `place`."""
        text = "|".join([self._cell, self.tenant, ordering, *map(str, place)])
        return Cursor(base64.urlsafe_b64encode(text.encode()).decode().rstrip("="))

    def read(self, ordering: str, token: str) -> list[str]:
        """The place in a cursor that was made for `ordering`."""
        try:
            text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        except (ValueError, binascii.Error):
            text = ""
        cell, _, rest = text.partition("|")
        tenant, _, rest = rest.partition("|")
        made_for, _, place = rest.partition("|")
        if (cell, tenant, made_for) != (self._cell, self.tenant, ordering) or not place:
            raise self._refused(token)
        return place.split("|")

    def read_job(self, ordering: str, token: str) -> JobCursor:
        """A place in a list of jobs."""
        try:
            at_ms, job_id = self.read(ordering, token)
            return JobCursor(_number(at_ms), str(UUID(job_id)))
        except ValueError:
            raise self._refused(token) from None

    def read_number(self, ordering: str, token: str) -> int:
        """A place in a list that is numbered."""
        try:
            (number,) = self.read(ordering, token)
            return _number(number)
        except ValueError:
            raise self._refused(token) from None

    def read_position(self, token: str) -> Vector:
        """The vector of a position."""
        try:
            return decode_position(self._cell, token, self._partitions)
        except InvalidPositionError as error:
            problem = str(error).rstrip(".").partition(";")[0]
            remedy = "use a position that an answer of this cell gave"
            raise QueryError(user_error(ErrorCode.INVALID_POSITION, problem, remedy, ["after"], token)) from None

    @staticmethod
    def _refused(token: str) -> QueryError:
        return QueryError(
            user_error(
                ErrorCode.INVALID_CURSOR,
                f"'{token[:80]}' is not a cursor of this list",
                "use one that a page of the same list gave, or none",
                ["after"],
                token,
            )
        )


def _number(text: str) -> int:
    """A number that Postgres can compare with; raises ValueError."""
    number = int(text)
    if abs(number) >= 1 << 63:
        raise ValueError(text)
    return number
