"""Who is told what: which audience sees which event types, which of their fields, and for which perimeter. As data, and the only place.

An audience is a perimeter (`internal`, `interior`, `justice`, `departement:95`, `organization:<id>`, `police:<id>`): nothing is filtered inside its
stream. Deny by default: **a field that is not listed does not leave**. Every type of every speaker is either granted or withheld with a
reason, for each audience; this module refuses to load otherwise.

An audience that may not fetch an object is told a keyed pseudonym of its id: the same one within the audience, another in another.
A pseudonym hides the id, not the fact: who holds what the police holds recognises a referral by its minute, and by what it is about. So
a ministry is told days (`by_day`), no commune, unit or post of a referral, not whether the person is known to services, no need, no reason of
closing, nothing that was corrected. Under the pseudonym by which a referral was received it is told no more than the police is; what follows
of which the police is told nothing (orientations, alerts, erasures) bears another one (`apart`), and cannot be tied to it by anything that is
written. The figures (`GET /v1/figures`) answer the other questions without single cases. docs/decisions/0004 says what this leaves open.

Offences (GDPR art. 10, LIL art. 46): no organization's stream ever holds a penal flag or a theme, whatever `offence_data_allowed` says.
The flag decides what an organization may *fetch* of its own orientation; an event is told before anybody could check it.
"""

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, get_args

from libs.contracts import funding as f
from libs.contracts import partners as p
from libs.contracts import referrals as r
from libs.contracts import reporting as s
from libs.contracts.envelope import Event, Part
from libs.contracts.registry import SPEAKERS
from libs.contracts.territories import DEPARTEMENTS
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import Role

Kind = Literal["internal", "interior", "justice", "departement", "organization", "police"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

INTERNAL: Final = "internal"


class Grant(NamedTuple):
    """What an audience sees of an event type: its fields, and for each field that holds parts, the fields of the part."""

    fields: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Audience:
    """One kind of audience."""

    kind: Kind
    label: str
    """In French."""
    readers: frozenset[Role]
    """Whose tokens may read it, each within its own perimeter (`streams_of`)."""
    perimeters: Mapping[type[Event], str]
    """The field whose value completes the stream's name (`departement:` + `departement`); empty for an audience that is one stream."""
    pseudonyms: frozenset[str]
    """Fields whose ids leave as pseudonyms only: what this audience may not fetch by its id."""
    grants: Mapping[type[Event], Grant]
    withheld: Mapping[type[Event], str]
    """The types it is not told, and why."""
    by_day: bool
    """Whether every instant leaves as the beginning of its day in Paris, those of the CloudEvent too."""
    apart: frozenset[type[Event]]
    """Types whose ids leave under other pseudonyms than those of the rest, so that the two cannot be tied."""
    only: Mapping[type[Event], str]
    """The field without which, empty or false, a fact is not told."""

    @property
    def is_one_stream(self) -> bool:
        return not self.perimeters


def part_of(event: type[Part], field: str) -> type[Part] | None:
    """The part that a field holds, alone or in a tuple; `None` for a scalar."""
    annotation = event.model_fields[field].annotation
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, Part):
            return candidate
    return None


_WORD = re.compile(r"(\w+)(?:\(([^)]*)\))?")


def grant(text: str) -> Grant:
    """Read a grant as the tables write it: field names, `parts(of their fields)` in brackets."""
    fields: list[str] = []
    parts: dict[str, tuple[str, ...]] = {}
    for name, inner in _WORD.findall(text):
        fields.append(name)
        if inner:
            parts[name] = tuple(inner.split())
    return Grant(tuple(fields), parts)


Rows = Mapping[type[Event], str]
"""Event type -> the fields granted, as `grant` reads them."""

# ------------------------------------------------------------------------------------------------------------------------
# Public facts of the territory, the same for whoever is told them

