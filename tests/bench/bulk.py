"""`bulk`: POST /v1/referrals/batch with all its work, one request, against a COPY of the very rows that it wrote into the same empty tables.

The baseline knows every row beforehand: ids drawn, persons sealed, events serialised. It is what PostgreSQL itself takes.
"""

import asyncio
import time
from io import BytesIO

import asyncpg

from libs.embedded.broker import HOST
from tests.bench.ground import Ground, Line, compared
from tests.bench.load import referral

LINES = 1000
TABLES = ("referrals", "persons", "vault_keys", "idempotency_keys", "outbox", "notices")
"""What receiving writes, in the order in which rows refer to each other."""


async def measure(on: Ground) -> list[Line]:
    url = await on.database("referrals")
    port, _ = await on.start("referrals", url, "api")
    token = await on.token("police-95")
    await sent(port, token, LINES // 10)

    async def one() -> tuple[float, float]:
        await _empty(url)
        ours = await sent(port, token, LINES)
        rows = await _rows(url)
        await _empty(url)
        return ours, await _copied(url, rows)

    return [compared("bulk", await on.rounds(one), "referrals/s")]


async def sent(port: int, token: str, lines: int) -> float:
    """Referrals a second of one request with so many lines. Raises RuntimeError unless each was created."""
    body = b"".join(b'{"key":"bulk-%d-%d","referral":%b}\n' % (time.time_ns(), number, referral()) for number in range(lines))
    head = f"POST /v1/referrals/batch HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n"
    head += f"Content-Type: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
    reader, writer = await asyncio.open_connection(HOST, port)
    started = time.perf_counter()
    writer.write(head.encode() + body)
    answer = await reader.read()
    seconds = time.perf_counter() - started
    writer.close()
    if answer.count(b'"outcome":"created"') != lines:
        raise RuntimeError(f"{lines} lines were answered: {answer[:1000].decode()}")
    return lines / seconds


async def _empty(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"TRUNCATE {', '.join(TABLES)} CASCADE")
    await connection.close()


async def _rows(url: str) -> dict[str, bytes]:
    connection = await asyncpg.connect(url)
    found = {}
    for table in TABLES:
        rows = BytesIO()
        await connection.copy_from_table(table, output=rows, format="binary")
        found[table] = rows.getvalue()
    await connection.close()
    return found


async def _copied(url: str, rows: dict[str, bytes]) -> float:
    connection = await asyncpg.connect(url)
    started = time.perf_counter()
    async with connection.transaction():
        for table in TABLES:
            await connection.copy_to_table(table, source=BytesIO(rows[table]), format="binary")
    seconds = time.perf_counter() - started
    await connection.close()
    return LINES / seconds
