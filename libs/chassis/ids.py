"""New identifiers: UUID version 7 (RFC 9562), so that rows made one after the other lie one beside the other in an index."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    return uuid7()
