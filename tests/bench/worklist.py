"""`worklist`: every list and filter, and the counts, in a million referrals and a million orientations: p95 in milliseconds; the goal is 20.

Over the API (the whole of a request, one at a time), for the callers that have most: the social worker of a post with 4,000 referrals, the coordinator of
the largest département (one referral in 25), a national coordinator, the largest partner and a police system that sent half of everything; the first page
and the third in turns. Baseline: the same request, in turns, with a thousand referrals: the ratio tells what the million costs, whatever else the
machine does. MAILLON_EXPLAIN=1 writes the plan of each question to stderr.
"""

import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.serve import spare_the_collector
from libs.contracts import demonstration as d
from libs.contracts.territories import DEPARTEMENTS
from libs.contracts.vocabularies import Theme
from services.referrals.app import SERVICE
from tests.bench.ground import Ground, Line
from tests.serving import Served, served

REFERRALS = 1_000_000
TIMES = 40
FEW = 1_000

_NOT_SECONDARY = "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_constraint ON conindid = indexrelid"
_INDEXES = (
    "SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS made FROM pg_index"
    f" WHERE indrelid IN ('referrals'::regclass, 'orientations'::regclass) AND indexrelid::regclass::text NOT IN ({_NOT_SECONDARY})"
)

# Two years, evenly; what came in the last month is mostly open. Département 95 holds one in 25, its post of Cergy a tenth of that.
_FILL = """
INSERT INTO referrals (id, client_id, external_reference, unit_id, commune, departement, channel, urgency, principal_theme, themes, penal, natinf, danger,
    children_present, occurred_at, received_at, request_digest, status, post_id, routing, first_contact_at, accepted_at, closed_at, close_reason, declined_by,
    version, due_from, due_at, overdue_said, changed_at, awaits_contact, contacted,
    given_up_at)
SELECT md5('referral' || n)::uuid, CASE WHEN a < 0.5 THEN 'police-95' ELSE 'police-78' END, 'bench-' || n,
    CASE WHEN big AND b < 0.1 THEN CAST(:unit AS uuid) ELSE md5('unit' || departement || floor(b * 40))::uuid END,
    departement || lpad((
        CASE WHEN big AND c < 0.05 THEN 127 ELSE 1 + floor(power(c, 2) * 340) END)::text, 5 - length(departement), '0'), departement,
    'intervention',
    CASE WHEN e < 0.05 THEN 'immediate' WHEN e < 0.3 THEN 'priority' ELSE 'standard' END,
    theme, ARRAY[theme], NULL, '{}', false, 0, at, at, '\\x', status, post, '{}',
    CASE WHEN status IN ('closed', 'erased') OR (status = 'accepted' AND f < 0.7) THEN at + interval '20 hours' END, NULL, NULL, NULL, '{}', 1,
    at, at + interval '3 days', status NOT IN ('closed', 'erased') AND at < now() - interval '3 days',
    least(now(), at + CASE WHEN status IN ('closed', 'erased') THEN f * interval '60 days' ELSE f * interval '10 days' END),
    status IN ('unrouted', 'assigned') OR (status = 'accepted' AND f >= 0.7), status = 'accepted' AND f < 0.7,
    CASE WHEN status = 'closed' AND j < 0.03 THEN least(now(), at + b * interval '60 days') END
FROM (
    SELECT *, departement = '95' AS big,
        CASE WHEN at > now() - interval '30 days' THEN CASE WHEN g < 0.05 THEN 'unrouted' WHEN g < 0.3 THEN 'assigned' WHEN g < 0.7 THEN 'accepted' ELSE 'closed' END
             WHEN g < 0.002 THEN 'accepted' WHEN g < 0.01 THEN 'erased' ELSE 'closed' END AS status,
        CASE WHEN departement = '95' AND h < 0.1 THEN CAST(:post AS uuid) ELSE md5('post' || departement || floor(h * 6))::uuid END AS post,
        (CAST(:themes AS text[]))[1 + floor(power(i, 3) * 33)] AS theme
    FROM (
        SELECT n, now() - interval '730 days' * (1 - n::float / :referrals) AS at,
            CASE WHEN random() < 0.04 THEN '95' ELSE (CAST(:departements AS text[]))[1 + floor(random() * 100)] END AS departement,
            random() AS a, random() AS b, random() AS c, random() AS e, random() AS f, random() AS g, random() AS h, random() AS i,
            random() AS j
        FROM generate_series(1, :referrals) AS n
    ) drawn
) told
"""
_UNROUTED = "UPDATE referrals SET post_id = NULL WHERE status = 'unrouted'"
_ABSENT = """
INSERT INTO posts_heard (id, departement, employer_id, state, full_time_percent, channels, units, communes)
SELECT md5('post' || departement || n)::uuid, departement, md5('post' || n)::uuid, CASE n WHEN 0 THEN 'suspended' ELSE 'filled' END, 100, '{}', '{}', '{}'
FROM (SELECT DISTINCT departement FROM referrals) AS places, generate_series(0, 5) AS n
"""
_PERSONS = """
INSERT INTO persons (id, referral_id, position, role, sex, age_band, agreement, known_to_services, key_id, content)
SELECT md5('person' || id)::uuid, id, 0, 'victim', 'female', '25-39', 'accepted', 'unknown', id, '\\x' FROM referrals
"""
_ORIENTATIONS = """
INSERT INTO orientations (id, referral_id, departement, current_post_id, person_id, post_id, service_id, organization_id, partner_kind, need, status,
    requested_at, expires_at, version)
SELECT md5('orientation' || id)::uuid, id, departement, post_id, md5('person' || id)::uuid, coalesce(post_id, id), id,
    CASE WHEN a < 0.02 THEN CAST(:organization AS uuid) ELSE md5('organization' || floor(a * 20000))::uuid END, 'victim_support', 'victim_support',
    CASE WHEN received_at > now() - interval '30 days' THEN CASE WHEN b < 0.4 THEN 'requested' WHEN b < 0.7 THEN 'accepted' ELSE 'rejected' END
         WHEN b < 0.7 THEN 'completed' WHEN b < 0.9 THEN 'rejected' ELSE 'expired' END,
    received_at + interval '1 day', received_at + interval '15 days', 1
FROM (SELECT *, random() AS a, random() AS b FROM referrals) told
"""


