"""Who decides about a parked event is named as the audit log names them."""

from typing import Any
from uuid import uuid4

import pytest

from libs.chassis import parking, streams
from tests.services.referrals.conftest import Referrals

ATTRIBUTES = {
    "id": "1",
    "source": "/partners",
    "type": "fr.maillon.post.vacant.v1",
    "subject": "posts/1",
    "datacontenttype": "application/json",
}


@pytest.mark.parametrize(("operation", "body"), [("discard", {"reason": "une fausse manœuvre"}), ("replay", None)])
async def test_who_decided_about_a_parked_event_is_named_where_many_share_a_client(
    referrals: Referrals, monkeypatch: pytest.MonkeyPatch, operation: str, body: dict[str, str] | None
) -> None:
    assert referrals.runtime.consumer is not None
    projector, person = referrals.runtime.consumer.projector, str(uuid4())
    record = streams.Record("internal", 1, 9_000, bytes(32), streams.canonical(ATTRIBUTES), b"{}")

    async def well(*_: Any) -> None: ...

    monkeypatch.setattr(projector, "replay_one", well)
    await projector.ensure_cursors()
    async with referrals.runtime.database.transaction() as session:
        await parking.park(session, projector.projection, "partners", [parking.Parked(record, "failed", "ValueError")])
        [letter] = await parking.page(session, status="parked", after=None, limit=10)
    headers = {"Authorization": f"Bearer {referrals.issuer.issue('administrator', client_id='console', sub=person)}"}

    decided = await referrals.client.post(
        f"/v1/dead-letters/{letter.id}/{operation}", json=body, headers=headers | {"Idempotency-Key": operation}
    )

    assert decided.status_code == 200, decided.text
    assert (await referrals.get("administrator", f"/v1/dead-letters/{letter.id}")).json()["decided_by"] == person
