"""The baseline of `intake`: FastAPI and asyncpg, two INSERTs in a transaction, and nothing else. `python -m tests.bench.bare PORT URL`."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel

from libs.embedded.broker import HOST


class Body(BaseModel):
    external_reference: str
    commune: str
    urgency: str
    channel: str
    persons: list[dict[str, Any]]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(sys.argv[2], min_size=10, max_size=10) as pool:
        await pool.execute(
            "CREATE TABLE IF NOT EXISTS received (id uuid PRIMARY KEY, reference text, commune text, urgency text, channel text)"
        )
        await pool.execute("CREATE TABLE IF NOT EXISTS said (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, data text)")
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/", status_code=201)
async def receive(body: Body, request: Request) -> dict[str, str]:
    made = uuid4()
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO received VALUES ($1, $2, $3, $4, $5)", made, body.external_reference, body.commune, body.urgency, body.channel
        )
        await connection.execute("INSERT INTO said (data) VALUES ($1)", json.dumps({"id": str(made), "persons": len(body.persons)}))
    return {"id": str(made)}


if __name__ == "__main__":
    uvicorn.run(app, host=HOST, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="warning")