async def fill(session: AsyncSession, referrals: int) -> None:
    """Rows straight into the tables, the same chances each time; secondary indexes are made afterwards."""
    await session.execute(text("SELECT setseed(0.2)"))
    indexes = (await session.execute(text(_INDEXES))).all()
    for index in indexes:
        await session.execute(text(f"DROP INDEX {index.name}"))
    departements = sorted(code for code in DEPARTEMENTS if code != "95")[:100]
    given: dict[str, Any] = {
        "referrals": referrals,
        "unit": d.UNIT_CERGY,
        "post": d.POST_CERGY,
        "themes": [theme.value for theme in Theme],
        "departements": departements,
    }
    await session.execute(text(_FILL), given)
    await session.execute(text(_UNROUTED))
    await session.execute(text(_PERSONS))
    await session.execute(text(_ABSENT))
    await session.execute(text(_ORIENTATIONS), {"organization": d.ASSOCIATION})
    for index in indexes:
        await session.execute(text(index.made))


def _since(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


OPEN = {"status": ["unrouted", "assigned", "accepted"]}
FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "open": OPEN,
    "closed": {"status": "closed"},
    "erased": {"status": "erased"},
    "unrouted": {"unrouted": "true"},
    "urgency": {"urgency": "immediate"} | OPEN,
    "closed and urgent": {"urgency": "immediate", "status": "closed"},
    "unit": {"unit": str(d.UNIT_CERGY)},
    "post": {"post": str(d.POST_CERGY)},
    "post and open": {"post": str(d.POST_CERGY)} | OPEN,
    "commune": {"commune": "95127"},
    "commune and open": {"commune": "95127"} | OPEN,
    "theme": {"theme": "couple_violence"},
    "rare theme": {"theme": "bereavement"},
    "rare theme, urgent": {"theme": "bereavement", "urgency": "immediate"},
    "theme and open": {"theme": "housing"} | OPEN,
    "post absent": {"post_absent": "true"},
    "overdue": {"overdue": "true"},
    "overdue and urgent": {"overdue": "true", "urgency": "immediate"},
    "given up": {"given_up": "true"},
    "given up and urgent": {"given_up": "true", "urgency": "immediate"},
    "received since": {"received_since": _since(7)},
    "changed since": {"changed_since": _since(1)},
    "changed since and accepted": {"changed_since": _since(30), "status": "accepted"},
}
ANSWERS: dict[str, dict[str, Any]] = {
    "all": {},
    "to answer": {"status": "requested"},
    "accepted or rejected": {"status": ["accepted", "rejected"]},
    "urgent": {"urgency": "immediate"},
    "urgent and to answer": {"urgency": ["immediate", "priority"], "status": "requested"},
    "since": {"requested_since": _since(7)},
    "answer before": {"answer_before": _since(-2)},
}
FOLLOWED: dict[str, dict[str, Any]] = {
    "all": {},
    "received": {"status": "received"},
    "contacted": {"status": "contacted"},
    "closed": {"status": "closed"},
    "unit": {"unit": str(d.UNIT_CERGY)},
    "since": {"received_since": _since(7)},
}
NATIONAL = "national coordinator"
WHO = {"social worker": "iscg-95", "coordinator": "coordinator-95", NATIONAL: NATIONAL, "partner": "partner-95", "police": "police-95"}