_ORGANIZATIONS: Rows = {
    p.OrganizationRegistered: "departement organization_id kind offence_data_allowed registered_at",
    p.OrganizationChanged: "departement organization_id kind offence_data_allowed changed_at",
    p.OrganizationClosed: "departement organization_id closed_at",
}
_SERVICES: Rows = {
    p.ServiceRegistered: "departement service_id organization_id kind needs communes sexes age_bands capacity registered_at",
    p.ServiceChanged: "departement service_id organization_id kind needs communes sexes age_bands capacity changed_at",
    p.ServiceClosed: "departement service_id organization_id closed_at",
    p.CapacityChanged: "departement service_id organization_id capacity changed_at",
}
_UNITS: Rows = {
    p.UnitRegistered: "departement unit_id force kind communes registered_at",
    p.UnitChanged: "departement unit_id force kind communes changed_at",
    p.UnitClosed: "departement unit_id closed_at",
}
_POSTS: Rows = {
    p.PostOpened: "departement post_id employer_id force full_time_percent channels units communes filled opened_on opened_at",
    p.PostFilled: "departement post_id employer_id filled_at",
    p.PostVacant: "departement post_id employer_id vacant_at",
    p.PostSuspended: "departement post_id employer_id suspended_at until_on replacement_post_id",
    p.PostClosed: "departement post_id employer_id closed_at",
    p.CoverageChanged: "departement post_id employer_id units communes changed_at",
}

# Who pays what (report 3.1): money of posts, no person

_SHARES = "shares(funder_id funder_kind firmness amount_cents)"
_CONTRIBUTION = "departement plan_id contribution_id post_id year funder_id funder_kind amount_cents"
_INSTALMENT = "departement agreement_id instalment_id post_id funder_id amount_cents due_on"
_REPORT = "departement agreement_id financial_report_id year due_on"
_FUNDING: Rows = {
    f.PlanBalanced: f"departement plan_id post_id year budget_cents funded_cents {_SHARES} changed_at",
    f.PlanGapped: f"departement plan_id post_id year budget_cents funded_cents gap_cents {_SHARES} changed_at",
    f.AgreementSigned: "departement agreement_id post_ids starts_on ends_on channels targets(urgency minutes) signed_at",
    f.AgreementExpiring: "departement agreement_id post_ids ends_on noticed_at",
    f.AgreementEnded: "departement agreement_id post_ids ended_on ended_at",
    f.ContributionRequested: f"{_CONTRIBUTION} requested_at",
    f.ContributionGranted: f"{_CONTRIBUTION} granted_at",
    f.ContributionRefused: f"{_CONTRIBUTION} refused_at",
    f.ContributionAgreed: f"{_CONTRIBUTION} agreed_at",
    f.InstalmentDue: f"{_INSTALMENT} noticed_at",
    f.InstalmentPaid: f"{_INSTALMENT} paid_cents paid_on",
    f.InstalmentOverdue: f"{_INSTALMENT} noticed_at",
    f.FinancialReportDue: f"{_REPORT} noticed_at",
    f.FinancialReportSubmitted: f"{_REPORT} submitted_at",
    f.FinancialReportOverdue: f"{_REPORT} noticed_at",
    f.PostAtRisk: "departement post_id year reason from_on noticed_at",
}

_RELEASE: Rows = {s.ReleasePublished: "release_id from_on until_on published_at"}
_ACTIVITY_REPORT: Rows = {s.ActivityReportIssued: "activity_report_id departement post_id from_on until_on issued_at"}

# ------------------------------------------------------------------------------------------------------------------------
# Facts of a referral: each audience its own share

_RECEIVED_IN_NUMBERS = "channel urgency principal_theme themes penal danger children_present received_at persons(role sex age_band)"

_INTERIOR: Rows = {
    r.ReferralReceived: f"referral_id departement force {_RECEIVED_IN_NUMBERS}",
    r.ReferralAssigned: "referral_id departement reason assigned_at",
    r.ReferralUnrouted: "referral_id departement reason unrouted_at",
    r.ReferralAccepted: "referral_id departement accepted_at",
    r.ReferralClosed: "referral_id departement closed_at",
    r.ReferralReopened: "referral_id departement reopened_at",
    r.ReferralErased: "referral_id departement whole erased_at",
    r.ReferralOverdue: "referral_id departement urgency due_at noticed_at",
    r.ContactAttempted: "referral_id departement delay_minutes attempted_at",
    r.ContactWithdrawn: "referral_id departement withdrawn_at",
    r.OrientationRequested: "referral_id departement orientation_id requested_at",
    r.OrientationAccepted: "referral_id departement orientation_id delay_minutes accepted_at",
    r.OrientationRejected: "referral_id departement orientation_id reason delay_minutes rejected_at",
    r.OrientationStarted: "referral_id departement orientation_id started_at",
    r.OrientationCompleted: "referral_id departement orientation_id completed_at",
    r.OrientationFailed: "referral_id departement orientation_id failed_at",
    r.OrientationExpired: "referral_id departement orientation_id expired_at",
    r.OrientationCancelled: "referral_id departement orientation_id cancelled_at",
}

