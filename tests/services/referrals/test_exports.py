"""The right of access: all that is held on a person, in every table, as JSON and as a readable document; nothing of the others."""

import io
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from pypdf import PdfReader
from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.referrals import EVENTS
from services.referrals.app import SERVICE
from services.referrals.delays import models as _delays  # noqa: F401 - its tables join the others
from services.referrals.exports import collect, document
from services.referrals.exports.held import EXPORTED, LEFT_OUT
from services.referrals.exports.schemas import ExportOut
from services.referrals.models import Table
from services.referrals.notices import models as _notices  # noqa: F401 - its tables join the others
from services.referrals.working import corrections
from tests.services.referrals.conftest import CONTENT, Referrals
from tests.services.referrals.test_justice import requisition
from tests.services.referrals.test_orientations import ask
from tests.services.referrals.test_rights import ask as erase
from tests.services.referrals.test_sides import HERS, HIS, NARRATIVE, person

RIGHTS = "persons_rights"
SIDES = (HERS, HIS)


async def export(
    referrals: Referrals, referral_id: UUID, person_id: UUID, who: str = "coordinator-95", purpose: str = RIGHTS
) -> httpx.Response:
    return await referrals.get(who, f"/v1/referrals/{referral_id}/persons/{person_id}/export", purpose)


async def exported(referrals: Referrals, referral_id: UUID, person_id: UUID) -> dict[str, Any]:
    answer = await export(referrals, referral_id, person_id)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def full_life(referrals: Referrals) -> tuple[UUID, list[UUID]]:
    """Two persons of one situation; whatever may happen to a person happened to each, and every table of the service tells it."""
    referral_id = await referrals.receive(
        persons=[person("victim", "female", HERS), person("alleged_perpetrator", "male", HIS)], narrative=NARRATIVE, children_present=0
    )
    people = await referrals.persons(referral_id)
    address = f"/v1/referrals/{referral_id}"
    assert (await referrals.move("iscg-95", referral_id, "accept")).status_code == 200
    for place, (person_id, side, service) in enumerate(zip(people, SIDES, (d.VICTIM_SUPPORT_SERVICE, d.SERVICE_78), strict=True)):
        call = {"person_id": person_id, "mode": "phone", "result": "reached", "attempted_at": f"2026-11-23T10:0{place}:00+01:00"}
        held = {"person_ids": [person_id], "place": "station", "duration_minutes": 50 + place, "held_at": "2026-11-23T11:00:00+01:00"}
        assessed = {"person_id": person_id, "needs": ["protection"], "known_to_services": "unknown"}
        sent = {
            "kind": "prosecutor_report",
            "court": "95127",
            "person_ids": [person_id],
            "sent_at": "2026-11-23T12:00:00Z",
            "reference": f"parquet-{side['marker']}",
            "note": f"signalement-{side['marker']}",
        }
        for path, body in (("contacts", call), ("interviews", held), ("assessments", assessed), ("alerts", sent)):
            answer = await referrals.post("iscg-95", f"{address}/{path}", body)
            assert answer.status_code == 201, answer.text
        asked = await ask(referrals, referral_id, service, place=place)
        assert asked.status_code == 201, asked.text
        link = await referrals.post("iscg-95", f"/v1/orientations/{asked.json()['id']}/links")
        assert link.status_code == 201, link.text
        assert (
            await referrals.get(f"partner-{'95' if place == 0 else '78'}", f"/v1/orientations/{asked.json()['id']}", "orientation")
        ).status_code == 200
        corrected = {
            "reason": "rectification",
            "persons": [
                {"person_id": person_id, "contact": {"address": f"nouvelle adresse {side['marker']}"}, "sex": "female" if place else "male"}
            ],
        }
        assert (
            await referrals.post("iscg-95", f"{address}/corrections", corrected, version=await referrals.version(referral_id))
        ).status_code == 201
        assert (await requisition(referrals, referral_id, person_ids=[person_id])).status_code == 201
    both = {"kind": "prosecutor_report", "court": "95127", "person_ids": people, "sent_at": "2026-11-23T12:00:00Z", "note": NARRATIVE}
    assert (await referrals.post("iscg-95", f"{address}/alerts", both)).status_code == 201
    async with referrals.runtime.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO overdues (id, referral_id, due_at, urgency, noticed_at) VALUES (gen_random_uuid(), :id, now(), 'priority', now())"
            ),
            {"id": referral_id},
        )
    return referral_id, people


