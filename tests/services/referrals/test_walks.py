"""Random walks over every command: never an illegal state, never a fact without its change, never a change without its fact."""

import json
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.contracts import demonstration as d
from libs.contracts.partners import PostFilled, PostSuspended
from libs.contracts.types import civil_day
from libs.contracts.vocabularies import OrientationStatus, ReferralStatus
from services.referrals.app import SERVICE
from services.referrals.domain import MOVES, Move
from services.referrals.models import Person, Referral
from services.referrals.orientations.domain import ORIENTATION_MOVES, OrientationMove
from services.referrals.working import withdrawals
from tests.planted import seen_red
from tests.services.referrals.conftest import MORNING, Referrals
from tests.services.referrals.noted import WITHDRAWABLE, Noted

MOVES_OF: dict[str, set[Move]] = {
    "referral.assigned": {Move.ROUTE, Move.ASSIGN, Move.TRANSFER},
    "referral.unrouted": {Move.UNROUTE, Move.DECLINE},
    "referral.accepted": {Move.ACCEPT},
    "contact.attempted": {Move.CONTACT},
    "contact.withdrawn": {Move.CONTACT},
    "interview.held": {Move.INTERVIEW},
    "interview.withdrawn": {Move.INTERVIEW},
    "assessment.recorded": {Move.ASSESS},
    "assessment.withdrawn": {Move.ASSESS},
    "alert.recorded": {Move.ALERT},
    "alert.withdrawn": {Move.ALERT},
    "orientation.requested": {Move.ORIENT},
    "referral.corrected": {Move.CORRECT},
    "referral.closed": {Move.CLOSE, Move.CLOSE_UNROUTED},
    "referral.reopened": {Move.REOPEN, Move.REOPEN_UNROUTED},
}
"""Which moves a fact may come of. A pair of states is not enough: `accepted` stays `accepted` by a contact, never by being accepted twice."""
LEGAL = {(fact, before, after) for fact, moves in MOVES_OF.items() for move in moves for before, after in MOVES[move].states.items()}

MOVE_OF_ORIENTATION: dict[str, OrientationMove] = {
    "orientation.requested": OrientationMove.REQUEST,
    "orientation.accepted": OrientationMove.ACCEPT,
    "orientation.rejected": OrientationMove.REJECT,
    "orientation.started": OrientationMove.START,
    "orientation.completed": OrientationMove.COMPLETE,
    "orientation.failed": OrientationMove.FAIL,
    "orientation.expired": OrientationMove.EXPIRE,
    "orientation.cancelled": OrientationMove.CANCEL,
}