def questions() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Name, caller, address, query."""
    for caller, name in itertools.product(("social worker", "coordinator", NATIONAL), FILTERS):
        if not (caller == NATIONAL and name == "rare theme, urgent"):  # a nation's needle: nobody's worklist
            yield f"{caller}: {name}", caller, "/v1/referrals", FILTERS[name]
    for caller in ("social worker", "coordinator", NATIONAL):
        yield f"{caller}: counts", caller, "/v1/referral-counts", {}
    for caller, name in itertools.product(("partner", "coordinator", "social worker"), ANSWERS):
        yield f"{caller}: orientations, {name}", caller, "/v1/orientations", ANSWERS[name]
    for caller in ("partner", "coordinator", "social worker"):
        yield f"{caller}: orientations, counts", caller, "/v1/orientation-counts", {}
    for name in FOLLOWED:
        yield f"police: {name}", "police", "/v1/referral-statuses", FOLLOWED[name]


def token(up: Served, caller: str) -> dict[str, str]:
    issued = up.issuer.issue("coordinator-95", perimeter=["national"]) if caller == NATIONAL else up.issuer.issue(WHO[caller])
    return {"Authorization": f"Bearer {issued}"}


@dataclass
class Asked:
    """One question to one of the two databases, and how long the answers took."""

    up: Served
    caller: str
    address: str
    query: dict[str, Any]
    rows: int = 0
    took: list[float] = field(default_factory=list)

    async def prepare(self) -> None:
        """Finds the first page and one further on."""
        self.headers, far = token(self.up, self.caller), dict(self.query)
        for place in range(3):
            answer = await self.up.client.get(self.address, params=far, headers=self.headers)
            if answer.status_code != 200:
                raise RuntimeError(f"{self.address} answered {answer.status_code}: {answer.text}")
            found = answer.json()
            self.rows = len(found.get("items", ())) if place == 0 else self.rows
            if not found.get("next"):
                break
            far = self.query | {"cursor": found["next"]}
        self.pages = (self.query, far)

    async def once(self, turn: int) -> None:
        started = time.perf_counter()
        await self.up.client.get(self.address, params=self.pages[turn % 2], headers=self.headers)
        self.took.append((time.perf_counter() - started) * 1000)

    @property
    def p95(self) -> float:
        return statistics.quantiles(self.took, n=20)[-1]


async def prepared(up: Served, referrals: int) -> None:
    async with up.runtime.database.transaction() as session:
        await fill(session, referrals)
    connection = await up.runtime.database.connect()
    for table in ("referrals", "persons", "orientations"):
        await connection.execute(f"VACUUM (ANALYZE) {table}")
    await connection.close()


async def measure(on: Ground) -> list[Line]:
    lines = []
    async with served(SERVICE, await on.database("referrals")) as small, served(SERVICE, await on.database("referrals")) as large:
        for up, referrals in ((small, FEW), (large, REFERRALS)):
            on.say(f"fills {referrals:,} referrals")
            await prepared(up, referrals)
        spare_the_collector()  # as a service's process does
        for name, caller, address, query in questions():
            on.say(name)
            few, many = Asked(small, caller, address, query), Asked(large, caller, address, query)
            for one in (few, many):
                await one.prepare()
            for turn in range(TIMES):
                await few.once(turn)
                await many.once(turn)
            ratio = statistics.median(many.took) / statistics.median(few.took)
            lines.append(Line(f"worklist: {name} ({many.rows} rows)", many.p95, few.p95, ratio, "ms p95"))
            if os.environ.get("MAILLON_EXPLAIN"):
                await explain(large, name, caller, address, query)
    return lines


async def explain(up: Served, name: str, caller: str, address: str, query: dict[str, Any]) -> None:
    """The plans of what one request asks the database, to stderr."""
    asked: list[asyncpg.connection.LoggedQuery] = []
    async with up.runtime.database.asking() as connection:  # the pool's only one, as nobody else asks
        connection.add_query_logger(asked.append)
    await up.client.get(address, params=query, headers=token(up, caller))
    connection.remove_query_logger(asked.append)
    connection = await up.runtime.database.connect()
    for one in asked:
        plan = await connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {one.query}", *one.args)
        sys.stderr.write(f"\n== {name}\n" + "\n".join(row[0] for row in plan) + "\n")
    await connection.close()