async def end(referrals: Referrals, referral_id: UUID) -> None:
    """Both partners answered, and it is closed."""
    for place, (one, version) in enumerate(await referrals.rows("SELECT id, version FROM orientations ORDER BY requested_at")):
        answer = await referrals.answer(f"partner-{'95' if place == 0 else '78'}", one, "reject", {"reason": "no_capacity"}, version)
        assert answer.status_code == 200, answer.text
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})).status_code == 200


# Completeness


def _names_somebody(table: Any) -> bool:
    """Whether a table has an id of a person, a referral, or of something of theirs; or keeps something sealed."""
    named = {"referral_id", "person_id", "person_ids", "orientation_id", "correction_id", "erasure_id", "contact_id", "interview_id"}
    return table.name in {"referrals", "persons"} or any(column.name in named for column in table.columns)


def test_every_table_that_names_a_person_or_a_referral_is_exported_or_left_out_with_its_reason() -> None:
    tables = {table.name for table in Table.metadata.tables.values() if _names_somebody(table)}

    assert tables == EXPORTED.keys() | LEFT_OUT.keys()
    assert not EXPORTED.keys() & LEFT_OUT.keys()
    assert set(EXPORTED.values()) <= ExportOut.model_fields.keys()
    assert all(len(why) > 20 for _, why in LEFT_OUT.values())


async def test_each_row_of_each_table_about_a_person_is_in_the_export_of_that_person_and_in_no_other(referrals: Referrals) -> None:
    referral_id, people = await full_life(referrals)

    told = [json.dumps(await exported(referrals, referral_id, one)) for one in people]

    keys = {"corrected_contents": "correction_id", "erasure_notices": "erasure_id"}
    seen = 0
    for name in EXPORTED.keys() - {"erasures", "erasure_notices", "referrals"}:
        table = Table.metadata.tables[name]
        key = keys.get(name, "id")
        for row in await referrals.rows(f"SELECT {key} AS key, to_jsonb(t) AS whole FROM {name} t"):
            whole = json.dumps(row.whole)
            concerned = [str(one) in whole for one in people]
            if name == "orientation_links":
                [orientation] = await referrals.rows(f"SELECT person_id FROM orientations WHERE id = '{row.whole['orientation_id']}'")
                concerned = [orientation.person_id == one for one in people]
            if not any(concerned):
                assert "referral_id" in table.columns, name
                concerned = [name != "overdues"] * 2  # of a shared situation (test_what_is_learned_of_a_shared_situation_…)
            assert [str(row.key) in one for one in told] == concerned, f"{name}: {row.key}"
            seen += 1
    assert seen >= 2 * 9


@pytest.mark.parametrize(
    ("identity", "kept"),
    [
        ({"family_name": "Exemple", "given_name": "Camille", "birth_on": "1991-04-12"}, (True, True)),
        ({"family_name": "Exemple", "given_name": "Camille"}, (False, True)),
        (None, (False, False)),
    ],
)
async def test_every_hash_by_which_a_person_is_found_is_told(
    referrals: Referrals, identity: dict[str, str] | None, kept: tuple[bool, bool]
) -> None:
    persons = referrals.body()["persons"]
    referral_id = await referrals.receive(persons=[persons[0] | {"identity": identity}])
    [person] = await referrals.persons(referral_id)

    told = (await exported(referrals, referral_id, person))["person"]

    assert (told["found_by_identity"], told["found_by_name"]) == kept
    hashes = {column.name for column in Table.metadata.tables["persons"].columns if column.name.endswith("_hash")}
    assert {f"found_by_{name.removesuffix('_hash')}" for name in hashes} == {name for name in told if name.startswith("found_by_")}


# Nothing of the others


