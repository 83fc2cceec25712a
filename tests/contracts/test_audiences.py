"""Who is told what: named situations, then properties over every event there is."""

import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from libs.chassis.outbox import Speaker, write
from libs.contracts import demonstration, partners, referrals
from libs.contracts.audiences import AUDIENCES, INTERNAL, KINDS, PERSONAL, Kind, check, grant, kind_of, part_of, streams_of
from libs.contracts.envelope import Event, Projection
from libs.contracts.projecting import project
from libs.contracts.pseudonyms import PseudonymKeys, pseudonym
from libs.contracts.registry import EVENTS, SPEAKERS
from libs.contracts.samples import sample
from libs.contracts.types import PARIS, day_of
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import Role
from tests.contracts.making import events

KEYS = PseudonymKeys(b"a fictitious master key, 32 bytes")
EVENT_ID = UUID("00000000-0000-7000-8000-000000000001")

ASSOCIATION = f"organization:{demonstration.ASSOCIATION}"
EMPLOYER = f"organization:{demonstration.EMPLOYER}"

OFFENCE = {"penal", "principal_theme", "themes"}
"""What tells an offence (GDPR art. 10)."""
WHERE = {"commune", "unit_id", "post_id", "service_id", "organization_id"}
"""What tells where a referral happened, finer than the département, or to whom a person went."""
SOCIAL = {"agreement", "known_to_services", "need", "needs", "result", "place", "duration_minutes"}
"""What the social worker learnt."""


def told(event: Event, keys: PseudonymKeys = KEYS) -> dict[str, Projection]:
    return {each.audience: each for each in project(event, EVENT_ID, keys)}


def data(event: Event, audience: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told(event)[audience].data)
    return found


# Named situations: who hears of it

HEARD_BY = {
    "fr.maillon.referral.received.v1": {"interior", "justice", "departement:95"},
    "fr.maillon.referral.assigned.v1": {"interior", "departement:95"},
    "fr.maillon.referral.unrouted.v1": {"interior", "departement:95"},
    "fr.maillon.referral.corrected.v1": {"departement:95"},
    "fr.maillon.referral.closed.v1": {"interior", "justice", "departement:95"},
    "fr.maillon.referral.erased.v1": {"interior", "justice", "departement:95", ASSOCIATION},
    "fr.maillon.referral.overdue.v1": {"interior", "departement:95"},
    "fr.maillon.contact.attempted.v1": {"departement:95"},
    "fr.maillon.contact.withdrawn.v1": {"departement:95"},
    "fr.maillon.interview.held.v1": set(),
    "fr.maillon.interview.withdrawn.v1": set(),
    "fr.maillon.assessment.recorded.v1": set(),
    "fr.maillon.assessment.withdrawn.v1": set(),
    "fr.maillon.alert.recorded.v1": {"justice", "departement:95"},
    "fr.maillon.alert.withdrawn.v1": {"justice", "departement:95"},
    "fr.maillon.orientation.requested.v1": {"interior", "justice", "departement:95", ASSOCIATION},
    "fr.maillon.orientation.completed.v1": {"interior", "justice", "departement:95", ASSOCIATION},
    "fr.maillon.orientation.updated.v1": {ASSOCIATION},
    "fr.maillon.organization.registered.v1": {"interior", "departement:95", ASSOCIATION},
    "fr.maillon.service.registered.v1": {"departement:95", ASSOCIATION},
    "fr.maillon.capacity.changed.v1": {"departement:95", ASSOCIATION},
    "fr.maillon.unit.registered.v1": {"interior", "departement:95"},
    "fr.maillon.post.opened.v1": {"interior", "justice", "departement:95", EMPLOYER},
    "fr.maillon.post.vacant.v1": {"interior", "justice", "departement:95", EMPLOYER},
    "fr.maillon.coverage.changed.v1": {"interior", "justice", "departement:95", EMPLOYER},
    "fr.maillon.plan.gapped.v1": {"interior", "departement:95"},
    "fr.maillon.instalment.overdue.v1": {"interior", "departement:95"},
    "fr.maillon.release.published.v1": {"interior", "justice"},
    "fr.maillon.activity_report.issued.v1": {"interior", "departement:95"},
}