STEPS: dict[str, tuple[str, str, Any, str]] = {
    "accept": ("iscg-95", "accept", None, "referral.accepted"),
    "decline": ("iscg-95", "decline", {"reason": "absent"}, "referral.unrouted"),
    "assign here": ("coordinator-95", "assign", {"post_id": d.POST_CERGY}, "referral.assigned"),
    "assign elsewhere": ("coordinator-95", "assign", {"post_id": d.POST_SARCELLES}, "referral.assigned"),
    "transfer": ("iscg-95", "transfer", {"post_id": d.POST_SARCELLES}, "referral.assigned"),
    "close": ("iscg-95", "close", {"reason": "completed"}, "referral.closed"),
    "close as oriented": ("iscg-95", "close", {"reason": "oriented"}, "referral.closed"),
    "close as unreachable": ("iscg-95", "close", {"reason": "unreachable"}, "referral.closed"),
    "close unrouted": ("coordinator-95", "close", {"reason": "duplicate"}, "referral.closed"),
    "reopen": ("iscg-95", "reopen", None, "referral.reopened"),
    "reopen unrouted": ("coordinator-95", "reopen", None, "referral.reopened"),
    "another post": ("iscg-78", "accept", None, "referral.accepted"),
}
ANSWERS: dict[str, tuple[str, str, Any, str]] = {
    "partner accepts": ("partner-95", "accept", None, "orientation.accepted"),
    "partner rejects": ("partner-95", "reject", {"reason": "no_capacity"}, "orientation.rejected"),
    "partner starts": ("partner-95", "start", None, "orientation.started"),
    "partner completes": ("partner-95", "complete", {"outcome": "informed"}, "orientation.completed"),
    "partner fails": ("partner-95", "fail", {"reason": "no_show"}, "orientation.failed"),
    "cancel": ("iscg-95", "cancel", {"reason": "other_solution"}, "orientation.cancelled"),
    "another partner": ("partner-78", "accept", None, "orientation.accepted"),
}
CORRECTIONS: dict[str, tuple[str, str, list[Any]]] = {
    "correct the urgency": ("iscg-95", "urgency", ["immediate", "standard", "priority"]),
    "correct the children": ("iscg-95", "children_present", [4, 5, 6]),
    "the coordinator corrects": ("coordinator-95", "danger", [False, True]),
    "correct the unit": ("iscg-95", "unit_id", [d.UNIT_SARCELLES, d.UNIT_CERGY]),
    "correct the commune": ("coordinator-95", "commune", ["95585", "95127"]),
    "correct the channel": ("iscg-95", "channel", ["complaint", "intervention"]),
}
"""Who corrects which field; of the values the first that differs from what is there."""
PLACED = {"correct the unit", "correct the commune", "correct the channel"}
"""What may lead a referral that was not accepted yet to another post."""
ENDING = {"the person agrees or refuses": "referral.corrected", "erase the person": "referral.erased", "erase all": "referral.erased"}
"""What ends orientations besides, and may close the referral: the fact it must say."""
FOLLOWING = {"orientation.cancelled", "orientation.updated"}
"""What becomes of an orientation whose person, or what is known of the situation, is another."""
WITHDRAWN: dict[str, tuple[str, str, str]] = {
    "withdraw a contact": ("contacts", "contact_attempts", "contact.withdrawn"),
    "withdraw an interview": ("interviews", "interviews", "interview.withdrawn"),
    "withdraw an assessment": ("assessments", "assessments", "assessment.withdrawn"),
    "withdraw an alert": ("alerts", "alerts", "alert.withdrawn"),
}
"""What was noted by mistake: its address, its table, the fact that it says."""
SILENT = (
    "a requisition is noted",
    "a requisition is completed",
    "the person's data is exported",
    "a link is made",
    "an erasure is confirmed",
)
"""What is nobody else's business: written down or read, and said to nobody."""
JOBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "time passes": ("notice-overdue", ("referral.overdue",)),
    "the post is absent": ("route-unrouted", ("referral.assigned",)),
    "the post is back": ("route-unrouted", ("referral.assigned",)),
    "expire": ("expire-orientations", ("orientation.expired",)),
    "remind": ("remind-partners", ()),
    "what was refused is erased": ("erase-refused", ("referral.erased", "referral.closed", *FOLLOWING)),
    "the retention ends": ("end-retention", ("referral.erased",)),
    "erasures are looked at": ("look-at-erasures", ()),
    "unconfirmed erasures are told": ("tell-unconfirmed", ()),
}
"""The job of each step, and what it may say."""
_LONG_AGO = "now() - interval '30 days'"
BEFORE_JOBS: dict[str, tuple[str, ...]] = {
    "time passes": ("UPDATE referrals SET due_at = now() - interval '1 minute', overdue_said = false WHERE id = :id",),
    "expire": ("UPDATE orientations SET expires_at = now() - interval '1 minute' WHERE referral_id = :id AND status = 'requested'",),
    "remind": (
        f"UPDATE orientations SET requested_at = {_LONG_AGO}, expires_at = now() + interval '1 day', reminded_at = NULL, version = version + 1"
        " WHERE referral_id = :id AND status = 'requested'",
    ),
    "what was refused is erased": (
        f"UPDATE persons SET refused_at = {_LONG_AGO} WHERE referral_id = :id AND agreement = 'refused'",
        f"UPDATE corrections SET corrected_at = {_LONG_AGO} WHERE referral_id = :id",
        f"UPDATE referrals SET received_at = {_LONG_AGO} WHERE id = :id",
        f"UPDATE referrals SET closed_at = {_LONG_AGO} WHERE id = :id AND closed_at IS NOT NULL",
    ),
    "unconfirmed erasures are told": (f"UPDATE erasures SET erased_at = {_LONG_AGO} WHERE referral_id = :id",),
}
"""As if the time of a job had come."""
OTHERS = (
    *ENDING,
    *JOBS,
    *SILENT,
    *WITHDRAWN,
    "add a person",
    "services know the person",
    "partner accepts by link",
    "partner rejects by link",
    "contact",
    "reach",
    "interview",
    "assess",
    "alert",
    "orient",
    "orient elsewhere",
    "correct the role",
)
_CERGY: dict[str, Any] = {"departement": "95", "post_id": d.POST_CERGY, "employer_id": d.EMPLOYER}
ABSENT = PostSuspended(**_CERGY, suspended_at=MORNING, replacement_post_id=d.POST_SARCELLES)
PARTNER = f"organization:{d.ASSOCIATION}"
BACK = PostFilled(**_CERGY, filled_at=MORNING)
COUNTED = ("contact_attempts", "interviews", "assessments", "alerts", "moves", "corrections", "overdues")
WAITING = {"unrouted", "assigned", "accepted"}


