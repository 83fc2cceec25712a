"""A process that does the job of checkpoints for partners, and the archive of its log."""

import json
from types import SimpleNamespace
from typing import Any, cast

from structlog.testing import capture_logs

from libs.chassis.audit import checkpoint_audit
from libs.chassis.database import Database
from libs.chassis.runtime import Runtime
from libs.chassis.signing import Signer


def process(database: Database, signer: Signer) -> Runtime:
    """What the job needs of a runtime."""
    return cast(Runtime, SimpleNamespace(database=database, signer=signer, service=SimpleNamespace(name="partners"), signed_head=None))


async def logged(runtime: Runtime) -> list[Any]:
    """What one turn of the job writes."""
    with capture_logs() as lines:
        await checkpoint_audit(runtime)
    return lines


async def archived(runtime: Runtime) -> str:
    """The same as lines of an archive."""
    return "".join(json.dumps(line) + "\n" for line in await logged(runtime))
