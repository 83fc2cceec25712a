"""A creating request may be repeated: same `Idempotency-Key`, same content, same answer, one effect.

The key's row is inserted first, in the command's own transaction: a twin in flight waits on the unique key for the first one's commit, then
gets its answer. A refusal rolls the row back with everything else: it changed nothing, so nothing is remembered. Answers are stored as the bytes
that were sent; creating answers never hold personal content.

Keys belong to `Principal.owner`: a client, or one person where many share a client. The access table is asked before any replay, the perimeter of the object
is not: whoever lost it since may have the answer again that their own request was given while they had it, as long as keys are kept, and nothing
of what became of the object. What is not in the stored answer (a secret) is looked at anew, with the rights of the moment.
"""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Annotated, ClassVar, NamedTuple

from fastapi import Depends, Request
from pydantic import BaseModel
from pydantic_core import to_json
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from libs.chassis.database import Database, Statement, run, sqlstate
from libs.chassis.etag import etag_of
from libs.chassis.refusals import Conflict, Invalid, Malformed
from libs.chassis.security import caller_of
from libs.chassis.strict import one_header

KEY_PATTERN = "^[!-~]{1,200}$"
_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)
WAIT = "4s"
"""How long a twin waits for the first one: longer than any command takes, shorter than a client's patience."""
_LOCK_NOT_AVAILABLE = "55P03"


class KeyMissing(Malformed):
    type: ClassVar[str] = "idempotency-key-missing"
    title: ClassVar[str] = "Clé d'idempotence attendue"


class KeyReused(Invalid):
    """The key was used for another request: a bug of the caller, or a clash of its keys."""

    type: ClassVar[str] = "idempotency-key-reused"
    title: ClassVar[str] = "Clé d'idempotence déjà utilisée"


class InFlight(Conflict):
    type: ClassVar[str] = "idempotency-in-flight"
    title: ClassVar[str] = "Demande en cours"


class Claim(NamedTuple):
    """One request: whose (`Principal.owner`), which key, and what exactly is asked (operation, path and body)."""

    client: str
    key: str
    operation: str
    digest: bytes


class Stored(NamedTuple):
    """An answer as it was sent."""

    status: int
    headers: dict[str, str]
    body: bytes


def claim_of(client: str, key: str, operation: str, path: str, body: bytes) -> Claim:
    return Claim(client, key, operation, sha256(b"%b\0%b\0%b" % (operation.encode(), path.encode(), body)).digest())


# set_config sets the lock timeout within this very statement, before a row is inserted: no statement of its own. The rows come in the order of
# their keys, so that two batches never wait for each other crosswise.
_CLAIM = Statement(
    "WITH waiting AS MATERIALIZED (SELECT set_config('lock_timeout', :wait, true) AS lasting)"
    " INSERT INTO idempotency_keys (client, key, operation, digest)"
    " SELECT c.client, c.key, c.operation, c.digest FROM waiting, unnest(CAST(:clients AS text[]), CAST(:keys AS text[]),"
    " CAST(:operations AS text[]), CAST(:digests AS bytea[])) AS c (client, key, operation, digest)"
    " WHERE waiting.lasting IS NOT NULL ORDER BY c.client, c.key ON CONFLICT DO NOTHING RETURNING client, key"
)
_READ = Statement(
    "SELECT k.client, k.key, k.operation, k.digest, k.status, k.headers, k.body FROM idempotency_keys AS k"
    " JOIN unnest(CAST(:clients AS text[]), CAST(:keys AS text[])) AS c (client, key) ON k.client = c.client AND k.key = c.key"
)
_STORE = Statement(
    "UPDATE idempotency_keys AS k SET status = a.status, headers = a.headers, body = a.body"
    " FROM unnest(CAST(:clients AS text[]), CAST(:keys AS text[]), CAST(:statuses AS smallint[]), CAST(:headers AS text[]),"
    " CAST(:bodies AS bytea[])) AS a (client, key, status, headers, body) WHERE k.client = a.client AND k.key = a.key"
)

_RELEASE = Statement(
    "DELETE FROM idempotency_keys AS k USING unnest(CAST(:clients AS text[]), CAST(:keys AS text[])) AS c (client, key)"
    " WHERE k.client = c.client AND k.key = c.key"
)


async def claim(session: AsyncSession, claims: Sequence[Claim], *, wait: str | None = None) -> list[Stored | KeyReused | None]:
    """Take the keys, for many requests at once; in the order given: None (it is ours to do), the answer to replay, or the refusal to give.

    Of two equal keys in one call the second is in flight with the first: give each key once. Raises InFlight when a twin takes too long.
    """
    parameters = {
        "clients": [one.client for one in claims],
        "keys": [one.key for one in claims],
        "operations": [one.operation for one in claims],
        "digests": [one.digest for one in claims],
    }
    try:
        made = {(row["client"], row["key"]) for row in await run(session, _CLAIM, {"wait": wait or WAIT, **parameters})}
    except DBAPIError as error:
        if sqlstate(error) != _LOCK_NOT_AVAILABLE:
            raise
        raise InFlight("Une demande portant la même clé est en cours : réessayez dans un instant.", headers={"Retry-After": "1"}) from None
    taken = [one for one in claims if (one.client, one.key) not in made]
    if not taken:
        return [None] * len(claims)
    rows = await run(session, _READ, {"clients": [one.client for one in taken], "keys": [one.key for one in taken]})
    known = {(row["client"], row["key"]): row for row in rows}
    outcomes: list[Stored | KeyReused | None] = []
    for one in claims:
        row = known.get((one.client, one.key))
        if (one.client, one.key) in made:
            outcomes.append(None)
        elif row is None or row["status"] is None:  # swept between the two statements, or twice in this very batch
            raise InFlight("Une demande portant la même clé est en cours : réessayez dans un instant.", headers={"Retry-After": "1"})
        elif (row["operation"], row["digest"]) != (one.operation, one.digest):
            outcomes.append(KeyReused("Cette clé a déjà servi à une autre demande : prenez-en une nouvelle pour chaque demande."))
        else:
            outcomes.append(Stored(row["status"], json.loads(row["headers"]), row["body"]))
    return outcomes