@pytest.mark.parametrize("type", HEARD_BY)
def test_a_fact_is_told_to_the_services_and_to_whom_the_table_names(type: str) -> None:
    assert set(told(sample(type))) == HEARD_BY[type] | {INTERNAL}


def test_the_interior_learns_of_a_referral_without_place_or_person() -> None:
    event = sample("fr.maillon.referral.received.v1")

    seen = data(event, "interior")

    assert set(seen) == {
        *("referral_id", "departement", "force", "channel", "urgency", "principal_theme", "themes", "penal", "danger"),
        *("children_present", "received_at", "persons"),
    }
    assert seen["persons"][0] == {"role": "victim", "sex": "female", "age_band": "25-39"}
    assert seen["referral_id"] != str(demonstration.REFERRAL)
    assert told(event)["interior"].subject == f"referrals/{seen['referral_id']}"


def test_a_coordinator_may_fetch_the_referrals_of_the_departement_and_is_told_their_ids() -> None:
    event = sample("fr.maillon.referral.received.v1")

    assert data(event, "departement:95")["referral_id"] == str(demonstration.REFERRAL)
    assert told(event)["departement:95"].subject == f"referrals/{demonstration.REFERRAL}"
    assert "penal" not in data(event, "departement:95")
    assert "persons" not in data(event, "departement:95")


def test_a_partner_may_fetch_its_orientation_but_neither_the_referral_nor_the_person() -> None:
    event = sample("fr.maillon.orientation.requested.v1")

    seen = data(event, ASSOCIATION)

    assert seen["orientation_id"] == str(demonstration.ORIENTATION)
    assert seen["referral_id"] not in {str(demonstration.REFERRAL), *_pseudonyms_elsewhere(demonstration.REFERRAL, ASSOCIATION)}
    assert seen["person_id"] not in {str(demonstration.VICTIM), *_pseudonyms_elsewhere(demonstration.VICTIM, ASSOCIATION)}
    assert told(event)[ASSOCIATION].subject == f"referrals/{seen['referral_id']}"


def _pseudonyms_elsewhere(value: UUID, but: str) -> set[str]:
    return {pseudonym(KEYS.of(stream), str(value)) for stream in ("interior", "justice", "departement:95", EMPLOYER) if stream != but}


def test_an_erasure_is_told_to_each_organization_that_was_asked_once_and_under_the_pseudonym_it_knows() -> None:
    requested = sample("fr.maillon.orientation.requested.v1")
    erased = referrals.ReferralErased.model_validate(
        sample("fr.maillon.referral.erased.v1").model_dump()
        | {"organization_ids": (demonstration.ASSOCIATION, demonstration.SHELTER, demonstration.ASSOCIATION)}
    )

    heard = [each.audience for each in project(erased, EVENT_ID, KEYS) if each.audience.startswith("organization:")]

    assert heard == [ASSOCIATION, f"organization:{demonstration.SHELTER}"]
    assert data(erased, ASSOCIATION)["referral_id"] == data(requested, ASSOCIATION)["referral_id"]
    assert not {"person_ids", "organization_ids"} & set(data(erased, ASSOCIATION))


def test_an_event_that_no_speaker_says_is_not_told() -> None:
    class Stranger(referrals.ReferralAccepted):
        pass

    event = Stranger.model_validate(sample("fr.maillon.referral.accepted.v1").model_dump())

    with pytest.raises(LookupError):
        project(event, EVENT_ID, KEYS)


# Who may read which stream

CLIENTS = {
    "police-95": [f"police:{police_id_of('police-95')}"],
    "iscg-95": [],
    "coordinator-95": ["departement:95"],
    "coordinator-78": ["departement:78"],
    "partner-95": [ASSOCIATION],
    "partner-78": [f"organization:{demonstration.ASSOCIATION_78}"],
    "employer-95": [EMPLOYER],
    "funder-95": [],
    "interior": ["interior"],
    "justice": ["justice"],
    "administrator": [],
    "auditor": [],
    "referrals": ["internal"],
    "reporting": ["internal"],
}