@pytest.mark.parametrize("side", [0, 1])
async def test_the_export_of_one_side_holds_its_own_and_nothing_of_the_other(referrals: Referrals, side: int) -> None:
    referral_id, people = await full_life(referrals)
    own, other = SIDES[side], SIDES[1 - side]

    answer = await export(referrals, referral_id, people[side])
    made = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{people[side]}/export.pdf", RIGHTS)

    read = text_of(made.content)
    for value in (own["marker"], own["phone"], own["address"], f"mot-{own['marker']}", f"note-{own['marker']}"):
        assert value in answer.text
        assert squeezed(value) in read, value
    assert str(d.ASSOCIATION if side == 0 else d.ASSOCIATION_78) in answer.text
    hidden = [*other.values(), f"mot-{other['marker']}", f"note-{other['marker']}", NARRATIVE, str(people[1 - side])]
    hidden += [str(d.ASSOCIATION_78 if side == 0 else d.ASSOCIATION), f"signalement-{own['marker']}", f"parquet-{own['marker']}"]
    for value in hidden:
        assert value not in answer.text, value
        assert squeezed(value) not in read, value
    assert "Ce qui peut parler d'autres personnes" in answer.text


async def test_an_erasure_of_one_tells_nothing_of_whom_the_other_was_oriented_to(referrals: Referrals) -> None:
    referral_id, people = await full_life(referrals)
    assert (await erase(referrals, referral_id, people)).status_code == 201

    hers = await exported(referrals, referral_id, people[0])

    assert (hers["person"]["erased"], hers["person"]["identity"], hers["kept_until"]) == (True, None, None)
    assert (hers["person"]["found_by_identity"], hers["person"]["found_by_name"]) == (False, False)
    [erasure] = hers["erasures"]
    streams = {one["stream"] for one in erasure["notices"]}
    assert f"organization:{d.ASSOCIATION}" in streams
    assert f"organization:{d.ASSOCIATION_78}" not in streams
    assert [one["before"] for one in hers["corrections"]] == [None]


async def test_what_is_said_of_a_situation_is_given_to_a_victim_who_is_alone_in_it(referrals: Referrals) -> None:
    alone = [person("victim", "female", HERS)]
    referral_id = await referrals.accepted(persons=alone, narrative=NARRATIVE, children_present=0)
    with_children = await referrals.accepted(persons=alone, narrative=NARRATIVE, children_present=1)
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})).status_code == 200

    mine, theirs = [await exported(referrals, one, (await referrals.persons(one))[0]) for one in (referral_id, with_children)]

    assert (mine["referral"]["narrative"], theirs["referral"]["narrative"]) == (NARRATIVE, None)
    assert mine["referral"]["close_reason"] == mine["moves"][-1]["reason"] == "out_of_scope"
    assert "récit" not in json.dumps(mine["left_out"], ensure_ascii=False)


@pytest.mark.parametrize("role", ["alleged_perpetrator", "witness", "other"])
async def test_a_narrative_is_given_to_nobody_but_the_victim_for_it_may_speak_of_who_is_not_registered(
    referrals: Referrals, role: str
) -> None:
    referral_id = await referrals.accepted(
        persons=[person(role, "male", HIS)], narrative=f"{HERS['marker']} est à l'abri", children_present=0
    )
    corrected = {"reason": "learned", "narrative": f"{HERS['marker']}, {HERS['address']}", "themes": ["couple_violence", "sexual_violence"]}
    assert (await referrals.move("iscg-95", referral_id, "corrections", corrected)).status_code == 201
    assert (await referrals.move("iscg-95", referral_id, "close", {"reason": "out_of_scope"})).status_code == 200
    [only] = await referrals.persons(referral_id)

    told = await exported(referrals, referral_id, only)

    assert HIS["marker"] in json.dumps(told), "his own"
    assert HERS["marker"] not in json.dumps(told)
    assert (told["referral"]["narrative"], told["referral"]["close_reason"], told["corrections"]) == (None, None, [])
    assert "récit" in json.dumps(told["left_out"], ensure_ascii=False)


