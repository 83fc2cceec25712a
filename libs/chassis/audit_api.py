"""`/v1/audit`: the audit log, for internal control. Newest first. Reading it leaves an entry too."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from sqlalchemy import text

from libs.chassis import streams
from libs.chassis.access import AccessTable, Rule
from libs.chassis.audit import audit
from libs.chassis.docs import Example, examples
from libs.chassis.pagination import Page, page_of
from libs.chassis.runtime import Db
from libs.chassis.security import Caller
from libs.chassis.strict import Answer
from libs.contracts.types import Id, Instant
from libs.contracts.vocabularies import Role

router = APIRouter(tags=["Audit"])

ACCESS = AccessTable({"list_audit": Rule(roles={Role.AUDITOR})})


class AuditEntryOut(Answer):
    """Who (`client`, `actor`, `role`, `organization`) did what (`operation`) on which object (`subject`), why (`purpose`), in which request (`trace`)."""

    sequence: int
    at: Instant
    client: str
    actor: str
    role: str
    organization: Id | None
    operation: str
    subject: str
    purpose: str | None
    trace: str
    detail: dict[str, str]


class AuditOut(Answer):
    items: list[AuditEntryOut]
    next: str | None


# The actor is in the entry's bytes, which are what is hashed: no column repeats it, audit_actor reads it, an index keeps it.
_READ = text("""
    SELECT sequence, data FROM stream_events
    WHERE stream = :stream AND sequence < :before
      AND (CAST(:subject AS text) IS NULL OR subject = :subject)
      AND (CAST(:actor AS text) IS NULL OR audit_actor(data) = :actor)
      AND (CAST(:since AS timestamptz) IS NULL OR recorded_at >= :since)
      AND (CAST(:until AS timestamptz) IS NULL OR recorded_at < :until)
    ORDER BY sequence DESC LIMIT :limit
""")

# opaque identifiers only: what an entry may hold as its subject (libs.chassis.audit), and no e-mail address or name in a URL
Subject = Annotated[str | None, Query(min_length=1, max_length=120, pattern=r"^[A-Za-z0-9_.:/-]+$")]
Actor = Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_.:/|-]+$")]


@router.get(
    "/v1/audit",
    operation_id="list_audit",
    response_model=AuditOut,
    openapi_extra=examples(Example("auditor", 200, query={"actor": "iscg-95", "limit": 10}), Example("administrator", 403)),
)
async def list_audit(
    caller: Caller,
    database: Db,
    page: Page,
    response: Response,
    subject: Subject = None,
    actor: Actor = None,
    since: Annotated[Instant | None, Query(alias="from", description="Entries recorded from this instant on")] = None,
    until: Annotated[Instant | None, Query(description="Entries recorded before this instant")] = None,
) -> AuditOut:
    """Entries of the audit log, newest first."""
    wanted: dict[str, Any] = {"subject": subject, "actor": actor, "since": since, "until": until}
    async with database.transaction() as session:
        rows = (
            await session.execute(
                _READ,
                {"stream": streams.AUDIT, "before": page.after[0] if page.after else 2**62, "limit": page.limit + 1, **wanted},
            )
        ).all()
        # which filters, not their values: a subject looked for is an id, an actor may be a person's
        filters = {"filters": ".".join(sorted(name for name, value in wanted.items() if value is not None)) or "none"}
        await audit(session, caller, operation="list_audit", subject=subject or streams.AUDIT, detail=filters)
    shown, following = page_of(rows, page, lambda row: (row.sequence,))
    page.link(response, following)
    return AuditOut(items=[AuditEntryOut(sequence=row.sequence, **json.loads(bytes(row.data))) for row in shown], next=following)
