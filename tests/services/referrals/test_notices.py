"""Notices: told with their cause, once, without a word about a person; sent to a real SMTP server."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
import trustme
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import text

from libs.chassis.health import Heartbeat
from libs.chassis.settings import SettingsError
from libs.contracts import demonstration as d
from services.referrals import notices
from services.referrals.app import SERVICE
from services.referrals.notices import mail as notice_mail
from services.referrals.settings import Settings
from tests.services.referrals.conftest import MORNING, Referrals, territory
from tests.serving import served
from tests.settings import settings_for

POST = f"post:{d.POST_CERGY}"


@dataclass
class Mailbox:
    """What a mail server took. `dies`: how many mails it takes and then dies before it says so; `refuses`: how many it refuses.

    `unknown`: it knows no address.
    """

    dies: int = 0
    refuses: int = 0
    unknown: bool = False
    taken: list[EmailMessage] = field(default_factory=list)
    port: int = 0

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        if self.unknown:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # aiosmtpd's name
        if self.refuses:
            self.refuses -= 1
            return "451 try again later"
        assert isinstance(envelope.content, bytes)
        self.taken.append(message_from_bytes(envelope.content, policy=policy.default))
        if self.dies:
            self.dies -= 1
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        return "250 OK"


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[Mailbox]:
    box = Mailbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(box, tls_context=tls, require_starttls=tls is not None, hostname="localhost", loop=loop), "127.0.0.1", 0
    )
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()


@asynccontextmanager
async def mailing(database_url: Callable[[str | None], str], box: Mailbox, **settings: Any) -> AsyncIterator[Referrals]:
    given = {"smtp_host": "127.0.0.1", "smtp_port": box.port, "smtp_security": "plain"} | settings
    async with served(SERVICE, database_url("referrals"), **given) as up:
        made = Referrals(up.client, up.runtime, up.issuer, up.openapi)
        await made.hear("partners", *territory())
        yield made


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mail_server() as made:
        yield made


@pytest.fixture
async def referrals(database_url: Callable[[str | None], str], box: Mailbox) -> AsyncIterator[Referrals]:
    async with mailing(database_url, box) as made:
        yield made


async def prefer(referrals: Referrals, who: str, recipient: str, mode: str, version: int = 0, **more: Any) -> Any:
    body = {"address": "poste@maillon.example", "mode": mode} | more
    headers = referrals.token(who) | {"If-Match": f'"{version}"'}
    answer = await referrals.client.put(f"/v1/notice-preferences/{recipient}", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def send(referrals: Referrals) -> None:
    await notice_mail.send_due(referrals.runtime, Heartbeat("notices", 60))


async def mails(referrals: Referrals) -> list[Any]:
    return await referrals.rows("SELECT state, attempts, last_failure FROM notice_mails ORDER BY id")


async def hurry(referrals: Referrals, statement: str) -> None:
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text(statement))


async def retry(referrals: Referrals) -> None:
    await hurry(referrals, "UPDATE notice_mails SET next_attempt_at = now()")
    await send(referrals)


async def test_an_urgent_referral_is_told_at_once_with_nothing_but_a_link(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "digest")
    referral_id = await referrals.receive(urgency="immediate")

    await send(referrals)
    await send(referrals)

    [mail] = box.taken
    assert mail["To"] == "poste@maillon.example"
    words = mail.as_string() + mail.get_content()
    assert f"/referrals/{referral_id}" in mail.get_content()
    for personal in ("Camille", "Exemple", "+3363998", "95127", "couple", "voisins", "bibliothèque", "test-1"):
        assert personal not in words


async def test_a_digest_waits_for_the_morning_and_brings_all_in_one_mail(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "digest")
    for _ in range(3):
        await referrals.receive(urgency="standard", danger=False)
    await send(referrals)
    assert box.taken == []

    await hurry(referrals, "UPDATE notices SET due_at = now()")
    await send(referrals)

    [mail] = box.taken
    assert mail["Subject"] == "Maillon : 3 notifications"
    assert mail.get_content().count("/v1/referrals/") == 3


async def test_a_digest_leaves_at_eight_in_paris() -> None:
    assert notices.next_digest(datetime(2026, 11, 24, 6, 59, tzinfo=UTC)).isoformat() == "2026-11-24T08:00:00+01:00"
    assert notices.next_digest(datetime(2026, 11, 24, 7, 0, tzinfo=UTC)).isoformat() == "2026-11-25T08:00:00+01:00"
    assert notices.next_digest(datetime(2026, 7, 1, 5, 59, tzinfo=UTC)).isoformat() == "2026-07-01T08:00:00+02:00"


async def test_who_wants_no_mail_is_sent_none_not_even_what_waited(referrals: Referrals, box: Mailbox) -> None:
    await referrals.receive()
    await prefer(referrals, "iscg-95", POST, "immediate")
    await referrals.receive()
    await prefer(referrals, "iscg-95", POST, "off", version=1)
    await referrals.receive()

    await send(referrals)

    assert box.taken == []
    assert [row.state for row in await mails(referrals)] == ["withdrawn"]


async def test_the_coordinator_is_told_of_a_referral_without_post(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "immediate")
    await referrals.receive(unit_id=None, commune="95008")
    await send(referrals)

    [mail] = box.taken
    assert "pas trouvé de poste" in mail["Subject"]


async def waiting(referrals: Referrals) -> list[tuple[str, bool]]:
    """What is to be told, and whether it goes at once."""
    rows = await referrals.rows("SELECT kind, due_at <= now() AS at_once FROM notices ORDER BY id")
    return [(row.kind, row.at_once) for row in rows]


@pytest.mark.parametrize(
    ("urgency", "danger", "kind", "at_once"),
    [
        ("immediate", False, "urgent_unrouted_referral", True),
        ("standard", True, "urgent_unrouted_referral", True),
        ("priority", False, "unrouted_referral", False),
    ],
)
async def test_in_a_digest_too_what_is_urgent_and_has_no_post_is_told_at_once(
    referrals: Referrals, urgency: str, danger: bool, kind: str, at_once: bool
) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "digest")

    await referrals.receive(unit_id=None, commune="95008", urgency=urgency, danger=danger)

    assert await waiting(referrals) == [(kind, at_once)]


async def test_an_urgent_referral_that_its_post_gives_back_is_told_at_once(referrals: Referrals) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "digest")
    referral_id = await referrals.receive(urgency="immediate")

    assert (await referrals.move("iscg-95", referral_id, "decline", {"reason": "absent"})).status_code == 200

    assert await waiting(referrals) == [("urgent_unrouted_referral", True)]


@pytest.mark.parametrize("learnt", [{"urgency": "immediate"}, {"danger": True}])
async def test_what_waits_for_a_digest_goes_at_once_when_it_turns_out_to_be_urgent(referrals: Referrals, learnt: dict[str, Any]) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "digest")
    calm: dict[str, Any] = {"unit_id": None, "commune": "95008", "urgency": "standard", "danger": False}
    urgent, other = await referrals.receive(**calm), await referrals.receive(**calm)

    for referral_id, changed in ((urgent, learnt), (other, {"children_present": 3})):
        assert (await referrals.move("coordinator-95", referral_id, "corrections", {"reason": "learned"} | changed)).status_code == 201

    assert await waiting(referrals) == [("urgent_unrouted_referral", True), ("unrouted_referral", False)]


@pytest.mark.parametrize("mode", ["digest", "immediate"])
async def test_a_mail_that_has_not_left_yet_says_that_the_referral_turned_out_to_be_urgent(
    referrals: Referrals, box: Mailbox, mode: str
) -> None:
    await prefer(referrals, "iscg-95", POST, mode)
    referral_id = await referrals.receive(urgency="standard", danger=False)

    learnt = {"reason": "learned", "danger": True}
    assert (await referrals.move("iscg-95", referral_id, "corrections", learnt)).status_code == 201
    await send(referrals)

    [mail] = box.taken
    assert mail["Subject"] == "Maillon : Une saisine urgente est affectée à votre poste."


async def test_a_partner_who_was_not_told_yet_is_told_at_once_that_the_orientation_turned_out_to_be_urgent(referrals: Referrals) -> None:
    partner = f"organization:{d.ASSOCIATION}"
    await prefer(referrals, "partner-95", partner, "digest")
    referral_id = await referrals.accepted(urgency="standard", danger=False)
    assert (await referrals.orient(referral_id)).status_code == 201
    before = await waiting(referrals)

    learnt = {"reason": "learned", "urgency": "immediate"}
    assert (await referrals.move("iscg-95", referral_id, "corrections", learnt)).status_code == 201

    assert before == [("orientation_to_answer", False)]
    assert await waiting(referrals) == [("orientation_urgent", True), ("orientation_updated", True)]


@pytest.mark.parametrize(
    ("who", "recipient", "mode", "calm", "kind"),
    [
        ("iscg-95", POST, {"mode": "digest", "left_out": ["new_referral"]}, {}, "urgent_referral"),
        ("coordinator-95", "departement:95", {"mode": "immediate"}, {"unit_id": None, "commune": "95008"}, "urgent_unrouted_referral"),
    ],
    ids=["a post that wants no new referrals told", "a coordinator whose first mail has left"],
)
async def test_what_turns_out_to_be_urgent_is_told_where_no_notice_of_it_waits(
    referrals: Referrals, who: str, recipient: str, mode: dict[str, Any], calm: dict[str, Any], kind: str
) -> None:
    await prefer(referrals, who, recipient, **mode)
    referral_id = await referrals.receive(urgency="standard", danger=False, **calm)
    await send(referrals)
    told = await waiting(referrals)

    for learnt in ({"urgency": "immediate"}, {"danger": True}, {"urgency": "standard"}):  # urgent once, and so it stays
        assert (await referrals.move(who, referral_id, "corrections", {"reason": "learned"} | learnt)).status_code == 201

    assert await waiting(referrals) == [*told, (kind, True)]


async def test_one_cause_is_told_once_however_often_it_is_said(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "immediate")
    referral_id = UUID(int=7)
    for _ in range(3):
        async with referrals.runtime.database.transaction() as session:
            await notices.notify(session, *notices.of_overdue(referral_id, d.POST_CERGY, "95", MORNING), now=datetime.now(UTC))
        await send(referrals)

    assert len(box.taken) == 1


async def test_a_cause_that_is_rolled_back_is_not_told(referrals: Referrals) -> None:
    await prefer(referrals, "coordinator-95", "departement:95", "immediate")

    with pytest.raises(ZeroDivisionError):
        async with referrals.runtime.database.transaction() as session:
            await notices.notify(session, *notices.of_overdue(UUID(int=7), None, "95", MORNING), now=datetime.now(UTC))
            raise ZeroDivisionError

    assert await referrals.rows("SELECT 1 FROM notices") == []


async def test_a_refused_mail_is_tried_again_and_sent_once(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate")
    await referrals.receive()
    box.refuses = 1

    await send(referrals)
    [failed] = await mails(referrals)
    await send(referrals)
    assert (failed.state, failed.last_failure, box.taken) == ("waiting", "smtp-451", [])

    await retry(referrals)
    await retry(referrals)
    assert len(box.taken) == 1
    assert [(row.state, row.attempts) for row in await mails(referrals)] == [("sent", 2)]


async def test_a_server_that_dies_with_the_mail_is_given_the_same_message_again(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate")
    await referrals.receive()
    box.dies = 1

    await send(referrals)
    assert [row.state for row in await mails(referrals)] == ["waiting"]
    await retry(referrals)
    await retry(referrals)

    first, second = box.taken
    assert first["Message-ID"] == second["Message-ID"]
    assert first.as_bytes() == second.as_bytes()
    assert [row.state for row in await mails(referrals)] == ["sent"]


async def test_a_sender_that_dies_before_its_mark_leaves_the_mail_to_another(
    referrals: Referrals, box: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate")
    await referrals.receive()

    async def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(notice_mail, "_close", killed)
        await send(referrals)
    await send(referrals)  # the lease holds: nobody else takes it yet
    assert len(box.taken) == 1
    await retry(referrals)

    assert len({mail["Message-ID"] for mail in box.taken}) == 1
    assert [row.state for row in await mails(referrals)] == ["sent"]


async def test_two_senders_never_take_the_same_mail(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate")
    for _ in range(4):
        await referrals.receive()
        await send_composed(referrals)

    await asyncio.gather(*(send(referrals) for _ in range(4)))

    assert len({mail["Message-ID"] for mail in box.taken}) == len(box.taken) == 4


async def send_composed(referrals: Referrals) -> None:
    async with referrals.runtime.database.transaction() as session:
        await notice_mail.compose(session, datetime.now(UTC))


def mail_at(referrals: Referrals, port: int) -> None:
    referrals.runtime.settings = referrals.runtime.settings.model_copy(update={"smtp_port": port})


async def undelivered(referrals: Referrals) -> int:
    count: int = (await referrals.get("iscg-95", f"/v1/notice-preferences/{POST}")).json()["undelivered"]
    return count


async def test_a_server_away_for_days_loses_nothing_and_after_three_it_is_said(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate")
    await referrals.receive()
    port, nobody = box.port, 9  # "discard": nothing listens there
    mail_at(referrals, nobody)
    await send(referrals)
    assert await undelivered(referrals) == 0

    await hurry(referrals, "UPDATE notice_mails SET created_at = now() - interval '4 days'")
    await retry(referrals)
    assert [row.state for row in await mails(referrals)] == ["waiting"]
    assert await undelivered(referrals) == 1

    mail_at(referrals, port)
    await retry(referrals)
    assert [row.state for row in await mails(referrals)] == ["sent"]
    assert (len(box.taken), await undelivered(referrals)) == (1, 0)


async def test_what_an_address_that_is_refused_for_good_did_not_take_is_sent_to_the_next_one(referrals: Referrals, box: Mailbox) -> None:
    await prefer(referrals, "iscg-95", POST, "immediate")
    await referrals.receive()
    box.unknown = True
    await send(referrals)
    assert [(row.state, row.last_failure) for row in await mails(referrals)] == [("waiting", "recipient-550")]
    await hurry(referrals, "UPDATE notice_mails SET created_at = now() - interval '4 days'")
    await retry(referrals)
    await retry(referrals)
    assert [(row.state, row.attempts) for row in await mails(referrals)] == [("abandoned", 2)]
    assert await undelivered(referrals) == 1

    box.unknown = False
    await prefer(referrals, "iscg-95", POST, "immediate", version=1, address="nouvelle@maillon.example")
    await send(referrals)

    assert [mail["To"] for mail in box.taken] == ["nouvelle@maillon.example"]
    assert await undelivered(referrals) == 0


async def test_mail_goes_over_tls_and_not_to_a_server_it_does_not_know(database_url: Callable[[str | None], str], tmp_path: Any) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with mail_server(context) as box:
        for cafile, taken in ((None, 0), (str(tmp_path / "ca.pem"), 1)):
            async with mailing(database_url, box, smtp_security="starttls", smtp_cafile=cafile) as referrals:
                await prefer(referrals, "iscg-95", POST, "immediate")
                await referrals.receive()
                await send(referrals)
                assert len(box.taken) == taken


def test_production_does_not_send_mail_in_the_clear() -> None:
    good = settings_for("referrals", Settings).model_dump() | {
        "environment": "production",
        "kafka_allow_plaintext": True,
        "database_allow_plaintext": True,
        "http_allow_plaintext": True,
        "smtp_host": "mail.example",
    }
    assert Settings.load(**good).smtp_security == "starttls"
    with pytest.raises(SettingsError, match="SMTP_SECURITY"):
        Settings.load(**good | {"smtp_security": "plain"})


async def test_an_address_is_kept_sealed_and_shown_to_its_owner(referrals: Referrals) -> None:
    made = await prefer(referrals, "iscg-95", POST, "immediate")

    assert (made["address"], made["version"], made["own"]) == ("poste@maillon.example", 1, True)
    [row] = await referrals.rows("SELECT address FROM notice_preferences")
    assert b"maillon" not in row.address


@pytest.mark.parametrize(
    ("who", "recipient", "status"),
    [
        ("iscg-95", POST, 200),
        ("iscg-78", POST, 404),
        ("iscg-95", "departement:95", 404),
        ("coordinator-95", "departement:95", 200),
        ("coordinator-78", "departement:95", 404),
        ("partner-95", f"organization:{d.ASSOCIATION}", 200),
        ("partner-78", f"organization:{d.ASSOCIATION}", 404),
        ("iscg-95", f"organization:{d.SHELTER}", 200),
        ("iscg-95", f"organization:{d.ASSOCIATION_78}", 404),
        ("police-95", POST, 403),
    ],
)
async def test_a_preference_is_its_recipients_business(referrals: Referrals, who: str, recipient: str, status: int) -> None:
    read = await referrals.get(who, f"/v1/notice-preferences/{recipient}")
    headers = referrals.token(who) | {"If-Match": '"0"'}
    body = {"address": "a@maillon.example", "mode": "immediate"}
    written = await referrals.client.put(f"/v1/notice-preferences/{recipient}", json=body, headers=headers)

    assert (read.status_code, written.status_code) == (status, status)


async def test_what_an_organization_set_itself_nobody_else_changes_or_reads(referrals: Referrals) -> None:
    recipient = f"organization:{d.ASSOCIATION}"
    await prefer(referrals, "coordinator-95", recipient, "immediate", by_link=True)
    await prefer(referrals, "partner-95", recipient, "digest", version=1)

    headers = referrals.token("coordinator-95") | {"If-Match": '"2"'}
    body = {"address": "a@maillon.example", "mode": "immediate"}
    refused = await referrals.client.put(f"/v1/notice-preferences/{recipient}", json=body, headers=headers)
    read = await referrals.get("coordinator-95", f"/v1/notice-preferences/{recipient}")

    assert refused.status_code == 409
    assert refused.json()["type"].endswith("preference-held")
    assert (read.json()["address"], read.json()["own"]) == (None, True)