@pytest.mark.parametrize(("role", "children"), [("victim", 0), ("alleged_perpetrator", 0), ("witness", 0), ("victim", 1)])
async def test_what_is_learned_of_a_shared_situation_is_given_to_a_victim_who_is_alone_in_it_and_to_nobody_else(
    referrals: Referrals, role: str, children: int
) -> None:
    referral_id = await referrals.accepted(
        persons=[person(role, "male", HIS)],
        channel="intervention",
        urgency="standard",
        themes=["neighbour_dispute"],
        principal_theme="neighbour_dispute",
        penal=None,
        natinf=[],
        danger=False,
        children_present=children,
    )
    confided = {
        "channel": "complaint",
        "urgency": "immediate",
        "themes": ["sexual_violence"],
        "principal_theme": "sexual_violence",
        "penal": True,
        "natinf": [7875],
        "danger": True,
    }
    assert (await referrals.move("iscg-95", referral_id, "corrections", {"reason": "learned"} | confided)).status_code == 201
    async with referrals.runtime.database.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO overdues (id, referral_id, due_at, urgency, noticed_at)"
                " SELECT gen_random_uuid(), id, due_at, urgency, now() FROM referrals"
            )
        )
    [only] = await referrals.persons(referral_id)

    told = await exported(referrals, referral_id, only)
    made = await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/persons/{only}/export.pdf", RIGHTS)

    alone = (role, children) == ("victim", 0)
    assert {name: told["referral"][name] for name in confided} == (confided if alone else dict.fromkeys(confided))
    assert told["referral"]["children_present"] == (0 if alone else None)
    assert len(told["overdues"]) == alone
    for words in ("À la suite d'une plainte", "Violences sexuelles", "7875", "Danger signalé", "Enfants présents", "Suites pénales"):
        assert (squeezed(words) in text_of(made.content)) == alone, words
    assert squeezed("transmise par la police") not in text_of(made.content), "it is what is known now"
    left = json.dumps(told["left_out"], ensure_ascii=False)
    assert [word in left for word in ("mode de saisine", "thèmes", "danger", "enfants présents")] == [not alone] * 4


@pytest.mark.parametrize("named", [(1,), (0,), (0, 1), ()])
async def test_no_export_tells_that_somebody_was_reported_to_the_prosecutor_or_a_child_to_the_departement(
    referrals: Referrals, named: tuple[int, ...]
) -> None:
    people = [person("victim", "female", HERS), person("alleged_perpetrator", "male", HIS)]
    referral_id = await referrals.accepted(persons=people, children_present=1)
    concerned = [(await referrals.persons(referral_id))[place] for place in named]
    kind = {"kind": "prosecutor_report", "court": "78646"} if named else {"kind": "concerning_information", "departement": "78"}
    words = {"reference": "parquet-0042", "note": f"{HERS['marker']} a dit que {HIS['marker']}"}
    address = f"/v1/referrals/{referral_id}/alerts"
    sent = await referrals.post("iscg-95", address, kind | words | {"person_ids": concerned, "sent_at": "2026-11-23T12:00:00Z"})
    assert sent.status_code == 201, sent.text
    assert (await referrals.post("iscg-95", f"{address}/{sent.json()['id']}/withdraw", {"reason": "noted_twice"})).status_code == 200
    assert (await referrals.get("iscg-95", address, CONTENT)).status_code == 200

    for person_id in await referrals.persons(referral_id):
        told = await exported(referrals, referral_id, person_id)
        made = await referrals.get("iscg-95", f"/v1/referrals/{referral_id}/persons/{person_id}/export.pdf", RIGHTS)

        everything = json.dumps(told | {"left_out": []}, ensure_ascii=False)
        for trace in ("alert", "prosecutor", "concerning", "78646", *words.values(), str(sent.json()["id"])):
            assert trace not in everything, trace
            assert squeezed(trace) not in text_of(made.content), trace
        assert "envoi au" not in text_of(made.content)
        assert [one["what"] for one in told["left_out"] if "procureur" in one["what"]], "the document says so to everybody, reported or not"


# Who was told, who read, how long


