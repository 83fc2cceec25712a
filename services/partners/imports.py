"""Reference data in bulk: INSEE's communes, and the Interior's jurisdiction file (which unit is competent in which commune).

Idempotent: what is repeated changes nothing and says nothing. Each row is judged by itself; one event per unit that really changed, with its
whole state, whatever the number of its rows.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar
from uuid import UUID

from pydantic import JsonValue, ValidationError
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from libs.chassis import outbox
from libs.chassis.problems import pointers_of
from libs.chassis.refusals import Pointer
from libs.chassis.strict import Body
from libs.contracts.envelope import Event
from libs.contracts.partners import UnitChanged, UnitRegistered
from libs.contracts.types import departement_of
from libs.contracts.units import plain_label, unit_id_of
from libs.contracts.vocabularies import Force, UnitKind
from services.partners.domain import INSTITUTIONS, MAX_COMMUNES, home_departement, unit_kind_of
from services.partners.models import Commune
from services.partners.schemas import CommuneRow, CommunesImport, ImportOutcome, JurisdictionRow, JurisdictionsImport, RowError, RowOutcome
from services.partners.units import take_turn

Outcome = Literal["created", "changed", "unchanged", "refused"]
Row = TypeVar("Row", bound=Body)


@dataclass(slots=True)
class _Judgement:
    """What became of each row, by its place in the request."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    errors: dict[int, list[Pointer]] = field(default_factory=lambda: defaultdict(list))

    def refuse(self, place: int, *errors: Pointer) -> None:
        self.outcomes[place] = "refused"
        self.errors[place].extend(errors)

    def read(self, kind: type[Row], rows: Sequence[Mapping[str, JsonValue]]) -> dict[int, Row]:
        """The rows that are well formed; the others are refused."""
        good: dict[int, Row] = {}
        for place, row in enumerate(rows):
            try:
                good[place] = kind.model_validate(row)
            except ValidationError as error:
                self.refuse(place, *pointers_of(error, kind))
        return good

    def outcome(self) -> ImportOutcome:
        rows = [
            RowOutcome(
                outcome=self.outcomes[place],
                errors=[RowError(pointer=pointer, detail=detail) for pointer, detail in self.errors.get(place, ())],
            )
            for place in sorted(self.outcomes)
        ]
        count = {kind: sum(row.outcome == kind for row in rows) for kind in ("created", "changed", "unchanged", "refused")}
        return ImportOutcome(**count, rows=rows)


# Communes

_UPSERT_COMMUNES = text(
    "INSERT INTO communes (code, name, departement, region, population, postcodes)"
    " SELECT code, name, departement, region, population, string_to_array(postcodes, '-') FROM unnest(CAST(:code AS text[]),"
    " CAST(:name AS text[]), CAST(:departement AS text[]), CAST(:region AS text[]), CAST(:population AS integer[]), CAST(:postcodes AS text[]))"
    " AS given (code, name, departement, region, population, postcodes)"
    " ON CONFLICT (code) DO UPDATE SET name = excluded.name, departement = excluded.departement, region = excluded.region,"
    " population = excluded.population, postcodes = excluded.postcodes"
)


async def import_communes(session: AsyncSession, body: CommunesImport) -> ImportOutcome:
    """INSEE's list, or a part of it. No event: listeners know a commune by its code."""
    judgement = _Judgement()
    good = judgement.read(CommuneRow, body.rows)
    first: dict[str, int] = {}
    for place, row in list(good.items()):
        if row.departement != departement_of(row.code):
            judgement.refuse(place, ("/departement", "Ce n'est pas le département de ce code de commune."))
            del good[place]
        elif first.setdefault(row.code, place) != place and good[first[row.code]] != row:
            judgement.refuse(place, ("/code", "Cette commune figure déjà plus haut, avec un autre contenu."))
            del good[place]
    await take_turn(session)
    before = {row.code: row for row in await session.scalars(select(Commune).where(col(Commune.code).in_(first)))}
    writes: dict[str, dict[str, Any]] = {}
    for place, row in good.items():
        known = before.get(row.code)
        postcodes = sorted(set(row.postcodes)) if row.postcodes is not None else list(known.postcodes if known is not None else ())
        values = {**row.model_dump(), "postcodes": postcodes}
        if row.code in writes or (known is not None and all(getattr(known, name) == value for name, value in values.items())):
            judgement.outcomes[place] = "unchanged"
            continue
        judgement.outcomes[place] = "changed" if known is not None else "created"
        writes[row.code] = {**values, "postcodes": "-".join(postcodes)}
    if writes:
        rows = [writes[code] for code in sorted(writes)]
        await session.execute(_UPSERT_COMMUNES, {name: [row[name] for row in rows] for name in rows[0]})
    return judgement.outcome()


# Jurisdictions


