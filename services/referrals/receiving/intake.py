"""Receiving referrals: one command for a list, one statement per table, an outcome for each. A request that is refused does not fail its neighbours."""

from collections.abc import Sequence, Set
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import outbox
from libs.chassis.database import Statement, copy, meanwhile, run
from libs.chassis.refusals import Refusal
from libs.chassis.signing import Signer
from libs.chassis.streams import canonical
from libs.chassis.vault import FreshKey, Vault
from libs.contracts.envelope import Event
from libs.contracts.receipts import RECEIPT
from libs.contracts.referrals import PersonCounted, ReferralAssigned, ReferralReceived, ReferralUnrouted
from libs.contracts.types import civil_day
from libs.contracts.units import police_id_of
from libs.contracts.vocabularies import Force, ReferralStatus, RoutingReason, UnroutedReason
from services.referrals import notices
from services.referrals.delays.due import Delays
from services.referrals.domain import MINORS, Move, moved, police_status
from services.referrals.receiving import repeats, routing
from services.referrals.receiving.domain import Decision, ReferenceTaken
from services.referrals.receiving.home import outside
from services.referrals.receiving.schemas import Receipt, ReferralReceivedOut
from services.referrals.receiving.sealing import Intake, SealedPerson
from services.referrals.rules import check_birth, check_consistent, check_past
from services.referrals.working.helping import Concerned, awaits_contact


class _Referral(NamedTuple):
    intake: Intake
    departement: str
    routing: Decision
    delay_minutes: int
    force: Force | None

    @property
    def id(self) -> UUID:
        return self.intake.referral_id

    @property
    def status(self) -> ReferralStatus:
        return moved(ReferralStatus.RECEIVED, Move.UNROUTE if self.routing.post_id is None else Move.ROUTE)


class Intakes:
    """What receiving needs besides a session: the vault, the signer of receipts, the network's target delays."""

    def __init__(self, vault: Vault, signer: Signer, delays: Delays) -> None:
        self._vault = vault
        self._signer = signer
        self._delays = delays

    async def receive_now(self, session: AsyncSession, intakes: Sequence[Intake]) -> list[ReferralReceivedOut | Refusal]:
        return await self.receive(session, intakes, datetime.now(UTC))

    async def receive(self, session: AsyncSession, intakes: Sequence[Intake], now: datetime) -> list[ReferralReceivedOut | Refusal]:
        """Store, route and say referrals; the outcomes in the order given.

        Refused: a reference already given for this unit (without a unit: by this client), a date to come, a commune or a unit by which it would belong to another
        département than the client's.
        """
        outcomes: dict[int, ReferralReceivedOut | Refusal] = {}
        possible: list[tuple[int, Intake]] = []
        for number, intake in enumerate(intakes):
            try:
                _check(intake, now)
            except Refusal as refusal:
                outcomes[number] = refusal
                continue
            possible.append((number, intake))
        atlas = await routing.atlas(session, [(intake.request.unit_id, intake.request.commune) for _, intake in possible])
        made: dict[int, _Referral] = {}
        for number, intake in possible:
            home = atlas.home(intake.request.unit_id, intake.request.commune, intake.departements)
            if intake.departements is not None and home not in intake.departements:
                outcomes[number] = outside(intake.request.commune, home)
            else:
                made[number] = self._make(intake, home, atlas)
        every = list(made.values())
        known = await repeats.known(
            session, {one for referral in every for person in referral.intake.persons for one in person.found_by.sought}
        )
        async with meanwhile(self._store_referrals(session, every, now)) as storing:
            said = _said(session, every, now, known)
        stored = storing.result()
        fresh = [referral for referral in every if referral.id in stored]
        if len(fresh) < len(every):
            said = _said(session, fresh, now, known)
        await self._vault.store(session, [key for referral in fresh for key in _keys(referral)])
        await self._store_persons(session, fresh)
        async with meanwhile(outbox.insert(session, said)):
            answers = {referral.id: self._answer(referral, now) for referral in fresh}
        await notices.notify(session, *(_notice(referral, now) for referral in fresh), now=now)
        taken = await _first_ones(session, [referral.intake for referral in every if referral.id not in stored])
        for number, referral in made.items():
            if referral.id in stored:
                outcomes[number] = answers[referral.id]
            else:
                first_id = taken.get(_reference(referral.intake))
                outcomes[number] = ReferenceTaken(
                    f"Une saisine portant cette référence a déjà été reçue de {'cette unité' if referral.intake.request.unit_id is not None else 'votre système'}.",
                    more={"referral_id": str(first_id)} if first_id is not None else {},
                )
        return [outcomes[number] for number in range(len(intakes))]

    def _make(self, intake: Intake, home: str, atlas: routing.Atlas) -> _Referral:
        request = intake.request
        decided = atlas.route(request.unit_id, request.commune, request.channel)
        return _Referral(
            intake=intake,
            departement=home,
            routing=decided,
            delay_minutes=self._delays.minutes(request.urgency, atlas.targets(decided.post_id), danger=request.danger),
            force=atlas.force(request.unit_id),
        )

    async def _store_referrals(self, session: AsyncSession, referrals: Sequence[_Referral], now: datetime) -> set[UUID]:
        """The ids of those that were new: the others' references were taken already."""
        if not referrals:
            return set()
        rows = [
            _row(referral, now)
            # in the order of the unique key: two batches never wait for each other crosswise
            for referral in sorted(referrals, key=lambda one: tuple(map(str, _reference(one.intake))))
        ]
        made = await run(session, _INSERT_REFERRALS, {name: [row[name] for row in rows] for name in rows[0]})
        return {row["id"] for row in made}

    async def _store_persons(self, session: AsyncSession, referrals: Sequence[_Referral]) -> None:
        rows = [
            (
                person.id,
                referral.id,
                place,
                person.counted.role,
                person.counted.sex,
                person.counted.age_band,
                person.counted.agreement,
                person.counted.known_to_services,
                person.fresh.key.id,
                person.content,
                person.found_by.identity,
                person.found_by.name,
            )
            for referral in referrals
            for place, person in enumerate(referral.intake.persons)
        ]
        if rows:
            await copy(session, "persons", _PERSONS, rows)

    def _answer(self, referral: _Referral, now: datetime) -> ReferralReceivedOut:
        statement = canonical(
            {
                "referral_id": str(referral.id),
                "client_id": referral.intake.client_id,
                "received_at": now.isoformat(timespec="microseconds"),
                "sha256": referral.intake.digest.hex(),
            }
        )
        return ReferralReceivedOut(
            id=referral.id,
            status=police_status(referral.status, contacted=False),
            received_at=now,
            version=1,
            receipt=Receipt(statement=statement.decode(), signature=self._signer.sign_detached(statement, media_type=RECEIPT)),
        )