async def test_who_was_told_what_is_what_was_said_and_who_read_it_is_named_by_role_alone(referrals: Referrals) -> None:
    referral_id, [victim, _] = await full_life(referrals)
    assert (await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}", "supervision")).status_code == 200
    rows = await referrals.rows("SELECT DISTINCT stream, type FROM outbox WHERE stream <> 'audit'")

    told = await exported(referrals, referral_id, victim)

    alert = "fr.maillon.alert.recorded.v1"  # that one was sent, no export tells
    known = {event.type for event in EVENTS} - {"fr.maillon.referral.overdue.v1"}  # that one was planted in its table
    said = {(row.stream, row.type) for row in rows if row.stream != f"organization:{d.ASSOCIATION_78}" and row.type != alert}
    assert {(one["stream"], fact) for one in told["recipients"] for fact in one["facts"] if fact in known} == said
    assert {one["stream"]: one["pseudonym"] for one in told["recipients"]}["interior"] is True
    readings = [(one["operation"], one["role"], one["purpose"]) for one in told["readings"]]
    assert ("read_referral", "coordinator", "supervision") in readings
    assert ("read_orientation", "partner", "orientation") in readings
    assert [one["organization"] for one in told["readings"] if one["role"] == "partner"] == [str(d.ASSOCIATION)]
    assert "record_requisition" not in json.dumps(told)
    assert "coordinator-95" not in json.dumps(told["readings"])
    assert told["readings"][-1]["operation"] == "export_person", "this very reading"
    assert told["kept_until"] is None, "still open"
    assert "encore ouverte" in told["kept_because"]


@pytest.mark.parametrize(
    ("steps", "started"),
    [
        (["accept", "start"], True),
        (["accept", "start", "complete"], True),
        (["accept", "start", "fail"], True),
        (["accept", "start", "cancel"], True),
        (["accept", "fail"], False),
        (["accept", "cancel"], False),
    ],
)
async def test_whoever_was_told_that_support_began_is_named_whatever_came_of_it(
    referrals: Referrals, steps: list[str], started: bool
) -> None:
    referral_id = await referrals.accepted()
    asked = (await referrals.orient(referral_id)).json()["id"]
    bodies = {"complete": {"outcome": "informed"}, "fail": {"reason": "unreachable"}, "cancel": {"reason": "mistake"}}
    for version, step in enumerate(steps, 1):
        who = "iscg-95" if step == "cancel" else "partner-95"
        answer = await referrals.answer(who, asked, step, bodies.get(step), version=version)
        assert answer.status_code == 200, answer.text
    rows = await referrals.rows("SELECT DISTINCT stream, type FROM outbox WHERE type LIKE 'fr.maillon.orientation.%'")

    told = await exported(referrals, referral_id, (await referrals.persons(referral_id))[0])

    of_orientations = {(one["stream"], fact) for one in told["recipients"] for fact in one["facts"] if ".orientation." in fact}
    assert of_orientations == {(row.stream, row.type) for row in rows}
    [orientation] = told["orientations"]
    assert (orientation["started_at"] is not None) == started


@pytest.mark.parametrize(
    "activity",
    [
        "UPDATE moves SET at = :then WHERE move = 'accept'",
        "UPDATE assessments SET recorded_at = :then",
        "UPDATE contact_attempts SET attempted_at = :then",
        "UPDATE interviews SET held_at = :then",
        "UPDATE orientations SET answered_at = :then",
    ],
)
async def test_it_is_kept_until_the_very_day_on_which_the_retention_ends_it(referrals: Referrals, activity: str) -> None:
    referral_id, [victim, _] = await full_life(referrals)
    then = datetime(2030, 1, 1, 12, tzinfo=UTC)
    await end(referrals, referral_id)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(activity), {"then": then})

    told = await exported(referrals, referral_id, victim)

    assert told["kept_until"] == "2032-01-01"  # 730 days, as settings.persons_retention_days has it
    assert "730 jours après le dernier contact" in told["kept_because"]