@dataclass(slots=True)
class _Unit:
    """A unit as the import finds and leaves it."""

    id: UUID
    force: Force
    code: str | None
    label: str
    kind: UnitKind
    departement: str
    communes: set[str]
    told: tuple[UnitKind, str] | None = None
    """Kind and département as listeners know them; `None`: they do not know the unit."""
    imported: bool = True
    closed: bool = False
    renamed: bool = False
    moved: bool = False
    """Its communes changed."""

    @classmethod
    def of_row(cls, id: UUID, row: JurisdictionRow) -> "_Unit":
        return cls(
            id=id,
            force=INSTITUTIONS[row.institution],
            code=row.id_service or None,
            label=row.service,
            kind=unit_kind_of(row.service),
            departement=departement_of(row.commune),
            communes=set(),
        )

    @property
    def new(self) -> bool:
        return self.told is None


_KNOWN_UNITS = text(
    "SELECT id, force, code, label, kind, departement, imported, closed_at IS NOT NULL AS closed,"
    " array(SELECT commune FROM unit_communes WHERE unit_id = units.id) AS communes"
    " FROM units WHERE id = ANY(CAST(:ids AS uuid[]))"
    " OR id IN (SELECT unit_id FROM unit_communes WHERE commune = ANY(CAST(:communes AS text[])))"
    " ORDER BY id FOR UPDATE"
)
_INSERT_UNITS = text(
    "INSERT INTO units (id, departement, force, kind, code, label, imported, version, registered_at, changed_at)"
    " SELECT id, departement, force, kind, code, label, true, 1, :now, :now FROM unnest(CAST(:id AS uuid[]), CAST(:departement AS text[]),"
    " CAST(:force AS text[]), CAST(:kind AS text[]), CAST(:code AS text[]), CAST(:label AS text[]))"
    " AS given (id, departement, force, kind, code, label)"
)
_UPDATE_UNITS = text(
    "UPDATE units SET departement = given.departement, kind = given.kind, code = given.code, label = given.label, imported = true,"
    " version = version + 1, changed_at = :now FROM unnest(CAST(:id AS uuid[]), CAST(:departement AS text[]),"
    " CAST(:kind AS text[]), CAST(:code AS text[]), CAST(:label AS text[])) AS given (id, departement, kind, code, label)"
    " WHERE units.id = given.id"
)
_LINK = text("INSERT INTO unit_communes (unit_id, commune) SELECT * FROM unnest(CAST(:unit AS uuid[]), CAST(:commune AS text[]))")
_UNLINK = text(
    "DELETE FROM unit_communes USING unnest(CAST(:unit AS uuid[]), CAST(:commune AS text[])) AS gone (unit_id, commune)"
    " WHERE unit_communes.unit_id = gone.unit_id AND unit_communes.commune = gone.commune"
)


async def import_jurisdictions(session: AsyncSession, body: JurisdictionsImport) -> ImportOutcome:
    """Rows of the Interior's file. The rows of one commune and institution replace what was known of the two.

    When one of them is refused, nothing is taken away from that commune: what the bad row meant to say is not known.
    """
    now = datetime.now(UTC)
    judgement = _Judgement()
    good = judgement.read(JurisdictionRow, body.rows)
    await take_turn(session)
    populations = await _populations(session, {row.commune for row in good.values()})
    for place, row in list(good.items()):
        if row.commune not in populations:
            judgement.refuse(place, ("/commune", "Cette commune n'est pas dans la liste de l'INSEE : importez d'abord les communes."))
            del good[place]
        elif not row.id_service and not plain_label(row.service):
            judgement.refuse(place, ("/service", "Ce libellé ne désigne aucune unité."))
            del good[place]
    ids = {place: unit_id_of(row.institution, row.id_service, row.service, row.commune) for place, row in good.items()}
    units = await _known_units(session, set(ids.values()), {row.commune for row in good.values()})
    _refuse_the_impossible(judgement, good, ids, units)

    spoiled = {(str(row.get("commune")), str(row.get("institution"))) for place, row in enumerate(body.rows) if place not in good}
    wanted: dict[tuple[str, str], set[UUID]] = defaultdict(set)
    for place, row in good.items():
        wanted[row.commune, row.institution].add(ids[place])
    links, gone = _move(units, wanted, spoiled)

    named: set[UUID] = set()  # the first row of a unit gives its label: a file that writes it in two ways would change it at each import
    for place, row in good.items():
        unit = units.setdefault(ids[place], _Unit.of_row(ids[place], row))
        if unit.id not in named and not unit.new and plain_label(unit.label) != plain_label(row.service):
            unit.label, unit.kind, unit.renamed = row.service, unit_kind_of(row.service), True
        named.add(unit.id)
        if (unit.id, row.commune) in links:
            unit.communes.add(row.commune)
            unit.moved = True
            replaced = any(commune == row.commune and units[id].force == unit.force for id, commune in gone)
            judgement.outcomes[place] = "changed" if replaced else "created"
        else:
            judgement.outcomes[place] = "changed" if unit.renamed else "unchanged"
    adopted = sorted({id for id in ids.values() if id in units and not units[id].imported})
    if adopted:
        await session.execute(text("UPDATE units SET imported = true WHERE id = ANY(CAST(:ids AS uuid[]))"), {"ids": adopted})
    await _write(session, units, links, gone, now)
    return judgement.outcome()