_JUSTICE: Rows = {
    r.ReferralReceived: f"referral_id departement {_RECEIVED_IN_NUMBERS}",
    r.ReferralAccepted: "referral_id departement accepted_at",
    r.ReferralClosed: "referral_id departement closed_at",
    r.ReferralReopened: "referral_id departement reopened_at",
    r.ReferralErased: "referral_id departement whole erased_at",
    r.ContactAttempted: "referral_id departement delay_minutes attempted_at",
    r.ContactWithdrawn: "referral_id departement withdrawn_at",
    r.AlertRecorded: "referral_id departement kind sent_at",
    r.AlertWithdrawn: "referral_id departement kind last withdrawn_at",
    r.OrientationRequested: "referral_id departement orientation_id partner_kind requested_at",
    r.OrientationAccepted: "referral_id departement orientation_id partner_kind delay_minutes accepted_at",
    r.OrientationRejected: "referral_id departement orientation_id partner_kind reason delay_minutes rejected_at",
    r.OrientationStarted: "referral_id departement orientation_id started_at",
    r.OrientationCompleted: "referral_id departement orientation_id outcome completed_at",
    r.OrientationFailed: "referral_id departement orientation_id failed_at",
    r.OrientationExpired: "referral_id departement orientation_id expired_at",
    r.OrientationCancelled: "referral_id departement orientation_id cancelled_at",
}

_RECEIVED_IN_A_DEPARTEMENT = (
    "referral_id departement commune unit_id force channel urgency principal_theme themes danger children_present received_at"
)
_ORIENTED = "referral_id departement orientation_id post_id service_id organization_id"

_DEPARTEMENT: Rows = {
    r.ReferralReceived: _RECEIVED_IN_A_DEPARTEMENT,
    r.ReferralCorrected: f"{_RECEIVED_IN_A_DEPARTEMENT} contact_attempted first_attempted_at delay_minutes corrected_at",
    r.ReferralAssigned: "referral_id departement post_id reason assigned_at",
    r.ReferralUnrouted: "referral_id departement reason unrouted_at",
    r.ReferralAccepted: "referral_id departement post_id accepted_at",
    r.ReferralClosed: "referral_id departement post_id reason closed_at",
    r.ReferralReopened: "referral_id departement post_id reopened_at",
    r.ReferralErased: "referral_id departement whole erased_at",
    r.ReferralOverdue: "referral_id departement post_id urgency due_at noticed_at",
    r.ContactAttempted: "referral_id departement contact_id post_id first delay_minutes attempted_at",
    r.ContactWithdrawn: "referral_id departement contact_id post_id first_attempted_at delay_minutes withdrawn_at",
    r.AlertRecorded: "referral_id departement alert_id post_id kind sent_at",
    r.AlertWithdrawn: "referral_id departement alert_id post_id kind last withdrawn_at",
    r.OrientationRequested: f"{_ORIENTED} partner_kind requested_at expires_at",
    r.OrientationAccepted: f"{_ORIENTED} partner_kind delay_minutes accepted_at",
    r.OrientationRejected: f"{_ORIENTED} partner_kind reason delay_minutes rejected_at",
    r.OrientationStarted: f"{_ORIENTED} started_at",
    r.OrientationCompleted: f"{_ORIENTED} completed_at",
    r.OrientationFailed: f"{_ORIENTED} failed_at",
    r.OrientationExpired: f"{_ORIENTED} expired_at",
    r.OrientationCancelled: f"{_ORIENTED} cancelled_at",
}