@pytest.mark.parametrize("client_id", CLIENTS)
def test_a_demonstration_client_reads_its_own_streams_only(client_id: str) -> None:
    client = demonstration.CLIENTS[client_id]

    assert (
        streams_of(client.role, client.perimeter, str(client.organization) if client.organization else None, client_id)
        == CLIENTS[client_id]
    )


@pytest.mark.parametrize(
    ("role", "perimeter", "organization"),
    [
        ("iscg", {"departement:95", "interior", "internal", f"police:{police_id_of('police-95')}"}, None),
        ("ministry", {"departement:95", "national", "internal"}, None),
        ("coordinator", {"national", "interior", "internal", f"organization:{demonstration.ASSOCIATION}"}, str(demonstration.ASSOCIATION)),
        ("partner", {"departement:95", "interior"}, None),
        ("partner", {f"organization:{demonstration.EMPLOYER}"}, None),
        ("administrator", {"national", "internal", "interior"}, str(demonstration.ASSOCIATION)),
        ("unheard-of", {"national", "internal"}, None),
    ],
)
def test_a_token_opens_no_stream_beyond_its_role(role: str, perimeter: set[str], organization: str | None) -> None:
    assert streams_of(role, perimeter, organization, "police-95") == []


def test_a_coordinator_of_two_departements_reads_both() -> None:
    assert streams_of("coordinator", {"departement:95", "departement:2A"}, None, "anybody") == ["departement:2A", "departement:95"]


def test_a_police_system_reads_the_stream_of_its_own_client_whatever_its_token_claims() -> None:
    claimed = {"departement:95", "interior", "internal", f"police:{police_id_of('police-78')}"}

    assert streams_of("police", claimed, str(demonstration.ASSOCIATION), "police-95") == [f"police:{police_id_of('police-95')}"]


def test_every_audience_has_readers_and_the_police_reads_its_own_alone() -> None:
    assert all(audience.readers for audience in AUDIENCES.values())
    assert [kind for kind, audience in AUDIENCES.items() if Role.POLICE in audience.readers] == ["police"]
    assert AUDIENCES["police"].readers == {Role.POLICE}
    assert Role.ISCG not in frozenset().union(*(audience.readers for audience in AUDIENCES.values()))


def test_the_police_is_told_how_far_its_referral_is_and_nothing_else() -> None:
    told_of = {event.type.split(".", 2)[2]: grants.fields for event, grants in AUDIENCES["police"].grants.items()}

    assert told_of == {
        "referral.received.v1": ("referral_id", "departement", "received_at"),
        "referral.assigned.v1": ("referral_id", "departement", "assigned_at"),
        "referral.unrouted.v1": ("referral_id", "departement", "unrouted_at"),
        "referral.accepted.v1": ("referral_id", "departement", "accepted_at"),
        "contact.attempted.v1": ("referral_id", "departement", "attempted_at"),
        "contact.withdrawn.v1": ("referral_id", "departement", "withdrawn_at"),
        "referral.closed.v1": ("referral_id", "departement", "closed_at"),
        "referral.reopened.v1": ("referral_id", "departement", "reopened_at"),
    }


def test_a_fact_that_names_no_police_system_is_told_to_none() -> None:
    attempt = referrals.ContactAttempted.model_validate(sample("fr.maillon.contact.attempted.v1").model_dump())
    named = attempt.model_copy(update={"police_id": police_id_of("police-95")})

    assert not any(audience.startswith("police:") for audience in told(attempt))
    assert data(named, f"police:{police_id_of('police-95')}")["referral_id"] == str(demonstration.REFERRAL)
    assert not any("police_id" in json.loads(each.data) for each in told(named).values() if each.audience != INTERNAL)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != INTERNAL])
def test_that_a_person_was_known_is_told_to_the_services_only(kind: Kind) -> None:
    assert [event.type for event, fields in _granted(kind) if "returning" in fields] == []


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != INTERNAL])
def test_whose_referral_it_is_is_told_to_the_services_only(kind: Kind) -> None:
    assert [event.type for event, fields in _granted(kind) if "police_id" in fields] == []


