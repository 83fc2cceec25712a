"""Who is told by e-mail, where and how often. A post, a département and an organization have one preference each; the address is sealed."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from pydantic import AfterValidator, Field
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis.audit import audit
from libs.chassis.etag import match
from libs.chassis.refusals import Conflict, Invalid, NotFound
from libs.chassis.security import Principal
from libs.chassis.strict import Answer, Body
from libs.chassis.vault import Vault
from libs.contracts.vocabularies import Role
from services.referrals.models import ServiceHeard
from services.referrals.notices import NoticeKind, NoticeMode, may_leave_out, next_digest
from services.referrals.notices.models import NoticeMail, NoticePreference
from services.referrals.schemas import Email, unique

ADDRESS: Final = "notice/address"
"""The context under which an address is sealed."""

Recipient = Annotated[
    str,
    Field(
        pattern=r"^(?:departement:(?:[0-9][0-9AB]|9[78][0-9])|(?:post|organization):[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})$",
        examples=["departement:95"],
    ),
]


class PreferenceHeld(Conflict):
    """The organization set it itself."""

    type: ClassVar[str] = "preference-held"
    title: ClassVar[str] = "Préférence tenue par la structure"


class NoticePreferenceIn(Body):
    address: Email
    """A professional address: no personal data is ever sent there, but a link to it."""
    mode: NoticeMode
    by_link: bool = False
    """An organization without account: it answers its orientations by a signed single-use link."""
    left_out: Annotated[list[NoticeKind], Field(max_length=len(NoticeKind)), AfterValidator(unique)] = Field(default_factory=list)
    """Kinds that are not told, of those that this recipient may leave out (422 otherwise). What is urgent is told all the same."""


class NoticePreferenceOut(Answer):
    """`version` 0: nothing was set yet. `undelivered`: mails that no server took within three days; they are tried on, or wait for another address."""

    recipient: str
    address: str | None
    mode: NoticeMode
    by_link: bool
    left_out: list[NoticeKind]
    own: bool
    undelivered: int
    version: int


_OWN_KIND: Final[Mapping[Role, str]] = {Role.ISCG: "post", Role.COORDINATOR: "departement", Role.PARTNER: "organization"}


def own_of(caller: Principal) -> list[str]:
    """The recipients that the caller is."""
    if caller.role is Role.PARTNER:
        return [] if caller.organization is None else [f"organization:{caller.organization}"]
    return sorted(one for one in caller.perimeter if one.partition(":")[0] == _OWN_KIND.get(caller.role))


def _is_own(caller: Principal, recipient: str) -> bool:
    """A post is the social worker's, a département the coordinator's, an organization its own."""
    kind = recipient.partition(":")[0]
    if _OWN_KIND.get(caller.role) != kind:
        return False
    return recipient == f"organization:{caller.organization}" if kind == "organization" else recipient in caller.perimeter


async def _own(session: AsyncSession, caller: Principal, recipient: str) -> bool:
    """Whether the recipient is the caller itself; False: an organization of its département, for which it may speak. Raises NotFound."""
    if _is_own(caller, recipient):
        return True
    kind, _, name = recipient.partition(":")
    if kind == "organization" and caller.role is not Role.PARTNER:
        query = select(col(ServiceHeard.departement)).where(col(ServiceHeard.organization_id) == UUID(name), ~col(ServiceHeard.closed))
        if any(caller.covers_departement(departement) for departement in await session.scalars(query)):
            return False
    raise NotFound


async def _answer(session: AsyncSession, vault: Vault, recipient: str, row: NoticePreference | None, *, shown: bool) -> NoticePreferenceOut:
    if row is None:
        return NoticePreferenceOut(
            recipient=recipient, address=None, mode=NoticeMode.OFF, by_link=False, left_out=[], own=False, undelivered=0, version=0
        )
    undelivered = await session.scalar(
        select(func.count())
        .select_from(NoticeMail)
        .where(
            col(NoticeMail.recipient) == recipient,
            col(NoticeMail.state).in_(("waiting", "abandoned")),
            col(NoticeMail.created_at) < func.now() - text("interval '3 days'"),
            col(NoticeMail.last_failure).is_not(None),
        )
    )
    address = (await vault.open_key(session, row.key_id)).open(row.address, context=ADDRESS).decode() if shown else None
    return NoticePreferenceOut(
        recipient=recipient,
        address=address,
        mode=NoticeMode(row.mode),
        by_link=row.by_link,
        left_out=[NoticeKind(one) for one in row.left_out],
        own=row.own,
        undelivered=undelivered or 0,
        version=row.version,
    )


async def read(session: AsyncSession, caller: Principal, vault: Vault, recipient: str) -> NoticePreferenceOut:
    """The address that an organization gave itself is shown to that organization only."""
    own = await _own(session, caller, recipient)
    row = await session.get(NoticePreference, recipient)
    return await _answer(session, vault, recipient, row, shown=own or (row is not None and not row.own))


async def put(
    session: AsyncSession, caller: Principal, vault: Vault, recipient: str, version: int, body: NoticePreferenceIn, now: datetime
) -> NoticePreferenceOut:
    """Set or replace. What already waits follows the new preference. Raises NotFound, Invalid, PreferenceHeld, StaleVersion."""
    own = await _own(session, caller, recipient)
    if not set(body.left_out) <= set(may_leave_out(recipient)):
        raise Invalid(
            "Cette notification ne peut pas être écartée ici.", pointers=[("/left_out", "Elle est urgente, ou d'un autre destinataire.")]
        )
    # a row that is not there cannot be locked: two first settings would both be first
    await session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": f"notice preference {recipient}"})
    row = await session.get(NoticePreference, recipient, with_for_update=True, populate_existing=True)
    if row is not None and row.own and not own:
        raise PreferenceHeld("Cette structure règle elle-même ses notifications : demandez-lui de les changer.")
    match(row.version if row is not None else 0, version)
    if row is not None:
        await vault.destroy(session, row.key_id)
    key = await vault.new_key(session, "notice")
    sealed = key.seal(body.address.encode(), context=ADDRESS)
    by_link = body.by_link and recipient.startswith("organization:")
    if row is None:
        row = NoticePreference(
            recipient=recipient,
            key_id=key.id,
            address=sealed,
            mode=body.mode,
            by_link=by_link,
            left_out=list[str](body.left_out),
            own=own,
            updated_at=now,
            version=1,
        )
        session.add(row)
    else:
        row.key_id, row.address, row.mode, row.by_link, row.own = key.id, sealed, body.mode, by_link, own
        row.left_out, row.updated_at, row.version = list[str](body.left_out), now, row.version + 1
    await session.flush()
    await session.execute(
        text(
            "UPDATE notices SET due_at = CASE WHEN :mode = 'digest' THEN greatest(due_at, CAST(:digest AS timestamptz)) ELSE CAST(:now AS timestamptz) END"
            " WHERE recipient = :recipient AND mail_id IS NULL AND due_at > :now"
        ),
        {"mode": body.mode.value, "recipient": recipient, "now": now, "digest": next_digest(now)},
    )
    await session.execute(
        text(
            "DELETE FROM notices WHERE recipient = :recipient AND mail_id IS NULL AND due_at > :now AND kind = ANY(CAST(:kinds AS text[]))"
        ),
        {"recipient": recipient, "now": now, "kinds": [one.value for one in body.left_out]},
    )
    await session.execute(
        text("UPDATE notice_mails SET state = 'waiting', next_attempt_at = :now WHERE recipient = :recipient AND state = 'abandoned'"),
        {"recipient": recipient, "now": now},
    )
    await audit(session, caller, operation="put_notice_preference", subject=f"notice-preferences/{recipient}")
    return await _answer(session, vault, recipient, row, shown=True)
