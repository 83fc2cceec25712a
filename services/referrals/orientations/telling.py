"""How orientations are told: to who asks by the API, to the partner and the post by notices, to the streams as events."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.security import Principal
from libs.chassis.subscriptions import LASTS
from libs.chassis.vault import Vault
from libs.contracts.envelope import Event
from libs.contracts.pseudonyms import PseudonymKeys
from libs.contracts.vocabularies import ReferralStatus, Role
from services.referrals import notices
from services.referrals.models import Person, Referral
from services.referrals.notices import Notice, NoticeKind
from services.referrals.orientations.domain import ORIENTATION_LIVES
from services.referrals.orientations.links import Links
from services.referrals.orientations.models import Orientation, OrientationLink
from services.referrals.orientations.schemas import OrientationOut, OrientationSummary
from services.referrals.persons import REJECTION
from services.referrals.working.work import is_at_work


def summary(orientation: Orientation) -> OrientationSummary:
    return OrientationSummary.of(orientation)


Told = TypeVar("Told", bound=OrientationSummary)


def told(caller: Principal, keys: PseudonymKeys, answer: Told) -> Told:
    """As the caller may know it: a partner is told its own pseudonyms of the situation and the person, those of its stream's events.

    With the true ids the partner of the victim and that of the alleged perpetrator could find that they work for the same situation.
    """
    if caller.role is not Role.PARTNER:
        return answer
    changed: dict[str, Any] = _pseudonyms(caller, keys, answer.referral_id, answer.person_id)
    if isinstance(answer, OrientationOut):
        changed["person"] = answer.person.model_copy(update={"id": changed["person_id"]})
    return answer.model_copy(update=changed)


def listed(caller: Principal, keys: PseudonymKeys, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same of rows that hold the fields of `OrientationListed`."""
    if caller.role is not Role.PARTNER:
        return [dict(row) for row in rows]
    return [
        {**row, **_pseudonyms(caller, keys, row["referral_id"], row["person_id"]), **({} if row["status"] in ORIENTATION_LIVES else _ENDED)}
        for row in rows
    ]


_ENDED: Final = {"urgency": None, "danger": None}


def _pseudonyms(caller: Principal, keys: PseudonymKeys, referral_id: UUID, person_id: UUID) -> dict[str, Any]:
    name = keys.namer(f"organization:{caller.organization}")
    return {"referral_id": UUID(name(str(referral_id))), "person_id": UUID(name(str(person_id))), "replaces_id": None}


async def to_partner(
    session: AsyncSession, links: Links, orientation: Orientation, kind: NoticeKind, now: datetime, *, urgent: bool = False
) -> Notice:
    """With the link to answer by, for an organization without account."""
    return of_partner(orientation, kind, await links.for_partner(session, orientation, now), urgent=urgent)


class HandedOn(NamedTuple):
    """The link by which a partner goes on, and whether it is mailed it too."""

    link: OrientationLink
    mailed: bool


async def hand_on(session: AsyncSession, links: Links, orientation: Orientation, now: datetime) -> HandedOn | None:
    """After an answer by link, which is spent: the next one, mailed too to an organization that answers by link; None where nothing is left to answer."""
    if orientation.status not in ORIENTATION_LIVES:
        return None
    following = await links.make(session, orientation, now)
    notice = await to_partner(session, links, orientation, NoticeKind.ORIENTATION_TO_FOLLOW, now)
    if notice.link_id is not None:
        await notices.notify(session, notice, now=now)
    return HandedOn(following, mailed=notice.link_id is not None)


def of_partner(orientation: Orientation, kind: NoticeKind, link_id: UUID | None, *, urgent: bool = False) -> Notice:
    cause = f"{kind}:{orientation.id}:{orientation.version}"
    return Notice(cause, kind, notices.of_organization(orientation.organization_id), None, orientation.id, link_id, urgent)


async def asks_no_more(session: AsyncSession, orientation: Orientation) -> None:
    """Of one that was answered, or has ended: its partner is not told any more what it was to be told before."""
    kinds = notices.ASKED if orientation.status in ORIENTATION_LIVES else tuple(NoticeKind)
    await notices.untrue(session, notices.of_organization(orientation.organization_id), orientation.id, kinds)