def test_the_kind_of_a_stream_is_what_stands_before_the_colon() -> None:
    assert [kind_of(stream) for stream in (INTERNAL, "justice", "departement:2A", ASSOCIATION)] == [
        "internal",
        "justice",
        "departement",
        "organization",
    ]
    with pytest.raises(KeyError):
        kind_of("audit")


# Completeness of the tables


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_every_speaker_is_granted_or_withheld_with_a_reason(kind: Kind) -> None:
    audience = AUDIENCES[kind]

    assert set(audience.grants) | set(audience.withheld) == set(EVENTS.values())
    assert not set(audience.grants) & set(audience.withheld)
    assert all(len(reason) > 10 for reason in audience.withheld.values())


def test_the_services_tell_each_other_everything() -> None:
    assert not AUDIENCES[INTERNAL].withheld
    assert all(grants.fields == tuple(event.model_fields) for event, grants in AUDIENCES[INTERNAL].grants.items())


def test_an_organization_hears_of_every_fact_that_names_it() -> None:
    naming = {event for event in EVENTS.values() if {"organization_id", "employer_id", "organization_ids"} & set(event.model_fields)}

    assert set(AUDIENCES["organization"].grants) == naming
    assert {event for event in referrals.EVENTS if issubclass(event, referrals.OrientationEvent)} <= naming
    assert {event for event in partners.EVENTS if issubclass(event, partners.PostEvent)} <= naming


def _granted(kind: Kind, *, of: str | None = None) -> Iterator[tuple[type[Event], set[str]]]:
    for event, granted in AUDIENCES[kind].grants.items():
        if of is None or event in SPEAKERS[of]:
            yield event, set(granted.fields).union(*granted.parts.values())


def test_no_organization_is_told_an_offence() -> None:
    assert [event.type for event, fields in _granted("organization") if fields & OFFENCE] == []


@pytest.mark.parametrize("kind", ["interior", "justice"])
def test_a_ministry_is_told_no_place_of_a_referral_and_nothing_the_social_worker_learnt(kind: Kind) -> None:
    assert [event.type for event, fields in _granted(kind, of="referrals") if fields & (WHERE | SOCIAL)] == []


def test_the_interior_is_not_told_what_kind_of_partner_a_person_went_to_nor_why_it_ended() -> None:
    ended = (referrals.ReferralClosed, referrals.OrientationFailed, referrals.OrientationCompleted)

    assert [event.type for event, fields in _granted("interior", of="referrals") if "partner_kind" in fields] == []
    assert not any({"reason", "outcome"} & set(AUDIENCES["interior"].grants[event].fields) for event in ended)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != INTERNAL])
def test_what_was_said_to_the_social_worker_is_told_to_nobody_but_the_services(kind: Kind) -> None:
    assert {referrals.InterviewHeld, referrals.AssessmentRecorded} <= set(AUDIENCES[kind].withheld)


@pytest.mark.parametrize("kind", ["interior", "justice"])
def test_a_ministry_fetches_nothing_of_a_situation(kind: Kind) -> None:
    assert AUDIENCES[kind].pseudonyms == PERSONAL


INSTANT = re.compile(r"\d{4}-\d\d-\d\dT[^\"]*")