async def store(session: AsyncSession, answers: Sequence[tuple[Claim, Stored]]) -> None:
    """Keep the answers beside their keys, in the same transaction as the commands."""
    if not answers:
        return
    await run(
        session,
        _STORE,
        {
            "clients": [one.client for one, _ in answers],
            "keys": [one.key for one, _ in answers],
            "statuses": [answer.status for _, answer in answers],
            "headers": [to_json(answer.headers).decode() for _, answer in answers],
            "bodies": [answer.body for _, answer in answers],
        },
    )


async def release(session: AsyncSession, claims: Sequence[Claim]) -> None:
    """Give back keys claimed in this transaction whose requests were refused: they changed nothing, so nothing is remembered."""
    if claims:
        await run(session, _RELEASE, {"clients": [one.client for one in claims], "keys": [one.key for one in claims]})


async def purge(session: AsyncSession, *, hours: int) -> int:
    """Forget answers older than that (at least 24 h, by the settings), a bounded number at a time. Returns how many."""
    result = await session.execute(
        text(
            "DELETE FROM idempotency_keys WHERE ctid = ANY (ARRAY(SELECT ctid FROM idempotency_keys"
            " WHERE created_at < now() - make_interval(hours => :hours) LIMIT 50000)) RETURNING 1"
        ),
        {"hours": hours},
    )
    return len(result.all())


def answer_of(answer: BaseModel | None, status: int, location: str | None = None) -> Stored:
    """The answer's bytes and headers: `Location` filled in from its fields, `ETag` from its `version`."""
    if answer is None:
        return Stored(status, {}, b"")
    headers = {"Content-Type": "application/json"}
    if location is not None:
        headers["Location"] = location.format_map(_Fields(answer))
    version = getattr(answer, "version", None)
    if isinstance(version, int):
        headers["ETag"] = etag_of(version)
    return Stored(status, headers, answer.model_dump_json().encode())


class _Fields(dict[str, object]):
    def __init__(self, answer: BaseModel) -> None:
        super().__init__()
        self._answer = answer

    def __missing__(self, name: str) -> object:
        return getattr(self._answer, name)


def response_of(stored: Stored, *, replayed: bool) -> Response:
    headers = {**stored.headers, "Idempotency-Replayed": "true"} if replayed else stored.headers
    return Response(stored.body, stored.status, headers)


def key_is_one(key: str) -> bool:
    """Whether a text may be a key."""
    return _KEY.fullmatch(key) is not None


def key_of(request: Request) -> str:
    """The request's Idempotency-Key. Raises KeyMissing, Malformed."""
    key = one_header(request.scope, "idempotency-key")
    if not key:
        raise KeyMissing("Donnez dans l'en-tête Idempotency-Key une clé neuve pour chaque demande, la même quand vous la répétez.")
    if not _KEY.fullmatch(key):
        raise Malformed("La clé d'idempotence a de 1 à 200 caractères ASCII visibles, sans espace.")
    return key


class OnceOnly:
    """`await once(lambda session: commands.register_unit(session, caller, body), status=201, location="/v1/units/{id}")`

    Opens the request's one transaction, claims the key, runs the command, keeps its answer, commits; or replays.
    """

    def __init__(self, database: Database, claim: Claim) -> None:
        self._database = database
        self.claim = claim

    async def __call__(
        self, command: Callable[[AsyncSession], Awaitable[BaseModel | None]], *, status: int = 201, location: str | None = None
    ) -> Response:
        async with self._database.transaction() as session:
            [outcome] = await claim(session, [self.claim])
            if isinstance(outcome, KeyReused):
                raise outcome
            if outcome is not None:
                return response_of(outcome, replayed=True)
            stored = answer_of(await command(session), status, location)
            await store(session, [(self.claim, stored)])
        return response_of(stored, replayed=False)


async def once_of(request: Request) -> OnceOnly:
    caller = await caller_of(request)
    operation: str = request.scope["route"].operation_id
    body = await request.body()
    database: Database = request.app.state.runtime.database
    return OnceOnly(database, claim_of(caller.owner, key_of(request), operation, request.scope["path"], body))


Once = Annotated[OnceOnly, Depends(once_of)]
"""For every POST that creates: 400 without `Idempotency-Key`, 422 when it was used for something else, 409 when its twin takes too long."""