_ORGANIZATION: Rows = {
    r.ReferralErased: "referral_id departement whole erased_at",
    r.OrientationRequested: f"{_ORIENTED} partner_kind person_id need urgency danger requested_at expires_at",
    r.OrientationAccepted: f"{_ORIENTED} partner_kind delay_minutes accepted_at",
    r.OrientationRejected: f"{_ORIENTED} partner_kind reason delay_minutes rejected_at",
    r.OrientationStarted: f"{_ORIENTED} started_at",
    r.OrientationCompleted: f"{_ORIENTED} outcome completed_at",
    r.OrientationFailed: f"{_ORIENTED} reason failed_at",
    r.OrientationExpired: f"{_ORIENTED} expired_at",
    r.OrientationCancelled: f"{_ORIENTED} reason cancelled_at",
    r.OrientationUpdated: f"{_ORIENTED} changed updated_at",
}

_POLICE: Rows = {
    r.ReferralReceived: "referral_id departement received_at",
    r.ReferralAssigned: "referral_id departement assigned_at",
    r.ReferralUnrouted: "referral_id departement unrouted_at",
    r.ReferralAccepted: "referral_id departement accepted_at",
    r.ContactAttempted: "referral_id departement attempted_at",
    r.ContactWithdrawn: "referral_id departement withdrawn_at",
    r.ReferralClosed: "referral_id departement closed_at",
    r.ReferralReopened: "referral_id departement reopened_at",
}
"""How far its own referral is (report 1.2.5). The speaker names the police system on the first contact in which somebody
was reached, and when the last of these is withdrawn, for its referral is accepted then and no longer contacted: how often, how and with what result is nobody's
business, nor, once it is contacted, which post has it. Nor an erasure: it would tell that the person asked for it or refused; the police gave the data and was told
nothing of a person since, so that there is nothing it would have to erase on our word (GDPR art. 19 speaks of recipients). Of an open referral it is told
the closing, like of any other."""

# ------------------------------------------------------------------------------------------------------------------------

PERSONAL: Final = frozenset(
    {"referral_id", "person_id", "person_ids", "orientation_id", "replaces_id", "contact_id", "interview_id", "assessment_id", "alert_id"}
)
"""Ids that stand for a person or a situation."""

_TALKS: Final = (r.InterviewHeld, r.InterviewWithdrawn, r.AssessmentRecorded, r.AssessmentWithdrawn)
_SOCIAL_WORK = "what was said between the person and the social worker: professional secrecy, counted in figures only"
_LEARNT = "what the social worker learnt of a referral that the police knows: figures count it as corrected"
_NOT_THE_HOSTS = "who holds the police's clock could tell of which referral a child was reported: counted in figures"
_TO_READ_AGAIN = "that something is to be read again is told to who reads it: the partner alone"
_NOT_OF_A_POST = "a département's own work; the nation's figures count it"
_DIRECTORY = "100,000 services: read in the open directory, not followed here"
_NAMES_NO_ORGANIZATION = "names no organization"
_NOT_THEIRS = "not about this organization"
_MONEY = "who pays for a post is the Interior's, the département's and the funders' business"
_STEERING = "steering of posts and units is the Interior's and the département's"
_BEHIND_THE_DOOR = "what happens after a referral was handed over: professional secrecy; the police learns how far it is, no more"
_NOT_TO_THE_POLICE = "would tell that a person refused, asked for erasure, or was known"
_NOT_A_REFERRAL = "not about a referral of this system"
_NATIONAL = "national, not of one département: the figures are open to it by the API"


_ALL: Final[tuple[type[Event], ...]] = tuple(event for events in SPEAKERS.values() for event in events)


def _whole(event: type[Event]) -> Grant:
    """Everything: what the services say to each other."""
    parts = {name: part_of(event, name) for name in event.model_fields}
    return Grant(tuple(event.model_fields), {name: tuple(part.model_fields) for name, part in parts.items() if part is not None})


def _withhold(reason: str, *types: type[Event]) -> dict[type[Event], str]:
    return dict.fromkeys(types, reason)


def _audience(
    kind: Kind,
    label: str,
    readers: set[Role],
    *rows: Rows,
    perimeter: Callable[[type[Event]], str] | None = None,
    pseudonyms: Set[str] = frozenset(),
    withheld: Mapping[type[Event], str],
    by_day: bool = False,
    apart: Set[type[Event]] = frozenset(),
    only: Mapping[type[Event], str] | None = None,
) -> Audience:
    grants = {event: grant(text) for table in rows for event, text in table.items()}
    return Audience(
        kind,
        label,
        frozenset(readers),
        perimeters={} if perimeter is None else {event: perimeter(event) for event in grants},
        pseudonyms=frozenset(pseudonyms),
        grants=grants,
        withheld=withheld,
        by_day=by_day,
        apart=frozenset(apart),
        only=only or {},
    )