async def test_the_purpose_is_the_persons_right_and_the_perimeter_holds(referrals: Referrals) -> None:
    referral_id, [victim, _] = await full_life(referrals)
    [stranger, *_] = await referrals.persons(await referrals.receive())

    answers = {
        "another purpose": await export(referrals, referral_id, victim, purpose=CONTENT),
        "another post": await export(referrals, referral_id, victim, "iscg-78"),
        "another département": await export(referrals, referral_id, victim, "coordinator-78"),
        "a partner": await export(referrals, referral_id, victim, "partner-95"),
        "the police": await export(referrals, referral_id, victim, "police-95"),
        "a person of another referral": await export(referrals, referral_id, stranger),
    }

    assert {name: answer.status_code for name, answer in answers.items()} == {
        "another purpose": 422,
        "another post": 404,
        "another département": 404,
        "a partner": 403,
        "the police": 403,
        "a person of another referral": 404,
    }
    entries = [json.loads(row.data) for row in await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit'")]
    assert [one for one in entries if one["operation"] == "export_person"] == []


# The document


def text_of(pdf: bytes) -> str:
    """Without white space: lines break where they may."""
    return squeezed("".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages))


def squeezed(value: str) -> str:
    return "".join(value.split()).translate(dict.fromkeys(map(ord, "\u00ad\u200b-\u2010\u2011")))


def tags_of(pdf: PdfReader) -> set[str]:
    found: set[str] = set()

    def walk(node: Any) -> None:
        node = node.get_object() if hasattr(node, "get_object") else node
        if isinstance(node, list):
            for one in node:
                walk(one)
        elif hasattr(node, "get"):
            if "/S" in node:
                found.add(str(node["/S"]))
            if "/K" in node:
                walk(node["/K"])

    root: Any = pdf.trailer["/Root"]
    walk(root["/StructTreeRoot"])
    return found


async def test_the_document_is_tagged_titled_in_french_with_its_fonts_inside(referrals: Referrals) -> None:
    referral_id, [victim, _] = await full_life(referrals)

    answer = await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/persons/{victim}/export.pdf", RIGHTS)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.headers["cache-control"] == "no-store"
    pdf = PdfReader(io.BytesIO(answer.content))
    root: Any = pdf.trailer["/Root"]
    assert str(root["/Lang"]).startswith("fr")
    assert root["/MarkInfo"]["/Marked"]
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert pdf.metadata is not None
    assert pdf.metadata.title == document.TITLE
    assert b"pdfuaid" in root["/Metadata"].get_object().get_data()
    assert {"/Table", "/TR", "/TH", "/TD", "/H1", "/P"} <= tags_of(pdf)
    for page in pdf.pages:
        resources: Any = page["/Resources"]
        for font in resources["/Font"].values():
            [inner] = font["/DescendantFonts"]
            assert any(name.startswith("/FontFile") for name in inner["/FontDescriptor"])
    read = text_of(answer.content)
    for sentence in (
        document.TITLE,
        "Association d'aide aux victimes",
        "Qui a lu ces données",
        "Demande de rectification",
    ):
        assert squeezed(sentence) in read, sentence


async def test_whom_it_speaks_of_is_called_by_name_in_the_document(referrals: Referrals) -> None:
    referral_id, [victim, _] = await full_life(referrals)
    moved = {"reason": "mistake", "unit_id": str(d.UNIT_SARCELLES)}
    assert (await referrals.move("coordinator-95", referral_id, "corrections", moved)).status_code == 201
    told = await exported(referrals, referral_id, victim)
    named = [
        ("services", str(d.VICTIM_SUPPORT_SERVICE), "Accueil fictif", "Association fictive des Trois Rives"),
        ("services", str(d.SERVICE_78), "Autre accueil", "Association de l'autre"),
        ("posts", told["referral"]["post_id"], "Poste fictif de Cergy", None),
        ("units", str(d.UNIT_CERGY), "Commissariat fictif", None),
        ("units", str(d.UNIT_SARCELLES), "Circonscription fictive", None),
        ("communes", told["referral"]["commune"], "Ville-Exemple", None),
    ]
    async with referrals.runtime.database.transaction() as session:
        for row in named:
            await session.execute(
                text(
                    "INSERT INTO directory_names (kind, key, departement, name, organization, themes, folded)"
                    " VALUES (:kind, :key, '95', :name, :organization, '{}', '')"
                ),
                dict(zip(("kind", "key", "name", "organization"), row, strict=True)),
            )

    made = await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/persons/{victim}/export.pdf", RIGHTS)
    names = (await exported(referrals, referral_id, victim))["names"]

    assert told["names"] == {}
    assert names[str(d.ASSOCIATION)] == "Association fictive des Trois Rives"
    read = text_of(made.content)
    said = ["Association fictive des Trois Rives, Accueil fictif (", "Poste fictif de Cergy", "Ville-Exemple (", "Circonscription fictive"]
    for words in said:
        assert squeezed(words) in read, words
    for nothing in ("Autre accueil", "Association de l'autre"):
        assert squeezed(nothing) not in read + squeezed(json.dumps(names, ensure_ascii=False)), "the other person's"
    for id in (d.ASSOCIATION, d.UNIT_SARCELLES, told["referral"]["post_id"]):
        assert squeezed(str(id)) not in read