@given(events(*EVENTS.values()), st.integers(0, 4 * 10**9).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
@settings(max_examples=300, deadline=None)
def test_a_ministry_is_told_the_days_of_facts_and_never_their_hours(event: Event, occurred_at: datetime) -> None:
    """The police holds the same fact's microsecond, on its receipt and in its stream: by it each referral could be told."""
    for row in write(Speaker("referrals", partial(project, keys=KEYS)), event, occurred_at):
        instants = INSTANT.findall(row.data.decode()) + INSTANT.findall(row.attributes.decode())
        hours = [text for text in instants if datetime.fromisoformat(text).astimezone(PARIS).time() != time()]
        assert (row.stream in ("interior", "justice")) <= (hours == []), (row.stream, hours)
        assert len(INSTANT.findall(row.attributes.decode())) == 2


def test_a_day_is_the_one_it_was_in_paris_of_summer_and_of_winter() -> None:
    received = sample("fr.maillon.referral.received.v1").model_copy(update={"received_at": datetime(2026, 7, 14, 22, 30, 0, 1, UTC)})
    in_winter = received.model_copy(update={"received_at": datetime(2026, 12, 31, 22, 59, 59, 999_999, UTC)})

    assert data(received, "interior")["received_at"] == "2026-07-15T00:00:00+02:00"
    assert data(in_winter, "justice")["received_at"] == "2026-12-31T00:00:00+01:00"
    assert data(received, "departement:95")["received_at"] == "2026-07-14T22:30:00.000001Z"
    assert day_of("2026-10-25T12:00:00Z") == "2026-10-25T00:00:00+02:00"  # it ends an hour later than it began


def _names(event: type[Event]) -> set[str]:
    """A type's field names, those of its parts included."""
    parts = [part for field in event.model_fields if (part := part_of(event, field))]
    return set(event.model_fields).union(*(part.model_fields for part in parts))


def test_every_id_of_a_person_or_situation_is_known_as_personal() -> None:
    """A new event with `victim_id` must be argued here: it would leave as it is."""
    other = {
        *(
            "organization_id",
            "organization_ids",
            "service_id",
            "unit_id",
            "units",
            "post_id",
            "post_ids",
            "replacement_post_id",
            "employer_id",
            "funder_id",
            "plan_id",
            "police_id",
        ),
        *("agreement_id", "contribution_id", "instalment_id", "financial_report_id", "release_id", "activity_report_id"),
    }
    names = {name for event in EVENTS.values() for name in _names(event)}
    ids = {name for name in names if name.endswith(("_id", "_ids")) or name == "units"}

    assert ids <= other | PERSONAL
    assert not other & PERSONAL


# The tables refuse to load when they are wrong: planted faults


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("referral_id departement commun", "no such field as commun"),
        ("referral_id departement persons", "holds parts"),
        ("referral_id departement persons(role surname)", "no such fields"),
        ("departement channel", "not told without"),
    ],
)
def test_a_wrong_grant_is_refused_when_the_program_starts(text: str, because: str) -> None:
    interior = AUDIENCES["interior"]
    planted = replace(interior, grants={**interior.grants, referrals.ReferralReceived: grant(text)})

    with pytest.raises(TypeError, match=because):
        check(planted)


def test_a_forgotten_type_is_refused_when_the_program_starts() -> None:
    justice = AUDIENCES["justice"]
    planted = replace(justice, withheld={event: why for event, why in justice.withheld.items() if event is not referrals.InterviewHeld})

    with pytest.raises(TypeError, match=r"interview\.held"):
        check(planted)


# Properties over every event there is

ANY_EVENT = events(*EVENTS.values())


@given(ANY_EVENT)
@settings(max_examples=300, deadline=None)
def test_no_field_leaves_that_is_not_listed(event: Event) -> None:
    for stream, projection in told(event).items():
        granted = AUDIENCES[kind_of(stream)].grants[type(event)]
        seen = json.loads(projection.data)
        assert set(seen) == set(granted.fields)
        for field, inner in granted.parts.items():
            assert all(set(part) == set(inner) for part in seen[field])


def _personal_ids(event: Event, names: frozenset[str]) -> set[str]:
    values = event.model_dump(mode="json")
    holders = [values, *(part for value in values.values() if isinstance(value, list) for part in value if isinstance(part, dict))]
    found = [holder[name] for holder in holders for name in names & holder.keys()]
    return {each for value in found if value is not None for each in (value if isinstance(value, list) else [value])}


def _all_ids(event: Event) -> list[str]:
    return [word for word in json.dumps(event.model_dump(mode="json")).split('"') if len(word) == 36 and word.count("-") == 4]


@given(ANY_EVENT)
@settings(max_examples=300, deadline=None)
def test_no_id_leaves_to_whom_may_not_fetch_it(event: Event) -> None:
    ids = _all_ids(event)
    assume(len(ids) == len(set(ids)))

    for stream, projection in told(event).items():
        hidden = _personal_ids(event, AUDIENCES[kind_of(stream)].pseudonyms)
        text = f"{projection.subject} {projection.event_id} {projection.data.decode()}"
        assert not [each for each in hidden if each in text]
        assert stream == INTERNAL or str(EVENT_ID) not in text