_HEARS = text(
    "SELECT EXISTS (SELECT FROM notice_preferences WHERE recipient = :organization AND mode <> 'off')"
    " OR EXISTS (SELECT FROM subscriptions WHERE stream = :organization AND status = 'active' AND renewed_at > now() - CAST(:lately AS interval))"
    " OR EXISTS (SELECT FROM stream_readers WHERE stream = :organization AND looked_at > now() - CAST(:lately AS interval))"
)


_MAILED = text("SELECT EXISTS (SELECT FROM notice_preferences WHERE recipient = :recipient AND mode <> 'off')")


async def hears(session: AsyncSession, organization_id: UUID) -> bool:
    """Whether something tells an organization that it is asked: a mail, a webhook that delivers, its feed where it looked within the week (decision 0017)."""
    return bool(await session.scalar(_HEARS, {"organization": notices.of_organization(organization_id), "lately": LASTS}))


async def tell_closed(session: AsyncSession, service_id: UUID, now: datetime) -> None:
    """The posts that asked a service which closed: what it has not ended stays as it is, for them to look after, or to reopen."""
    asked = (
        select(Referral, Orientation)
        .join(Referral, col(Referral.id) == col(Orientation.referral_id))
        .where(col(Orientation.service_id) == service_id, col(Orientation.status).in_(ORIENTATION_LIVES))
        .order_by(col(Referral.id), col(Orientation.id))
        .with_for_update(of=Referral)
        .execution_options(populate_existing=True)
    )
    for referral, orientation in (await session.execute(asked)).all():
        await tell_left(session, referral, orientation, NoticeKind.ORIENTATION_SERVICE_CLOSED, now)


async def tell_left(session: AsyncSession, referral: Referral, orientation: Orientation, kind: NoticeKind, now: datetime) -> None:
    """Of a partner who no longer supports somebody. `kind`: of a referral that is open; once it is closed nobody looks after it any more, and to reopen it is a
    decision (decision 0015). The caller has locked the referral."""
    if referral.status == ReferralStatus.CLOSED:
        referral.given_up_at, kind = now, NoticeKind.ORIENTATION_GIVEN_UP
    await tell_post(session, referral, orientation, kind, now)


async def tell_post(session: AsyncSession, referral: Referral, orientation: Orientation, kind: NoticeKind, now: datetime) -> None:
    """Whoever works the referral now: it may have gone to another post since. While nobody works there, the coordinator too, and of a partner who gave up
    after the closing where no mail tells the post."""
    recipients = [notices.of_post(referral.post_id or orientation.post_id)]
    unheard = kind is NoticeKind.ORIENTATION_GIVEN_UP and not await session.scalar(_MAILED, {"recipient": recipients[0]})
    if unheard or not await is_at_work(session, referral):
        recipients.append(notices.of_departement(referral.departement))
    urgent = notices.is_urgent(referral.urgency, referral.danger)
    said = [Notice(f"{kind}:{orientation.id}", kind, recipient, referral.id, urgent=urgent) for recipient in recipients]
    await notices.notify(session, *said, now=now)


def facts_of(referral: Referral, orientation: Orientation) -> dict[str, Any]:
    """What every event of an orientation says."""
    return {
        "referral_id": referral.id,
        "departement": referral.departement,
        "orientation_id": orientation.id,
        "post_id": orientation.post_id,
        "service_id": orientation.service_id,
        "organization_id": orientation.organization_id,
    }


async def say(session: AsyncSession, orientation: Orientation, event: Event) -> OrientationSummary:
    """In the streams, and to the caller as it is now."""
    await session.flush()
    await outbox.append(session, event)
    return summary(orientation)


async def reason_text_of(session: AsyncSession, vault: Vault, orientation: Orientation, person: Person) -> str | None:
    if orientation.reason_text is None:
        return None
    key = (await vault.open_keys(session, [person.key_id])).get(person.key_id)
    return key.open(orientation.reason_text, context=REJECTION).decode() if key is not None else None
