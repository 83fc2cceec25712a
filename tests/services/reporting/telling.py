"""Made-up lives of referrals, posts and plans, told as reporting hears them."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from libs.chassis.listener import Heard
from libs.contracts import funding, partners, referrals
from libs.contracts.envelope import Event
from libs.contracts.vocabularies import (
    AgeBand,
    AlertKind,
    Channel,
    CloseReason,
    ContactAgreement,
    ContactMode,
    ContactResult,
    Firmness,
    Force,
    FunderKind,
    InterviewPlace,
    KnownToServices,
    Need,
    OrientationOutcome,
    OrientationRejection,
    PartnerKind,
    PersonRole,
    PostForce,
    RoutingReason,
    Sex,
    Theme,
    UnroutedReason,
    Urgency,
)

NOON = datetime(2026, 3, 2, 11, tzinfo=UTC)
COMMUNES = {"95": "95127", "78": "78646"}


def an_id(kind: int, number: int) -> UUID:
    return UUID(f"{kind:08x}-0000-7000-8000-{number:012x}")


UNIT, POST, OTHER_POST, EMPLOYER, SERVICE = an_id(2, 1), an_id(4, 1), an_id(4, 2), an_id(1, 1), an_id(3, 1)


def referral_id(number: int) -> UUID:
    return an_id(16, number)


def person(referral: int, number: int, **other: Any) -> referrals.PersonCounted:
    known: dict[str, Any] = {
        "person_id": an_id(17, referral * 100 + number),
        "role": PersonRole.VICTIM,
        "sex": Sex.FEMALE,
        "age_band": AgeBand.AGE_25_39,
        "agreement": ContactAgreement.ACCEPTED,
        "known_to_services": KnownToServices.UNKNOWN,
    }
    return referrals.PersonCounted(**(known | other))


def received(number: int, departement: str = "95", *, at: datetime = NOON, **other: Any) -> referrals.ReferralReceived:
    """Of three persons, one was seen before, one was not, of one it cannot be told; nobody's second person was."""
    whole = _whole(number, departement, at)
    first, second = whole["persons"]
    seen = (None, False, True)[number % 3]
    told = {"persons": (first.model_copy(update={"returning": seen}), second.model_copy(update={"returning": False}))}
    return referrals.ReferralReceived(**(whole | told | other))


def corrected(number: int, departement: str = "95", *, at: datetime = NOON, **other: Any) -> referrals.ReferralCorrected:
    return referrals.ReferralCorrected(**(_whole(number, departement, at) | {"corrected_at": at + timedelta(hours=1)} | other))


def _whole(number: int, departement: str, at: datetime) -> dict[str, Any]:
    return {
        "referral_id": referral_id(number),
        "departement": departement,
        "commune": COMMUNES[departement],
        "unit_id": UNIT,
        "force": Force.POLICE,
        "channel": Channel.INTERVENTION,
        "urgency": Urgency.STANDARD,
        "principal_theme": Theme.COUPLE_VIOLENCE,
        "themes": (Theme.COUPLE_VIOLENCE, Theme.HOUSING),
        "penal": True,
        "danger": False,
        "children_present": 1,
        "occurred_on": at.date(),
        "received_at": at,
        "persons": (person(number, 1), person(number, 2, role=PersonRole.ALLEGED_PERPETRATOR, sex=Sex.MALE)),
    }


def _of(number: int, departement: str) -> dict[str, Any]:
    return {"referral_id": referral_id(number), "departement": departement}


def assigned(number: int, departement: str = "95", post: UUID = POST) -> referrals.ReferralAssigned:
    return referrals.ReferralAssigned(**_of(number, departement), post_id=post, reason=RoutingReason.UNIT, assigned_at=NOON)


def unrouted(number: int, departement: str = "95") -> referrals.ReferralUnrouted:
    return referrals.ReferralUnrouted(**_of(number, departement), reason=UnroutedReason.NO_COVERAGE, unrouted_at=NOON)


def alerted(number: int, kind: AlertKind = AlertKind.CONCERNING_INFORMATION, departement: str = "95") -> referrals.AlertRecorded:
    return referrals.AlertRecorded(
        **_of(number, departement), alert_id=an_id(22, number), post_id=POST, kind=kind, sent_at=NOON, recorded_at=NOON
    )


