"""Notices: what a social worker, a coordinator or a partner is told by e-mail. Said in the transaction of their cause; sent by mail.py.

    await notices.notify(session, *notices.of_overdue(referral.id, referral.post_id, referral.departement, referral.due_at), now=now)

A notice holds ids and codes only, and its mail no more than a sentence and a link. One cause tells one recipient once, however often it is said.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.database import Statement, run
from libs.chassis.ids import new_id
from libs.chassis.security import Principal
from libs.contracts.types import PARIS, Code
from libs.contracts.vocabularies import ReferralStatus, Role, Urgency
from services.referrals.models import Referral

DIGEST_AT: Final = time(8, 0)
"""When a digest leaves, in local time: before the working day."""


class NoticeMode(Code):
    """How a recipient wants to be told."""

    IMMEDIATE = "immediate", "Au fur et à mesure"
    DIGEST = "digest", "Une fois par jour, sauf urgence"
    OFF = "off", "Aucun courriel"


class NoticeKind(Code):
    """What a notice tells: its label is the sentence of the mail."""

    NEW_REFERRAL = "new_referral", "Une nouvelle saisine est affectée à votre poste."
    URGENT_REFERRAL = "urgent_referral", "Une saisine urgente est affectée à votre poste."
    URGENT_UNROUTED_REFERRAL = "urgent_unrouted_referral", "Une saisine urgente n'a pas trouvé de poste : elle attend votre affectation."
    UNROUTED_REFERRAL = "unrouted_referral", "Une saisine n'a pas trouvé de poste : elle attend votre affectation."
    POST_ABSENT = "post_absent", "Personne ne travaille plus à un poste qui a des saisines en cours : vérifiez à qui elles reviennent."
    OVERDUE_REFERRAL = "overdue_referral", "Une saisine a dépassé son délai de premier contact."
    REFERRAL_TAKEN = "referral_taken", "Une saisine de votre poste est affectée à un autre : n'appelez plus la personne."
    REFERRAL_CHANGED = (
        "referral_changed",
        "La coordination départementale a modifié une saisine de votre poste : relisez-la avant d'appeler la personne.",
    )
    PERSON_JOINED = (
        "person_joined",
        "La coordination départementale a ajouté une personne à une saisine de votre poste, ou noté qu'une autre y est victime :"
        " relisez-la, et rouvrez-la s'il faut encore l'appeler.",
    )
    REFERRAL_ERASED = (
        "referral_erased",
        "La coordination départementale a effacé des données d'une saisine de votre poste : effacez aussi vos copies, et n'appelez plus la personne.",
    )
    ORIENTATION_CANCELLED = "orientation_cancelled", "La coordination départementale a annulé une orientation demandée par votre poste."
    ORIENTATION_URGENT = "orientation_urgent", "Une orientation urgente attend votre réponse."
    ORIENTATION_TO_ANSWER = "orientation_to_answer", "Une orientation attend votre réponse."
    ORIENTATION_REMINDER = "orientation_reminder", "Une orientation attend toujours votre réponse et va expirer."
    ORIENTATION_TO_FOLLOW = (
        "orientation_to_follow",
        "Votre réponse est enregistrée : dites par ce nouveau lien la suite que vous donnez à l'orientation.",
    )
    ORIENTATION_UPDATED = "orientation_updated", "Une orientation qui vous est adressée a changé : relisez-la avant d'appeler la personne."
    ORIENTATION_WITHDRAWN = "orientation_withdrawn", "Une orientation qui vous était adressée est annulée : ne contactez plus la personne."
    ORIENTATION_ACCEPTED = (
        "orientation_accepted",
        "Une orientation est acceptée : à une structure qui répond par un lien, confiez de vive voix l'identité et les coordonnées.",
    )
    ORIENTATION_STARTED = "orientation_started", "Une structure a commencé l'accompagnement demandé par une orientation."
    ORIENTATION_COMPLETED = "orientation_completed", "Une structure a terminé l'accompagnement demandé par une orientation."
    ORIENTATION_FAILED = "orientation_failed", "Une orientation est restée sans suite : la personne peut être réorientée."
    ORIENTATION_GIVEN_UP = (
        "orientation_given_up",
        "Une structure renonce à un accompagnement, ou son service ferme, après la clôture de la saisine : rouvrez-la si la personne est à réorienter.",
    )
    ORIENTATION_REJECTED = "orientation_rejected", "Une orientation a été refusée : la personne peut être réorientée."
    ORIENTATION_SERVICE_CLOSED = (
        "orientation_service_closed",
        "Un service à qui une orientation est adressée a fermé : vérifiez que la personne y est encore attendue, ou réorientez-la.",
    )
    ORIENTATION_EXPIRED = "orientation_expired", "Une orientation a expiré sans réponse : la personne peut être réorientée."
    ORIENTATION_ERASED = (
        "orientation_erased",
        "Les données d'une personne qui vous avait été orientée sont effacées : effacez aussi vos copies, puis confirmez-le à la coordination départementale.",
    )
    ERASURES_UNCONFIRMED = (
        "erasures_unconfirmed",
        "Des effacements ne sont pas encore confirmés par tous ceux qui avaient reçu ces données : relancez-les.",
    )
    REFUSAL_TO_SETTLE = (
        "refusal_to_settle",
        "Une saisine où aucune des personnes à aider ne veut être contactée reste ouverte :"
        " voyez s'il y a lieu d'alerter, puis closez-la ; rien n'y est effacé d'ici là.",
    )
    ENDS_ANNOUNCED = (
        "ends_announced",
        "Des saisines closes arrivent à la fin de leur conservation : leurs données seront effacées au jour annoncé.",
    )
    ENDS_HELD = (
        "ends_held",
        "Des saisines restent gardées au-delà de leur durée de conservation : closez-les, ou mettez fin à ce qui les retient.",
    )


AT_ONCE: Final = frozenset(
    {
        NoticeKind.OVERDUE_REFERRAL,
        NoticeKind.REFUSAL_TO_SETTLE,
        NoticeKind.REFERRAL_TAKEN,
        NoticeKind.PERSON_JOINED,
        NoticeKind.REFERRAL_ERASED,
        NoticeKind.ORIENTATION_UPDATED,
        NoticeKind.ORIENTATION_WITHDRAWN,
    }
)
"""What never waits for a digest, urgent or not: a call that is late, one that must not be made as it was allowed, a child whom nobody looked after."""


UNROUTED: Final = (NoticeKind.UNROUTED_REFERRAL, NoticeKind.URGENT_UNROUTED_REFERRAL)
ASSIGNED: Final = (NoticeKind.NEW_REFERRAL, NoticeKind.URGENT_REFERRAL)
ASKED: Final = (NoticeKind.ORIENTATION_TO_ANSWER, NoticeKind.ORIENTATION_URGENT, NoticeKind.ORIENTATION_REMINDER)
"""What waits for somebody to do something: once it is done it is told no more."""


_MAY_LEAVE_OUT: Final[Mapping[str, tuple[NoticeKind, ...]]] = {
    "post": (
        NoticeKind.NEW_REFERRAL,
        NoticeKind.ORIENTATION_ACCEPTED,
        NoticeKind.ORIENTATION_STARTED,
        NoticeKind.ORIENTATION_COMPLETED,
        NoticeKind.ORIENTATION_FAILED,
        NoticeKind.ORIENTATION_REJECTED,
        NoticeKind.ORIENTATION_EXPIRED,
    ),
    "departement": (NoticeKind.UNROUTED_REFERRAL, NoticeKind.ENDS_ANNOUNCED),
    "organization": (NoticeKind.ORIENTATION_TO_ANSWER, NoticeKind.ORIENTATION_REMINDER),
}


def may_leave_out(recipient: str) -> tuple[NoticeKind, ...]:
    """What a recipient of that kind is told and may not want. Not what waits for no digest: it is told to whoever is told anything."""
    return _MAY_LEAVE_OUT[recipient.partition(":")[0]]


@dataclass(frozen=True, slots=True)
class Notice:
    """`cause`: what happened, once (`referral.assigned:<id>:<post>`). `recipient`: "post:<id>", "departement:95" or "organization:<id>"."""

    cause: str
    kind: NoticeKind
    recipient: str
    referral_id: UUID | None = None
    orientation_id: UUID | None = None
    link_id: UUID | None = None
    """The signed link by which a partner without account answers."""
    urgent: bool = False
    """Immediate, or somebody in danger: it waits for no digest."""


_INSERT = Statement(
    "INSERT INTO notices (id, cause, recipient, kind, referral_id, orientation_id, link_id, created_at, due_at)"
    " SELECT said.id, said.cause, said.recipient, said.kind, said.referral_id, said.orientation_id, said.link_id, CAST(:now AS timestamptz),"
    " CASE WHEN wanted.mode = 'digest' AND NOT said.at_once THEN CAST(:digest AS timestamptz) ELSE CAST(:now AS timestamptz) END"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:causes AS text[]), CAST(:recipients AS text[]), CAST(:kinds AS text[]), CAST(:referrals AS uuid[]),"
    " CAST(:orientations AS uuid[]), CAST(:links AS uuid[]), CAST(:at_once AS boolean[]))"
    " AS said (id, cause, recipient, kind, referral_id, orientation_id, link_id, at_once)"
    " JOIN notice_preferences AS wanted ON wanted.recipient = said.recipient AND wanted.mode <> 'off'"
    " AND (said.at_once OR said.kind <> ALL (wanted.left_out))"
    # in the order of the unique key: two transactions never wait for each other crosswise
    " ORDER BY said.cause, said.recipient ON CONFLICT (cause, recipient) DO NOTHING"
)


_AS_URGENT: Final[Mapping[NoticeKind, NoticeKind]] = {
    NoticeKind.NEW_REFERRAL: NoticeKind.URGENT_REFERRAL,
    NoticeKind.UNROUTED_REFERRAL: NoticeKind.URGENT_UNROUTED_REFERRAL,
    NoticeKind.ORIENTATION_TO_ANSWER: NoticeKind.ORIENTATION_URGENT,
}
"""What is told instead, of what is urgent."""
_URGENT = " ".join(f"WHEN '{calm}' THEN '{urgent}'" for calm, urgent in _AS_URGENT.items())
_HURRY = text(
    f"UPDATE notices SET due_at = least(due_at, :now), kind = CASE kind {_URGENT} ELSE kind END"  # noqa: S608 - constants
    " WHERE mail_id IS NULL AND (referral_id = :referral"
    " OR orientation_id IN (SELECT id FROM orientations WHERE referral_id = :referral AND status = 'requested'))"
)
_WAITS = text(
    "SELECT EXISTS (SELECT 1 FROM notices WHERE referral_id = :referral AND recipient = :recipient AND mail_id IS NULL"
    " AND kind IN ('new_referral', 'urgent_referral', 'unrouted_referral', 'urgent_unrouted_referral'))"
)


async def notify(session: AsyncSession, *notices: Notice, now: datetime) -> None:
    """Tell recipients something, in the transaction of its cause: one statement. Who gave no address, or wants no mail, is not told."""
    if not notices:
        return
    await run(
        session,
        _INSERT,
        {
            "now": now,
            "digest": next_digest(now),
            "ids": [new_id() for _ in notices],
            "causes": [one.cause for one in notices],
            "recipients": [one.recipient for one in notices],
            "kinds": [one.kind.value for one in notices],
            "referrals": [one.referral_id for one in notices],
            "orientations": [one.orientation_id for one in notices],
            "links": [one.link_id for one in notices],
            "at_once": [one.urgent or one.kind in AT_ONCE for one in notices],
        },
    )


_UNTRUE = text(
    "DELETE FROM notices WHERE mail_id IS NULL AND recipient = :recipient AND kind = ANY(CAST(:kinds AS text[]))"
    " AND (referral_id = :about OR orientation_id = :about)"
)


async def untrue(session: AsyncSession, recipient: str, about: UUID, kinds: Collection[NoticeKind] = tuple(NoticeKind)) -> None:
    """What waits to tell a recipient of a referral, or of an orientation, is true no more: it is not told. What a mail holds has left, or is about to."""
    await session.execute(_UNTRUE, {"recipient": recipient, "about": about, "kinds": [kind.value for kind in kinds]})


async def handed_on(
    session: AsyncSession,
    referral_id: UUID,
    departement: str,
    before: UUID | None,
    after: UUID | None,
    now: datetime,
    *,
    by_post: bool = False,
) -> None:
    """It goes from a post, or from the coordinator who was to find one, to another post or to none: what they were to be told of it is over, and the post that
    had it is told so, unless it gave it away itself (`by_post`). Before the next one is told."""
    if before == after:
        return
    if before is None:
        await untrue(session, of_departement(departement), referral_id, UNROUTED)
    else:
        await untrue(session, of_post(before), referral_id)
        if not by_post:
            await notify(session, of_taken(referral_id, before, now), now=now)
    if after is not None:
        await untrue(session, of_post(after), referral_id, (NoticeKind.REFERRAL_TAKEN,))


async def tell_post(
    session: AsyncSession, caller: Principal, referral: Referral, kind: NoticeKind, now: datetime, *, at_once: bool = False
) -> None:
    """What a coordinator did to a referral is told to the post that has it, be it closed; what a post did itself is not. `at_once`: it matters before the
    next call."""
    if caller.role is Role.COORDINATOR and referral.post_id is not None:
        cause = f"referral.changed:{referral.id}:{referral.version}"
        await notify(session, Notice(cause, kind, of_post(referral.post_id), referral.id, urgent=at_once), now=now)


async def turned_urgent(session: AsyncSession, referral: Referral, now: datetime) -> None:
    """What waits to tell of it goes at once, and says so, to a partner who has not answered too. Who has it, a post or, without one, the coordinator, is
    told of it when nothing such waits for them."""
    await session.execute(_HURRY, {"referral": referral.id, "now": now})
    if referral.status == ReferralStatus.CLOSED:
        return
    if referral.post_id is not None:
        recipient, kind = of_post(referral.post_id), NoticeKind.URGENT_REFERRAL
    else:
        recipient, kind = of_departement(referral.departement), NoticeKind.URGENT_UNROUTED_REFERRAL
    if not await session.scalar(_WAITS, {"referral": referral.id, "recipient": recipient}):
        cause = f"referral.urgent:{referral.id}:{referral.version}"
        await notify(session, Notice(cause, kind, recipient, referral.id, urgent=True), now=now)


def next_digest(now: datetime) -> datetime:
    local = now.astimezone(PARIS)
    day = local.date() if local.time() < DIGEST_AT else local.date() + timedelta(days=1)
    return datetime.combine(day, DIGEST_AT, PARIS)


# Whom a fact concerns


def of_post(post_id: UUID) -> str:
    return f"post:{post_id}"


def of_departement(departement: str) -> str:
    return f"departement:{departement}"


def of_organization(organization_id: UUID) -> str:
    return f"organization:{organization_id}"


def is_urgent(urgency: str, danger: bool) -> bool:
    return urgency == Urgency.IMMEDIATE or danger


def of_assigned(referral_id: UUID, post_id: UUID, now: datetime, *, urgent: bool) -> Notice:
    """`urgent`: immediate, or somebody in danger. Assigned again, even to the same post, it is told again."""
    kind = NoticeKind.URGENT_REFERRAL if urgent else NoticeKind.NEW_REFERRAL
    return Notice(f"referral.assigned:{referral_id}:{now.isoformat()}", kind, of_post(post_id), referral_id, urgent=urgent)


def of_unrouted(referral_id: UUID, departement: str, now: datetime, *, urgent: bool) -> Notice:
    kind = NoticeKind.URGENT_UNROUTED_REFERRAL if urgent else NoticeKind.UNROUTED_REFERRAL
    return Notice(f"referral.unrouted:{referral_id}:{now.isoformat()}", kind, of_departement(departement), referral_id, urgent=urgent)


def of_absent(post_id: UUID, departement: str, since: datetime, *, urgent: bool) -> Notice:
    """To the coordinator of open referrals that a post leaves behind. `urgent`: one of them is."""
    return Notice(f"post.absent:{post_id}:{since.isoformat()}", NoticeKind.POST_ABSENT, of_departement(departement), urgent=urgent)


def of_taken(referral_id: UUID, post_id: UUID, now: datetime) -> Notice:
    return Notice(f"referral.taken:{referral_id}:{now.isoformat()}", NoticeKind.REFERRAL_TAKEN, of_post(post_id), referral_id)


def of_overdue(referral_id: UUID, post_id: UUID | None, departement: str, due_at: datetime) -> Sequence[Notice]:
    """Of each due time told once to the post (if any) and to the coordinator."""
    cause = f"referral.overdue:{referral_id}:{due_at.isoformat()}"
    recipients = [of_departement(departement)] + ([of_post(post_id)] if post_id is not None else [])
    return [Notice(cause, NoticeKind.OVERDUE_REFERRAL, recipient, referral_id) for recipient in recipients]


def of_refusal(referral_id: UUID, post_id: UUID | None, departement: str, now: datetime) -> Sequence[Notice]:
    """Of a referral that a refusal would have ended: to the post (if any) and to the coordinator, once a week while it is open."""
    cause = f"referral.refused:{referral_id}:{_week(now)}"
    recipients = [of_departement(departement)] + ([of_post(post_id)] if post_id is not None else [])
    return [Notice(cause, NoticeKind.REFUSAL_TO_SETTLE, recipient, referral_id) for recipient in recipients]


def of_ends_announced(departement: str, now: datetime) -> Notice:
    """Of all that one look announced there: one notice, however many they are."""
    return Notice(f"retention.announced:{departement}:{now.isoformat()}", NoticeKind.ENDS_ANNOUNCED, of_departement(departement))


def of_erasures_unconfirmed(departement: str, now: datetime) -> Notice:
    """Of all that wait there: one notice a week, however many they are and however often they are looked at."""
    return Notice(f"erasures.unconfirmed:{departement}:{_week(now)}", NoticeKind.ERASURES_UNCONFIRMED, of_departement(departement))


def of_ends_held(departement: str, now: datetime) -> Notice:
    """Of all that is past its retention there: as those."""
    return Notice(f"retention.held:{departement}:{_week(now)}", NoticeKind.ENDS_HELD, of_departement(departement))


def _week(now: datetime) -> str:
    year, week, _ = now.astimezone(PARIS).isocalendar()
    return f"{year}-{week}"