def _status_after(type: str, data: dict[str, Any], before: str) -> str:
    """The state that a listener, who knows the facts alone, would believe in."""
    known = {"received": "received", "assigned": "assigned", "unrouted": "unrouted", "accepted": "accepted", "closed": "closed"}
    if type == "referral.erased":
        return "erased" if data["whole"] else before
    noun, _, fact = type.partition(".")
    if noun != "referral" or fact in {"corrected", "overdue"}:
        return before
    return ("unrouted" if data["post_id"] is None else "accepted") if fact == "reopened" else known[fact]


@dataclass
class Walk:
    referrals: Referrals
    referral_id: UUID
    status: str = ""
    orientations: dict[str, str] = field(default_factory=dict)
    """What the facts told so far."""
    noted: Noted = field(default_factory=Noted)

    async def step(self, name: str) -> None:
        before, read_before = await self._state(), await self._read()
        expected, answered = await self._do(name)
        said = [(type, data) for type, data in await self.referrals.said() if data["referral_id"] == str(self.referral_id)]
        after = await self._state()

        if answered is None:
            assert {type for type, _ in said} <= {*JOBS[name][1]}
        elif name in SILENT:
            assert answered in {200, 201, 403, 404, 409}, f"{name}: {answered}"
            assert (said, after["status"], after["orientations"]) == ([], before["status"], before["orientations"])
        elif answered < 300 and name in ENDING:
            assert [type for type, _ in said if type not in {*FOLLOWING, "referral.closed"}] == [expected]
        elif answered < 300 and name in PLACED:
            assert [type for type, _ in said if type not in {"orientation.updated", "referral.assigned", "referral.unrouted"}] == [expected]
        elif answered < 300:
            assert [type for type, _ in said if type != "orientation.updated"] == [expected]
        else:
            assert answered in {403, 404, 409, 410}, f"{name}: {answered}"
            assert said == []
            assert after == before
        for orientation, read in (await self._read()).items():
            if (old := read_before.get(orientation)) is not None and read["version"] == old["version"]:
                assert read == old, f"{name}: a partner reads something else under the same version"
        for one in (data for type, data in said if type == "orientation.updated"):
            assert after["orientations"][one["orientation_id"]] in {"requested", "accepted", "in-progress"}
        self._hear(said, withdrawn=name in ENDING or "referral.erased" in {type for type, _ in said})
        assert after["status"] != "closed" or "requested" not in after["orientations"].values(), "a partner may answer what nobody follows"
        assert after["reached"] == 0, "a partner still works for who refused or was erased"
        assert (after["status"], after["orientations"]) == (self.status, self.orientations)
        assert {table: after[f"{table}_left"] for table in WITHDRAWABLE} == self.noted.left(), "what was noted is not what was told"
        assert after["first_contact_at"] == self.noted.first_contact(), "the first contact is not that of those that are left"
        assert after["known"] == self.noted.known[-1][1], "who knows the person is not what is left of what was said"
        assert self.noted.is_grounded(), "what was done rests on nobody's having been reached"
        if any(type != "referral.overdue" for type, _ in said):
            assert after["version"] > before["version"]
        if any(type == "referral.overdue" for type, _ in said):
            assert (before["status"] in WAITING, before["called"]) == (True, False)
        assert after["overdues"] - before["overdues"] == [type for type, _ in said].count("referral.overdue")
        assert after["corrections"] - before["corrections"] == [type for type, _ in said].count("referral.corrected")

    def _hear(self, said: list[tuple[str, dict[str, Any]]], *, withdrawn: bool = False) -> None:
        for type, data in said:
            status = _status_after(type, data, self.status)
            if type in MOVES_OF:
                assert (type, ReferralStatus(self.status), ReferralStatus(status)) in LEGAL, f"{type}: {self.status} -> {status}"
            self.status = status
            self.noted.hear(type, data)
            if type in MOVE_OF_ORIENTATION:
                told = self.orientations.get(data["orientation_id"])
                cancelled = withdrawn and type == "orientation.cancelled"
                states = ORIENTATION_MOVES[OrientationMove.WITHDRAW if cancelled else MOVE_OF_ORIENTATION[type]].states
                before = None if told is None else OrientationStatus(told)
                assert before in states, f"{type}: {told}"
                self.orientations[data["orientation_id"]] = str(states[before])

    async def _state(self) -> dict[str, Any]:
        counts = ", ".join(f"(SELECT count(*) FROM {table} WHERE referral_id = r.id) AS {table}" for table in COUNTED)
        left = ", ".join(
            f"(SELECT count(*) FROM {table} WHERE referral_id = r.id AND withdrawn_at IS NULL) AS {table}_left" for table in WITHDRAWABLE
        )
        [row] = await self.referrals.rows(
            "SELECT status, version, post_id, unit_id, commune, channel, urgency, children_present, danger, first_contact_at, NOT awaits_contact AS called,"
            " (SELECT known_to_services FROM persons WHERE referral_id = r.id ORDER BY position LIMIT 1) AS known,"
            f" (SELECT jsonb_object_agg(id, status) FROM orientations WHERE referral_id = r.id) AS orientations, {counts}, {left}"
            " , (SELECT count(*) FROM orientations o JOIN persons p ON p.id = o.person_id WHERE o.referral_id = r.id"
            " AND (p.agreement <> 'accepted' OR p.content = ''::bytea) AND o.status IN ('requested', 'accepted', 'in-progress')) AS reached"
            f" FROM referrals r WHERE id = '{self.referral_id}'"
        )
        found: dict[str, Any] = dict(row._mapping)
        return found | {"orientations": row.orientations or {}}

    async def _read(self) -> dict[str, dict[str, Any]]:
        """What the partner reads of the orientations that live."""
        rows = await self.referrals.rows(f"SELECT id FROM orientations WHERE referral_id = '{self.referral_id}'")
        answers = [await self.referrals.get("partner-95", f"/v1/orientations/{row.id}", "orientation") for row in rows]
        return {answer.json()["id"]: answer.json() for answer in answers if answer.status_code == 200}

    async def _set(self, statement: str) -> None:
        async with self.referrals.runtime.database.transaction() as session:
            await session.execute(text(statement), {"id": self.referral_id})

    async def _do(self, name: str) -> tuple[str, int | None]:
        if name in STEPS:
            who, move, body, expected = STEPS[name]
            return expected, (await self.referrals.move(who, self.referral_id, move, body)).status_code
        if name in CORRECTIONS:
            who, field, values = CORRECTIONS[name]
            there = (await self._state())[field]
            body = {"reason": "learned", field: next(value for value in values if value != there)}
            return "referral.corrected", (await self.referrals.move(who, self.referral_id, "corrections", body)).status_code
        if name in ENDING:
            return ENDING[name], await self._end(name)
        if name in ANSWERS:
            return await self._answer(*ANSWERS[name])
        if name in JOBS:
            await self._job(name)
            return "", None
        if name in {"contact", "reach"}:
            [person, *_] = await self.referrals.persons(self.referral_id)
            result, at = ("no_answer", "2026-11-23T07:30:00Z") if name == "contact" else ("reached", "2026-11-23T08:00:00Z")
            call = {"person_id": person, "mode": "phone", "result": result, "attempted_at": at}
            answer = await self.referrals.post("iscg-95", f"/v1/referrals/{self.referral_id}/contacts", call)
            return "contact.attempted", answer.status_code
        if name in {"interview", "assess", "alert"}:
            [person, *_] = await self.referrals.persons(self.referral_id)
            address, body, fact = {
                "interview": (
                    "interviews",
                    {"person_ids": [person], "place": "phone", "duration_minutes": 20, "held_at": "2026-11-23T09:00:00Z"},
                    "interview.held",
                ),
                "assess": ("assessments", {"person_id": person, "needs": ["rights"], "known_to_services": "known"}, "assessment.recorded"),
                "alert": (
                    "alerts",
                    {"kind": "concerning_information", "person_ids": [], "sent_at": "2026-11-23T09:00:00Z"},
                    "alert.recorded",
                ),
            }[name]
            return fact, (await self.referrals.post("iscg-95", f"/v1/referrals/{self.referral_id}/{address}", body)).status_code
        if name in WITHDRAWN:
            return WITHDRAWN[name][2], await self._withdraw(*WITHDRAWN[name][:2])
        if name == "services know the person":
            [person, *_] = await self.referrals.persons(self.referral_id)
            there = (await self._state())["known"]
            known = "unknown" if there == "known" else "known"
            right = {"reason": "learned", "persons": [{"person_id": person, "known_to_services": known}]}
            return "referral.corrected", (await self.referrals.move("iscg-95", self.referral_id, "corrections", right)).status_code
        if name == "correct the role":
            person = (await self.referrals.persons(self.referral_id))[-1]
            [row] = await self.referrals.rows(f"SELECT role FROM persons WHERE id = '{person}'")
            other = {"person_id": person, "role": "other" if row.role != "other" else "witness"}
            right = {"reason": "learned", "persons": [other]}
            return "referral.corrected", (await self.referrals.move("iscg-95", self.referral_id, "corrections", right)).status_code
        if name in SILENT:
            return "", await self._silently(name)
        if name in {"partner accepts by link", "partner rejects by link"}:
            verb = name.split()[1].removesuffix("s")
            return f"orientation.{verb}ed", await self._answer_by_link(verb)
        if name == "add a person":
            joins = {"reason": "learned", "added": [{"role": "witness", "sex": "male", "agreement": "not_asked"}]}
            return "referral.corrected", (await self.referrals.move("iscg-95", self.referral_id, "corrections", joins)).status_code
        service = d.VICTIM_SUPPORT_SERVICE if name == "orient" else d.LEGAL_ADVICE_SERVICE
        return "orientation.requested", (await self.referrals.orient(self.referral_id, service)).status_code

    async def _job(self, name: str) -> None:
        if name in {"the post is absent", "the post is back"}:
            await self.referrals.hear("partners", ABSENT if name == "the post is absent" else BACK)
        for statement in BEFORE_JOBS.get(name, ()):
            await self._set(statement)
        runtime = copy(self.referrals.runtime)
        if name == "the retention ends":  # two years are over for all that is there
            over = {"persons_retention_days": 0, "persons_retention_notice_days": 0}
            runtime.settings = runtime.settings.model_copy(update=over)
        [job] = [one for one in SERVICE.jobs if one.name == JOBS[name][0]]
        await job.run(runtime)

    async def _withdraw(self, noun: str, table: str) -> int:
        """The latest that is left; without any the latest, which was withdrawn already."""
        rows = await self.referrals.rows(
            f"SELECT id FROM {table} WHERE referral_id = '{self.referral_id}' ORDER BY withdrawn_at IS NOT NULL, id DESC LIMIT 1"
        )
        address = f"/v1/referrals/{self.referral_id}/{noun}/{rows[0].id if rows else self.referral_id}/withdraw"
        return (await self.referrals.post("iscg-95", address, {"reason": "noted_twice"})).status_code

    async def _silently(self, name: str) -> int:
        referral, [person, *_] = f"/v1/referrals/{self.referral_id}", await self.referrals.persons(self.referral_id)
        if name == "a link is made":
            return (await self._link())[0]
        if name == "an erasure is confirmed":
            return await self._confirm()
        if name == "the person's data is exported":
            return (await self.referrals.get("coordinator-95", f"{referral}/persons/{person}/export", "persons_rights")).status_code
        asked = {
            "ground": "cpp_77_1_1",
            "authority": "prosecutor",
            "authority_name": "Tribunal fictif",
            "reference": "R-1",
            "scope": "Tout",
            "asked": ["contact"],
            "person_ids": [person],
            "received_at": "2026-11-23T09:00:00Z",
        }
        if name == "a requisition is completed":
            rows = await self.referrals.rows(
                f"SELECT id FROM requisitions WHERE referral_id = '{self.referral_id}' ORDER BY recorded_at DESC, id DESC LIMIT 1"
            )
            if not rows:
                return 404
            asked |= {"corrects_id": rows[0].id, "handed_over": ["contact"], "handed_over_at": "2026-11-23T10:00:00Z"}
        return (await self.referrals.post("coordinator-95", f"{referral}/requisitions", asked)).status_code

    async def _confirm(self) -> int:
        """Of the latest erasure that the association was told of."""
        rows = await self.referrals.rows(
            "SELECT e.id FROM erasures e JOIN erasure_notices n ON n.erasure_id = e.id"
            f" WHERE e.referral_id = '{self.referral_id}' AND n.stream = '{PARTNER}' ORDER BY e.id DESC LIMIT 1"
        )
        confirmed = {"stream": PARTNER, "confirmed_on": civil_day(datetime.now(UTC)), "how": "letter"}
        address = f"/v1/erasures/{rows[0].id if rows else self.referral_id}/confirmations"
        return (await self.referrals.post("coordinator-95", address, confirmed)).status_code

    async def _link(self) -> tuple[int, str]:
        """Of the latest orientation; what was answered to who asked for it, and its path."""
        rows = await self.referrals.rows(f"SELECT id FROM orientations WHERE referral_id = '{self.referral_id}' ORDER BY id DESC LIMIT 1")
        if not rows:
            return 404, ""
        made = await self.referrals.post("iscg-95", f"/v1/orientations/{rows[0].id}/links")
        return made.status_code, urlsplit(made.json()["url"]).path if made.status_code == 201 else ""

    async def _answer_by_link(self, answer: str) -> int:
        status, path = await self._link()
        if status != 201:
            return status
        [row] = await self.referrals.rows(
            f"SELECT version FROM orientations WHERE referral_id = '{self.referral_id}' ORDER BY id DESC LIMIT 1"
        )
        form = {"version": str(row.version), "answer": answer, "reject_reason": "no_capacity"}
        return (await self.referrals.client.post(path, data=form)).status_code

    async def _end(self, name: str) -> int:
        persons = await self.referrals.persons(self.referral_id)
        if name != "the person agrees or refuses":
            going = {"person_ids": persons if name == "erase all" else persons[:1]}
            return (await self.referrals.move("coordinator-95", self.referral_id, "erasures", going)).status_code
        [row] = await self.referrals.rows(f"SELECT agreement FROM persons WHERE id = '{persons[0]}'")
        changed = {"person_id": persons[0], "agreement": "accepted" if row.agreement == "refused" else "refused"}
        body = {"reason": "learned", "persons": [changed]}
        return (await self.referrals.move("iscg-95", self.referral_id, "corrections", body)).status_code

    async def _answer(self, who: str, move: str, body: Any, expected: str) -> tuple[str, int]:
        rows = await self.referrals.rows(
            f"SELECT id, version FROM orientations WHERE referral_id = '{self.referral_id}' ORDER BY id DESC LIMIT 1"
        )
        if not rows:
            return expected, 404
        return expected, (await self.referrals.answer(who, str(rows[0].id), move, body, rows[0].version)).status_code