def alert_withdrawn(number: int, kind: AlertKind = AlertKind.CONCERNING_INFORMATION, *, last: bool = True) -> referrals.AlertWithdrawn:
    return referrals.AlertWithdrawn(**_of(number, "95"), alert_id=an_id(22, number), post_id=POST, kind=kind, last=last, withdrawn_at=NOON)


def accepted(number: int, departement: str = "95", post: UUID = POST) -> referrals.ReferralAccepted:
    return referrals.ReferralAccepted(**_of(number, departement), post_id=post, accepted_at=NOON)


def contacted(number: int, departement: str = "95", *, first: bool = True, minutes: int = 90) -> referrals.ContactAttempted:
    return referrals.ContactAttempted(
        **_of(number, departement),
        contact_id=an_id(19, number),
        person_id=an_id(17, number * 100 + 1),
        post_id=POST,
        mode=ContactMode.PHONE,
        result=ContactResult.REACHED,
        first=first,
        delay_minutes=minutes,
        attempted_at=NOON + timedelta(minutes=minutes),
    )


def overdue(number: int, departement: str = "95", *, minutes: int = 60) -> referrals.ReferralOverdue:
    return referrals.ReferralOverdue(
        **_of(number, departement),
        post_id=POST,
        urgency=Urgency.STANDARD,
        due_at=NOON + timedelta(minutes=minutes),
        noticed_at=NOON + timedelta(minutes=minutes, seconds=5),
    )


def contact_withdrawn(number: int, departement: str = "95", *, minutes: int | None = None) -> referrals.ContactWithdrawn:
    """`minutes`: of the first attempt of those that are left."""
    return referrals.ContactWithdrawn(
        **_of(number, departement),
        contact_id=an_id(19, number),
        post_id=POST,
        first_attempted_at=None if minutes is None else NOON + timedelta(minutes=minutes),
        delay_minutes=minutes,
        withdrawn_at=NOON,
    )


def interviewed(number: int, departement: str = "95") -> referrals.InterviewHeld:
    return referrals.InterviewHeld(
        **_of(number, departement),
        interview_id=an_id(20, number),
        person_ids=(an_id(17, number * 100 + 1), an_id(17, number * 100 + 2)),
        post_id=POST,
        place=InterviewPlace.STATION,
        duration_minutes=45,
        held_at=NOON,
    )


def assessed(number: int, departement: str = "95") -> referrals.AssessmentRecorded:
    return referrals.AssessmentRecorded(
        **_of(number, departement),
        assessment_id=an_id(21, number),
        person_id=an_id(17, number * 100 + 1),
        post_id=POST,
        needs=(Need.SHELTER,),
        known_to_services=KnownToServices.KNOWN,
        recorded_at=NOON,
    )


def assessment_withdrawn(number: int, known: KnownToServices) -> referrals.AssessmentWithdrawn:
    return referrals.AssessmentWithdrawn(
        **_of(number, "95"),
        assessment_id=an_id(21, number),
        person_id=an_id(17, number * 100 + 1),
        post_id=POST,
        known_to_services=known,
        withdrawn_at=NOON,
    )


def closed(number: int, departement: str = "95", reason: CloseReason = CloseReason.ORIENTED) -> referrals.ReferralClosed:
    return referrals.ReferralClosed(**_of(number, departement), post_id=POST, reason=reason, closed_at=NOON)


def reopened(number: int, departement: str = "95") -> referrals.ReferralReopened:
    return referrals.ReferralReopened(**_of(number, departement), post_id=POST, reopened_at=NOON)


def erased(number: int, departement: str = "95") -> referrals.ReferralErased:
    return referrals.ReferralErased(
        **_of(number, departement), person_ids=(an_id(17, number * 100 + 1), an_id(17, number * 100 + 2)), erased_at=NOON
    )


def _orientation(number: int, departement: str) -> dict[str, Any]:
    return _of(number, departement) | {
        "orientation_id": an_id(18, number),
        "post_id": POST,
        "service_id": SERVICE,
        "organization_id": EMPLOYER,
    }


