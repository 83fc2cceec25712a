"""New identifiers: UUID version 7 (RFC 9562), so that rows made one after the other lie one beside the other in an index."""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    return uuid7()


def created_at(id: UUID) -> datetime | None:
    """When an id was made, to the millisecond (RFC 9562 §5.7); None for one of another version."""
    return datetime.fromtimestamp((id.int >> 80) / 1000, UTC) if id.version == 7 else None