def _check(intake: Intake, now: datetime) -> None:
    """What the form of a request cannot say. Raises TimeImpossible, Contradiction."""
    request = intake.request
    check_past(request.occurred_at, now, "/occurred_at")
    for place, person in enumerate(request.persons):
        if person.identity is not None and person.identity.birth_on is not None:
            check_birth(person.identity.birth_on, now, f"/persons/{place}/identity/birth_on")
        check_consistent(person, request.occurred_at, now, f"/persons/{place}")


Reference = tuple[str, str | UUID]


def _reference(intake: Intake) -> Reference:
    """What is unique: a reference of a unit, whoever sends it; without a unit, of the client."""
    return intake.request.external_reference, intake.request.unit_id or intake.client_id


def _keys(referral: _Referral) -> list[FreshKey]:
    return [person.fresh for person in referral.intake.persons] + ([referral.intake.narrative[0]] if referral.intake.narrative else [])


def _row(referral: _Referral, now: datetime) -> dict[str, object]:
    request = referral.intake.request
    return {
        "ids": referral.id,
        "clients": referral.intake.client_id,
        "external_references": request.external_reference,
        "units": request.unit_id,
        "communes": request.commune,
        "departements": referral.departement,
        "channels": request.channel,
        "urgencies": request.urgency,
        "principal_themes": request.principal_theme,
        "themes": ",".join(request.themes),
        "penals": request.penal,
        "natinfs": ",".join(str(number) for number in request.natinf),
        "dangers": request.danger,
        "children": request.children_present,
        "occurred": request.occurred_at,
        "received": now,
        "due": now + timedelta(minutes=referral.delay_minutes),
        "awaiting": awaits_contact([_concerned(one.counted) for one in referral.intake.persons], [], None),
        "digests": referral.intake.digest,
        "narrative_keys": referral.intake.narrative[0].key.id if referral.intake.narrative else None,
        "narratives": referral.intake.narrative[1] if referral.intake.narrative else None,
        "statuses": referral.status,
        "posts": referral.routing.post_id,
        "routings": to_json(routing.stored(referral.routing, now)).decode(),
    }


def _concerned(person: PersonCounted) -> Concerned:
    return Concerned(person.person_id, person.role, person.age_band in MINORS, person.agreement, erased=False)