async def test_the_document_says_until_when_and_why_it_is_kept(referrals: Referrals) -> None:
    referral_id, [victim, _] = await full_life(referrals)
    address = f"/v1/referrals/{referral_id}/persons/{victim}/export.pdf"

    still_open = (await referrals.get("coordinator-95", address, RIGHTS)).content
    await end(referrals, referral_id)
    closed = (await referrals.get("coordinator-95", address, RIGHTS)).content

    because = (await exported(referrals, referral_id, victim))["kept_because"]
    for content, sentence in ((still_open, "encore ouverte"), (closed, because)):
        assert squeezed(sentence) in text_of(content)
    assert [squeezed("Fin prévue de la conservation") in text_of(content) for content in (still_open, closed)] == [False, True]


@pytest.mark.parametrize("name", ["#[import] $x$ \\ *gras* <label> @ref", "山　田。", "عمر", "Zoé 🙂", "</script> {{x}}", "‮abc"])
async def test_whatever_a_name_is_made_of_the_document_is_made_and_means_nothing_more(referrals: Referrals, name: str) -> None:
    one = person("victim", "female", HERS) | {"identity": {"family_name": name, "given_name": "Essai"}}
    answer = await referrals.post("police-95", "/v1/referrals", referrals.body(persons=[one]))
    if answer.status_code == 422:  # control characters are refused at the door
        assert name.startswith("‮")
        return
    referral_id = UUID(answer.json()["id"])
    [only] = await referrals.persons(referral_id)

    made = await referrals.get("coordinator-95", f"/v1/referrals/{referral_id}/persons/{only}/export.pdf", RIGHTS)

    assert made.status_code == 200, made.text
    latin = "".join(letter for letter in name if letter.isascii())
    assert squeezed(latin) in text_of(made.content)
    assert (await exported(referrals, referral_id, only))["person"]["identity"]["family_name"] == name


def test_every_character_is_printed_or_becomes_a_square() -> None:
    every = [chr(point) for point in range(0x20, 0x30000) if not 0xD800 <= point < 0xE000]
    printed = "".join(sorted(set(map(document._printable, every))))

    made = document._compiled(json.dumps({"title": "Essai", "introduction": [" ".join(printed)], "sections": []}))

    assert "□" in printed
    assert 1500 < len(printed) < 2500
    read = "".join(page.extract_text() for page in PdfReader(io.BytesIO(made)).pages)
    assert {"é", "œ", "ß", "Ω", "Ж", "€", "□"} <= set(read)


def test_whatever_a_correction_may_change_and_any_fact_has_words_in_the_document() -> None:
    assert document._CHANGED.keys() == {*corrections._PLAIN, *corrections._PLAIN_OF_A_PERSON}
    assert document._FACTS.keys() == {event.type.split(".")[2] for event in EVENTS} - {"alert"}


def test_every_audited_reading_of_content_is_told() -> None:
    reading = {operation for operation, rule in SERVICE.access.items() if rule.purpose and not rule.page}

    assert reading - collect.READINGS.keys() == {"search_persons", "list_alerts", "read_requisition", "export_person_document"}