_TELLING: Final = (r.ReferralErased, r.ReferralCorrected)
"""What would give away, by the fact alone, what the person decided or the social worker learnt."""

_BEHIND_IT: Final = frozenset(event for event in r.EVENTS if event not in _POLICE and event is not r.ReferralOverdue)
"""What the police is told nothing of; that a delay passed it sees by itself."""

_AS_THE_POLICE: Final[Mapping[type[Event], str]] = {r.ContactAttempted: "police_id", r.ContactWithdrawn: "police_id"}
"""Of its contacts the first in which somebody was reached, and that none of these is left: what the police is told."""


def _concerned(event: type[Event]) -> str:
    """The field that names the organization a fact concerns: of a post its employer."""
    return next(field for field in ("organization_id", "employer_id", "organization_ids") if field in event.model_fields)


AUDIENCES: Final[Mapping[Kind, Audience]] = {
    audience.kind: audience
    for audience in (
        Audience(
            INTERNAL,
            "Services de Maillon",
            frozenset({Role.SERVICE}),
            perimeters={},
            pseudonyms=frozenset(),
            grants={event: _whole(event) for event in _ALL},
            withheld={},
            by_day=False,
            apart=frozenset(),
            only={},
        ),
        _audience(
            "interior",
            "Ministère de l'Intérieur",
            {Role.MINISTRY},
            _INTERIOR,
            _ORGANIZATIONS,
            _UNITS,
            _POSTS,
            _FUNDING,
            _RELEASE,
            _ACTIVITY_REPORT,
            pseudonyms=PERSONAL,
            by_day=True,
            apart=_BEHIND_IT,
            only=_AS_THE_POLICE,
            withheld=_withhold(_SOCIAL_WORK, *_TALKS)
            | _withhold(_TO_READ_AGAIN, r.OrientationUpdated)
            | _withhold(_LEARNT, r.ReferralCorrected)
            | _withhold(_NOT_THE_HOSTS, r.AlertRecorded, r.AlertWithdrawn)
            | _withhold(_DIRECTORY, *_SERVICES),
        ),
        _audience(
            "justice",
            "Ministère de la Justice",
            {Role.MINISTRY},
            _JUSTICE,
            _POSTS,
            _RELEASE,
            pseudonyms=PERSONAL,
            by_day=True,
            apart=_BEHIND_IT,
            only=_AS_THE_POLICE,
            withheld=_withhold(_SOCIAL_WORK, *_TALKS)
            | _withhold(_TO_READ_AGAIN, r.OrientationUpdated)
            | _withhold(_LEARNT, r.ReferralCorrected)
            | _withhold(_STEERING, r.ReferralAssigned, r.ReferralUnrouted, r.ReferralOverdue, *_UNITS)
            | _withhold(_DIRECTORY, *_ORGANIZATIONS, *_SERVICES)
            | _withhold(_MONEY, *_FUNDING)
            | _withhold(_NOT_OF_A_POST, *_ACTIVITY_REPORT),
        ),
        _audience(
            "departement",
            "Coordination départementale",
            {Role.COORDINATOR},
            _DEPARTEMENT,
            _ORGANIZATIONS,
            _SERVICES,
            _UNITS,
            _POSTS,
            _FUNDING,
            _ACTIVITY_REPORT,
            perimeter=lambda event: "departement",
            withheld=_withhold(_SOCIAL_WORK, *_TALKS) | _withhold(_TO_READ_AGAIN, r.OrientationUpdated) | _withhold(_NATIONAL, *_RELEASE),
        ),
        _audience(
            "organization",
            "Structure partenaire ou employeur",
            {Role.PARTNER, Role.EMPLOYER},
            _ORGANIZATION,
            _ORGANIZATIONS,
            _SERVICES,
            _POSTS,
            perimeter=_concerned,
            pseudonyms=PERSONAL - {"orientation_id"},
            withheld=_withhold(_SOCIAL_WORK, *_TALKS)
            | _withhold(
                _NOT_THEIRS,
                r.ReferralReceived,
                r.ReferralCorrected,
                r.ReferralAssigned,
                r.ReferralUnrouted,
                r.ReferralAccepted,
                r.ReferralClosed,
                r.ReferralReopened,
                r.ReferralOverdue,
                r.ContactAttempted,
                r.ContactWithdrawn,
                r.AlertRecorded,
                r.AlertWithdrawn,
                *_UNITS,
            )
            | _withhold(_NAMES_NO_ORGANIZATION, *_FUNDING, *_RELEASE, *_ACTIVITY_REPORT),
        ),
        _audience(
            "police",
            "Système de police ou de gendarmerie",
            {Role.POLICE},
            _POLICE,
            perimeter=lambda event: "police_id",
            pseudonyms=PERSONAL - {"referral_id"},
            withheld=_withhold(_NOT_TO_THE_POLICE, *_TELLING)
            | _withhold(_BEHIND_THE_DOOR, *(event for event in r.EVENTS if event not in _POLICE and event not in _TELLING))
            | _withhold(_NOT_A_REFERRAL, *(event for event in _ALL if event not in r.EVENTS)),
        ),
    )
}