# `unnest` flattens arrays of arrays: lists travel as text joined by commas
_INSERT_REFERRALS = Statement(
    "INSERT INTO referrals (id, client_id, external_reference, first_unit_id, unit_id, commune, departement, channel, urgency, principal_theme, themes, penal,"
    " natinf, danger, children_present, occurred_at, received_at, due_from, due_at, awaits_contact, changed_at, request_digest, narrative_key_id, narrative, status,"
    " post_id, routing, declined_by, version)"
    " SELECT id, client_id, external_reference, unit_id, unit_id, commune, departement, channel, urgency, principal_theme, string_to_array(themes, ','), penal,"
    " CAST(string_to_array(natinf, ',') AS integer[]), danger, children_present, occurred_at, received_at, received_at, due_at, awaits_contact, received_at,"
    " request_digest, narrative_key_id, narrative, status, post_id, CAST(routing AS jsonb), '{}', 1 FROM (SELECT id, client_id, external_reference, unit_id,"
    " commune, departement, channel, urgency, principal_theme, themes, penal, natinf, danger, children_present, occurred_at, received_at, due_at, awaits_contact,"
    " request_digest, narrative_key_id, narrative, status, post_id, routing"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:clients AS text[]), CAST(:external_references AS text[]), CAST(:units AS uuid[]),"
    " CAST(:communes AS text[]), CAST(:departements AS text[]), CAST(:channels AS text[]), CAST(:urgencies AS text[]), CAST(:principal_themes AS text[]),"
    " CAST(:themes AS text[]), CAST(:penals AS boolean[]), CAST(:natinfs AS text[]), CAST(:dangers AS boolean[]), CAST(:children AS integer[]),"
    " CAST(:occurred AS timestamptz[]), CAST(:received AS timestamptz[]), CAST(:due AS timestamptz[]), CAST(:awaiting AS boolean[]),"
    " CAST(:digests AS bytea[]), CAST(:narrative_keys AS uuid[]), CAST(:narratives AS bytea[]), CAST(:statuses AS text[]), CAST(:posts AS uuid[]),"
    " CAST(:routings AS text[]))"
    " AS new (id, client_id, external_reference, unit_id, commune, departement, channel, urgency, principal_theme, themes, penal, natinf, danger,"
    " children_present, occurred_at, received_at, due_at, awaits_contact, request_digest, narrative_key_id, narrative, status, post_id, routing)) AS new"
    " ON CONFLICT DO NOTHING RETURNING id"
)
_PERSONS = (
    "id",
    "referral_id",
    "position",
    "role",
    "sex",
    "age_band",
    "agreement",
    "known_to_services",
    "key_id",
    "content",
    "identity_hash",
    "name_hash",
)


_FIRST_ONES = text(
    "SELECT r.id, r.client_id, r.first_unit_id, r.external_reference"
    " FROM unnest(CAST(:clients AS text[]), CAST(:units AS uuid[]), CAST(:external_references AS text[])) AS asked (client_id, unit_id, reference)"
    " JOIN referrals r ON r.client_id = asked.client_id AND r.external_reference = asked.reference"
    # the unique indexes, one for each side
    " AND ((r.first_unit_id IS NOT NULL AND r.first_unit_id = asked.unit_id) OR (r.first_unit_id IS NULL AND asked.unit_id IS NULL))"
)


async def _first_ones(session: AsyncSession, intakes: Sequence[Intake]) -> dict[Reference, UUID]:
    """The referrals that have these references: those of the same client, whose ids may be told."""
    if not intakes:
        return {}
    rows = await session.execute(
        _FIRST_ONES,
        {
            "clients": [intake.client_id for intake in intakes],
            "units": [intake.request.unit_id for intake in intakes],
            "external_references": [intake.request.external_reference for intake in intakes],
        },
    )
    return {(row.external_reference, row.first_unit_id or row.client_id): row.id for row in rows}


def _notice(referral: _Referral, now: datetime) -> notices.Notice:
    """To the post that has it, else to the coordinator."""
    request = referral.intake.request
    urgent = notices.is_urgent(request.urgency, request.danger)
    if referral.routing.post_id is None:
        return notices.of_unrouted(referral.id, referral.departement, now, urgent=urgent)
    return notices.of_assigned(referral.id, referral.routing.post_id, now, urgent=urgent)


def _counted(person: SealedPerson, known: set[bytes]) -> PersonCounted:
    if person.found_by.identity is None:
        return person.counted
    return person.counted.model_copy(update={"returning": not known.isdisjoint(person.found_by.sought)})


def _said(session: AsyncSession, referrals: Sequence[_Referral], now: datetime, known: Set[bytes]) -> list[outbox.Said]:
    """What is said of referrals received in this order. `known`: the hashes of persons received before."""
    seen = set(known)
    return outbox.written(session, [(event, referral.intake.trace) for referral in referrals for event in _events(referral, now, seen)])


def _events(referral: _Referral, now: datetime, known: set[bytes]) -> list[Event]:
    """`known`: the hashes of persons received before; those of this referral join them."""
    request = referral.intake.request
    police_id = police_id_of(referral.intake.client_id)
    events: list[Event] = [
        ReferralReceived(
            referral_id=referral.id,
            departement=referral.departement,
            commune=request.commune,
            unit_id=request.unit_id,
            force=referral.force,
            channel=request.channel,
            urgency=request.urgency,
            principal_theme=request.principal_theme,
            themes=tuple(request.themes),
            penal=request.penal,
            danger=request.danger,
            children_present=request.children_present,
            occurred_on=civil_day(request.occurred_at),
            received_at=now,
            persons=tuple(_counted(person, known) for person in referral.intake.persons),
            police_id=police_id,
        )
    ]
    known.update(person.found_by.identity for person in referral.intake.persons if person.found_by.identity is not None)
    decided = referral.routing
    if decided.post_id is not None and isinstance(decided.reason, RoutingReason):
        events.append(
            ReferralAssigned(
                referral_id=referral.id,
                departement=referral.departement,
                post_id=decided.post_id,
                reason=decided.reason,
                assigned_at=now,
                police_id=police_id,
            )
        )
    if isinstance(decided.reason, UnroutedReason):
        events.append(ReferralUnrouted(referral_id=referral.id, departement=referral.departement, reason=decided.reason, unrouted_at=now))
    return events