async def received_in_a_batch(referrals: Referrals, body: dict[str, Any]) -> UUID:
    line = json.dumps({"key": f"walk-{body['external_reference']}", "referral": body}) + "\n"
    headers = referrals.token("police-95") | {"Content-Type": "application/x-ndjson"}
    answer = await referrals.client.post("/v1/referrals/batch", content=line, headers=headers)
    return UUID(json.loads(answer.text)["referral"]["id"])


TAKEN_BACK = [
    *("contact", "reach", "interview", "assess", "alert", "alert"),
    *("withdraw a contact", "withdraw an interview", "withdraw a contact", "withdraw an assessment", "withdraw a contact"),
    *("time passes", "withdraw a contact", "withdraw a contact", "withdraw an alert", "withdraw an alert", "time passes"),
]
"""All that was noted, one after the other; a contact on which something rests is not, yet."""
LEARNT = ["reach", "assess", "services know the person", "assess", "orient", *["withdraw an assessment"] * 3]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(routed=st.booleans(), batch=st.booleans(), steps=st.lists(st.sampled_from([*STEPS, *CORRECTIONS, *ANSWERS, *OTHERS]), max_size=15))
@example(
    True,
    False,
    ["orient", "the person agrees or refuses", "orient", "the person agrees or refuses", "orient", "partner accepts", "erase the person"],
)
@example(
    True, False, ["orient", "partner accepts", "the person agrees or refuses", "partner starts", "erase all", "partner fails", "erase all"]
)
@example(True, False, TAKEN_BACK)
@example(True, False, LEARNT)
async def test_no_walk_reaches_an_illegal_state_or_parts_a_fact_from_its_change(
    referrals: Referrals, routed: bool, batch: bool, steps: list[str]
) -> None:
    await walked(referrals, steps, routed=routed, batch=batch)