def oriented(number: int, departement: str = "95") -> list[Event]:
    """An orientation: accepted and completed for even numbers, rejected for odd ones."""
    of = _orientation(number, departement)
    kind = PartnerKind.SHELTER
    requested = referrals.OrientationRequested(
        **of, partner_kind=kind, person_id=an_id(17, number * 100 + 1), need=Need.SHELTER, requested_at=NOON, expires_at=NOON
    )
    if number % 2:
        reason = OrientationRejection.NO_CAPACITY
        return [requested, referrals.OrientationRejected(**of, partner_kind=kind, reason=reason, delay_minutes=30, rejected_at=NOON)]
    return [
        requested,
        referrals.OrientationAccepted(**of, partner_kind=kind, delay_minutes=30, accepted_at=NOON),
        referrals.OrientationStarted(**of, started_at=NOON),
        referrals.OrientationCompleted(**of, outcome=OrientationOutcome.HOUSED, completed_at=NOON),
    ]


def post_opened(post: UUID = POST, departement: str = "95", *, filled: bool = True) -> partners.PostOpened:
    return partners.PostOpened(
        post_id=post,
        departement=departement,
        employer_id=EMPLOYER,
        force=PostForce.POLICE,
        full_time_percent=100,
        channels=(),
        units=(UNIT,),
        communes=(),
        filled=filled,
        opened_on=date(2026, 1, 1),
        opened_at=NOON,
    )


def post_vacant(post: UUID = POST, departement: str = "95") -> partners.PostVacant:
    return partners.PostVacant(post_id=post, departement=departement, employer_id=EMPLOYER, vacant_at=NOON)


def planned(
    number: int = 1, *, budget: int = 6_000_000, amounts: tuple[int, ...] = (3_000_000,), departement: str = "95"
) -> funding.PlanEvent:
    shares = tuple(
        funding.Share(funder_id=an_id(5, place), funder_kind=FunderKind.STATE_FIPD, firmness=Firmness.GRANTED, amount_cents=amount)
        for place, amount in enumerate(amounts, 1)
    )
    whole: dict[str, Any] = {
        "plan_id": an_id(32, number),
        "post_id": POST,
        "departement": departement,
        "year": 2026,
        "budget_cents": budget,
        "funded_cents": sum(amounts),
        "shares": shares,
        "changed_at": NOON,
    }
    gap = budget - sum(amounts)
    return funding.PlanGapped(**whole, gap_cents=gap) if gap > 0 else funding.PlanBalanced(**whole)


def a_life(number: int, departement: str, choice: int, *, within_days: int = 36_500) -> list[Event]:
    """One of several lives a referral may have: `choice` chooses."""
    at = NOON + timedelta(days=9 * number % within_days)
    start: list[Event] = [received(number, departement, at=at)]
    work: list[Event] = [assigned(number, departement), accepted(number, departement), contacted(number, departement, minutes=60 * choice)]
    lives: list[list[Event]] = [
        [],
        [unrouted(number, departement)],
        work,
        [
            *work,
            interviewed(number, departement),
            assessed(number, departement),
            *oriented(number, departement),
            closed(number, departement),
        ],
        [corrected(number, departement, at=at, principal_theme=Theme.HOUSING, persons=(person(number, 2), person(number, 3))), *work],
        [*work, closed(number, departement), reopened(number, departement), contacted(number, departement, first=False)],
        [*work, assessed(number, departement), closed(number, departement), erased(number, departement)],
        [corrected(number, departement, at=at, persons=()), erased(number, departement)],
        [overdue(number, departement), *work, closed(number, departement, CloseReason.DUPLICATE), corrected(number, departement, at=at)],
        [overdue(number, departement), closed(number, departement, CloseReason.DUPLICATE), reopened(number, departement)],
        [overdue(number, departement), *work, contact_withdrawn(number, departement), overdue(number, departement, minutes=60 * choice)],
    ]
    return start + lives[choice % len(lives)]


def heard(source: str, events: Iterable[Event], *, after: int = 0, epoch: int = 1) -> list[Heard[Event]]:
    """The events as heard of a source, numbered without a hole."""
    counter = Counter({source: after})
    told = []
    for event in events:
        counter[source] += 1
        told.append(
            Heard(
                event=event,
                source=source,
                epoch=epoch,
                sequence=counter[source],
                event_id=f"{source}-{epoch}-{counter[source]}",
                occurred_at=NOON,
                recorded_at=NOON,
                subject=f"{event.aggregate[0]}/{event.aggregate_id}",
                data=event.model_dump_json().encode(),
                correlation_id=None,
                traceparent=None,
            )
        )
    return told