async def _populations(session: AsyncSession, communes: set[str]) -> dict[str, int]:
    rows = await session.execute(select(col(Commune.code), col(Commune.population)).where(col(Commune.code).in_(communes)))
    return {row.code: row.population or 0 for row in rows}


async def _known_units(session: AsyncSession, ids: set[UUID], communes: set[str]) -> dict[UUID, _Unit]:
    """The units that the rows name, and those now competent in their communes: locked, in the order of their ids."""
    rows = await session.execute(_KNOWN_UNITS, {"ids": sorted(ids), "communes": sorted(communes)})
    return {
        row.id: _Unit(
            id=row.id,
            force=_FORCES[row.force],
            code=row.code,
            label=row.label,
            kind=_KINDS[row.kind],
            departement=row.departement,
            communes=set(row.communes),
            told=(_KINDS[row.kind], row.departement),
            imported=row.imported,
            closed=row.closed,
        )
        for row in rows
    }


_FORCES = {str(force): force for force in Force}
_KINDS = {str(kind): kind for kind in UnitKind}


def _refuse_the_impossible(
    judgement: _Judgement, good: dict[int, JurisdictionRow], ids: Mapping[int, UUID], units: Mapping[UUID, _Unit]
) -> None:
    added: dict[UUID, set[str]] = defaultdict(set)
    for place, row in list(good.items()):
        unit = units.get(ids[place])
        there = unit.communes if unit is not None else set()
        if unit is not None and unit.closed:
            judgement.refuse(place, ("/service", "Cette unité est fermée dans l'annuaire."))
        elif unit is not None and unit.force != INSTITUTIONS[row.institution]:
            judgement.refuse(place, ("/institution", "L'annuaire connaît cette unité sous une autre force."))
        elif len(there | added[ids[place]] | {row.commune}) > MAX_COMMUNES:
            judgement.refuse(place, ("/commune", f"Une unité est compétente dans {MAX_COMMUNES} communes au plus."))
        else:
            added[ids[place]].add(row.commune)
            continue
        del good[place]


Link = tuple[UUID, str]


def _move(
    units: Mapping[UUID, _Unit], wanted: Mapping[tuple[str, str], set[UUID]], spoiled: set[tuple[str, str]]
) -> tuple[set[Link], set[Link]]:
    """The competences that are new, and those that are over. What is over is taken from its unit; what is new is added row by row."""
    links: set[Link] = set()
    gone: set[Link] = set()
    for (commune, institution), ids in wanted.items():
        now = {unit.id for unit in units.values() if unit.force == INSTITUTIONS[institution] and commune in unit.communes}
        links |= {(id, commune) for id in ids - now}
        if (commune, institution) not in spoiled:
            gone |= {(id, commune) for id in now - ids if units[id].imported}
    for id, commune in gone:
        units[id].communes.discard(commune)
        units[id].moved = True
    return links, gone


async def _write(session: AsyncSession, units: Mapping[UUID, _Unit], links: set[Link], gone: set[Link], now: datetime) -> None:
    touched = [unit for _, unit in sorted(units.items()) if unit.new or unit.renamed or unit.moved]
    if not touched:
        return
    populations = await _populations(session, {commune for unit in touched for commune in unit.communes})
    events: list[Event] = []
    for unit in touched:
        if unit.moved and unit.communes:
            unit.departement = home_departement({commune: populations.get(commune, 0) for commune in unit.communes})
        events.extend(_said(unit, now))
    made = [unit for unit in touched if unit.new]
    changed = [unit for unit in touched if not unit.new]
    for statement, rows in ((_INSERT_UNITS, made), (_UPDATE_UNITS, changed)):
        if rows:
            columns = {name: [getattr(row, name) for row in rows] for name in ("id", "departement", "kind", "code", "label")}
            if statement is _INSERT_UNITS:
                columns["force"] = [row.force for row in rows]
            await session.execute(statement, {**columns, "now": now})
    for statement, pairs in ((_UNLINK, sorted(gone)), (_LINK, sorted(links))):
        if pairs:
            await session.execute(statement, {"unit": [id for id, _ in pairs], "commune": [commune for _, commune in pairs]})
    await outbox.append(session, *events)


def _said(unit: _Unit, now: datetime) -> list[Event]:
    state: dict[str, Any] = {
        "departement": unit.departement,
        "unit_id": unit.id,
        "force": unit.force,
        "kind": unit.kind,
        "communes": tuple(sorted(unit.communes)),
    }
    if unit.new:
        return [UnitRegistered(**state, registered_at=now)]
    return [UnitChanged(**state, changed_at=now)] if unit.moved or unit.told != (unit.kind, unit.departement) else []