async def walked(referrals: Referrals, steps: list[str], *, routed: bool = True, batch: bool = False) -> None:
    await referrals.hear("partners", BACK)
    await referrals.said()
    changes: dict[str, Any] = {} if routed else {"unit_id": None, "commune": "95008"}
    body = referrals.body(external_reference=f"walk-{referrals.read}", **changes)
    walk = Walk(referrals, await received_in_a_batch(referrals, body) if batch else await referrals.receive(**body))
    walk._hear(await referrals.said())

    for name in ["accept" if routed else "assign here", *steps]:
        await walk.step(name)


async def _forgotten(*_: Any) -> None:
    """What a planted fault leaves undone."""


async def _not_counted(session: AsyncSession, referral: Referral) -> bool:
    return referral.contacted


async def _as_it_was(session: AsyncSession, person: Person) -> Any:
    return person.known_to_services


@pytest.mark.parametrize(
    ("fault", "instead", "because"),
    [
        ("take_back", _forgotten, "what was noted is not what was told"),
        ("recount", _not_counted, "the first contact is not that of those that are left"),
        ("_known_without_what_was_withdrawn", _as_it_was, "who knows the person is not what is left of what was said"),
        ("_check_nothing_rests", _forgotten, "what was done rests on nobody's having been reached"),
    ],
)
async def test_planted_a_withdrawal_that_leaves_something_behind_is_seen(
    referrals: Referrals, monkeypatch: pytest.MonkeyPatch, fault: str, instead: Any, because: str
) -> None:
    monkeypatch.setattr(withdrawals, fault, instead)

    await seen_red(walked(referrals, TAKEN_BACK), because)