@given(ANY_EVENT)
@settings(max_examples=200, deadline=None)
def test_the_services_are_told_the_events_own_json(event: Event) -> None:
    internal = told(event)[INTERNAL]

    assert internal.data == event.model_dump_json().encode()
    assert type(event).model_validate_json(internal.data) == event
    assert (internal.event_id, internal.subject) == (str(EVENT_ID), f"{event.aggregate[0]}/{event.aggregate_id}")


@given(ANY_EVENT)
@settings(max_examples=100, deadline=None)
def test_the_same_event_is_told_in_the_same_bytes_and_once_to_each_stream(event: Event) -> None:
    first = project(event, EVENT_ID, KEYS)

    assert first == project(event, EVENT_ID, PseudonymKeys(b"a fictitious master key, 32 bytes"))
    assert len({each.audience for each in first}) == len(first)


@given(
    st.uuids(), st.sampled_from(["interior", "justice", "departement:95", "departement:78", ASSOCIATION, EMPLOYER]), st.binary(min_size=32)
)
@settings(max_examples=200)
def test_a_pseudonym_is_one_in_its_audience_and_another_everywhere_else(value: UUID, stream: str, master: bytes) -> None:
    keys = PseudonymKeys(master)
    here = keys.namer(stream)(str(value))

    assert here == keys.namer(stream)(str(value)) == pseudonym(keys.of(stream), str(value))
    assert UUID(here).version == 8
    assert here != str(value)
    others = ["interior", "justice", "departement:95", "departement:78", ASSOCIATION, EMPLOYER]
    assert len({keys.namer(each)(str(value)) for each in others}) == len(others)
    assert here != PseudonymKeys(master + b"!").namer(stream)(str(value))


KNOWN_TO_THE_POLICE = {*AUDIENCES["police"].grants, referrals.ReferralOverdue}
"""That a delay passed without a contact it sees by itself."""


@pytest.mark.parametrize("kind", ["interior", "justice"])
def test_what_the_police_does_not_know_of_a_referral_bears_another_pseudonym_at_a_ministry(kind: Kind) -> None:
    """Who holds what the police holds tells the received referral by what it is about: nothing that follows may hang on it."""
    ours = UUID("00000000-0000-7000-8000-00000000000a")
    known: set[str] = set()
    unknown: set[str] = set()
    for event in set(AUDIENCES[kind].grants) & set(referrals.EVENTS):
        fact = sample(event.type).model_copy(
            update={"referral_id": ours, "police_id": ours} if "police_id" in event.model_fields else {"referral_id": ours}
        )
        projection = told(fact)[kind]
        seen = json.loads(projection.data)["referral_id"]
        assert projection.subject == f"referrals/{seen}"
        (known if event in KNOWN_TO_THE_POLICE else unknown).add(seen)

    assert (len(known), len(unknown)) == (1, 1)
    assert known != unknown


@pytest.mark.parametrize("kind", ["interior", "justice"])
def test_a_ministry_is_told_of_a_referrals_contacts_what_the_police_is(kind: Kind) -> None:
    first = sample("fr.maillon.contact.attempted.v1").model_copy(update={"first": True, "police_id": police_id_of("police-95")})
    none_left = sample("fr.maillon.contact.withdrawn.v1").model_copy(update={"police_id": police_id_of("police-95")})

    assert kind in told(first)
    assert kind in told(none_left)
    assert kind not in told(first.model_copy(update={"first": False, "police_id": None}))
    assert kind not in told(none_left.model_copy(update={"police_id": None}))


def test_the_faster_pseudonym_is_hmac_sha_256() -> None:
    digest = hmac.digest(KEYS.of("interior"), b"value", "sha256").hex()

    assert KEYS.namer("interior")("value").replace("-", "")[:12] == digest[:12]


def test_a_short_master_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        PseudonymKeys(b"short")


def test_the_keys_do_not_show_themselves() -> None:
    assert "fictitious" not in repr(KEYS)