def check(audience: Audience) -> None:
    """A table that names a field that does not exist, forgets a type or lets a part leave whole is refused when the program starts."""
    for event in _ALL:
        if (event in audience.grants) == (event in audience.withheld):
            raise TypeError(f"{audience.kind}: {event.type} is to be either granted or withheld")
    for event, (fields, parts) in audience.grants.items():
        for name in fields:
            part = part_of(event, name) if name in event.model_fields else None
            if name not in event.model_fields or (part is not None) != (name in parts):
                raise TypeError(
                    f"{audience.kind}: {event.type} has no such field as {name}, or it holds parts whose fields are to be listed"
                )
            if part is not None and not set(parts[name]) <= set(part.model_fields):
                raise TypeError(f"{audience.kind}: {event.type}: {name} has no such fields")
        needed = {
            event.aggregate[1],
            *(name for name, field in event.model_fields.items() if field.is_required() and name == "departement"),
        }
        if not needed <= set(fields):
            raise TypeError(f"{audience.kind}: {event.type} is not told without {needed}")
        if audience.perimeters and audience.perimeters[event] not in event.model_fields:
            raise TypeError(f"{audience.kind}: {event.type} has no field {audience.perimeters[event]}")


for _each in AUDIENCES.values():
    check(_each)


# ------------------------------------------------------------------------------------------------------------------------
# Readers


def streams_of(role: str, perimeter: Set[str], organization: str | None, client_id: str) -> list[str]:
    """Which streams a caller may read, of any service: the `role`, `perimeter`, `organization` and `client_id` of its token. Sorted; empty when none.

    A ministry reads its own stream, a coordinator its département's, a partner and an employer their organization's, a police system that of
    its own client, a service `internal`. ISCG and funders work through the API; administrators and auditors operate the network and control
    access, which needs no case.
    """
    streams: set[str] = set()
    for audience in AUDIENCES.values():
        if role not in audience.readers:
            continue
        if audience.kind == INTERNAL:
            streams.add(INTERNAL)
        elif audience.kind == "organization":
            streams |= {f"organization:{organization}"} if organization else set()
        elif audience.kind == "police":
            streams.add(f"police:{police_id_of(client_id)}")
        elif audience.is_one_stream:
            streams |= {audience.kind} & set(perimeter)
        else:
            streams |= {text for text in perimeter if text.startswith(f"{audience.kind}:")}
    return sorted(streams)


def kind_of(stream: str) -> Kind:
    """The kind of audience a stream is for: `departement:95` -> `departement`. Raises KeyError for a stream that is no audience's."""
    return AUDIENCES[stream.partition(":")[0]].kind  # type: ignore[index]  # the KeyError is the promise


def is_stream(stream: str) -> bool:
    """Whether it is some audience's: `interior`, `departement:95`. Of an organization or a police system any id will do."""
    kind, _, perimeter = stream.partition(":")
    if kind not in AUDIENCES:
        return False
    if AUDIENCES[kind].is_one_stream:  # type: ignore[index]  # it is a kind
        return stream == kind
    return perimeter in DEPARTEMENTS if kind == "departement" else bool(perimeter)
