"""The mails of notices: composed and sent beside everything else, by any replica.

The guarantee, and its limit. A notice is in the database with its cause: it is never lost, whatever dies. A mail is made once of one or more
notices, and each replica claims it before it speaks to the server (a lease; SKIP LOCKED). It is marked as sent after the server's 250. SMTP has no
exactly once: when the server took the mail and died, or we did, before that mark, it is sent again — with the **same Message-ID and Date**, by which
mail systems recognise it. Nothing else is ever sent twice for one cause.

What no server took is tried for as long as it takes, once an hour at last. Only an address that is refused for good (SMTP 5xx, RFC 5321 4.2.1), and still
after `GIVE_UP_AFTER`, is not asked again: its mails wait for another address. Both are counted where the preference is read (`undelivered`).
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any, Final, cast
from urllib.parse import urlsplit
from uuid import UUID

import aiosmtplib
import structlog
from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis.health import Heartbeat
from libs.chassis.ids import new_id
from libs.chassis.runtime import Runtime
from libs.chassis.telemetry import REGISTRY
from services.referrals.notices import NoticeKind
from services.referrals.notices.preferences import ADDRESS
from services.referrals.orientations.links import Links
from services.referrals.settings import Settings

_log = structlog.get_logger(__name__)

MAILS = Counter("maillon_notice_mails_total", "Mails of notices", ["outcome"], registry=REGISTRY)
POLL_SECONDS: Final = 2.0
LEASE: Final = timedelta(minutes=3)
"""Longer than one sending may take (`SEND_SECONDS`): nobody else takes the mail meanwhile."""
SEND_SECONDS: Final = 60.0
GIVE_UP_AFTER: Final = timedelta(days=3)
"""From then on a mail that nobody took is told as undelivered."""
_LISTS: Final[Mapping[str, str]] = {
    NoticeKind.ENDS_ANNOUNCED: "announced-ends",
    NoticeKind.ENDS_HELD: "held-ends",
    NoticeKind.ERASURES_UNCONFIRMED: "erasures?waiting=true",
}
"""Where to look when it is about several."""
_MOST_NOTICES = 50
"""Of one mail; more go into the next."""

_COMPOSE = text(
    "WITH due AS (SELECT id, recipient FROM notices WHERE mail_id IS NULL AND due_at <= :now ORDER BY recipient, due_at, id LIMIT 500"
    " FOR UPDATE SKIP LOCKED) SELECT recipient, array_agg(id ORDER BY id) AS ids FROM due GROUP BY recipient ORDER BY recipient"
)
_MADE = text(
    "INSERT INTO notice_mails (id, recipient, created_at, state, attempts, next_attempt_at) VALUES (:id, :recipient, :now, 'waiting', 0, :now)"
)
_CLAIM = text(
    "UPDATE notice_mails SET attempts = attempts + 1, next_attempt_at = :until WHERE id = (SELECT id FROM notice_mails WHERE state = 'waiting'"
    " AND next_attempt_at <= :now ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id, recipient, created_at, attempts"
)
_PREFERENCE = text("SELECT key_id, address, mode FROM notice_preferences WHERE recipient = :recipient")
_NOTICES = text("SELECT kind, referral_id, orientation_id, link_id FROM notices WHERE mail_id = :mail ORDER BY id")


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail that this replica has claimed. `message` None: the recipient wants none any more."""

    id: UUID
    attempts: int
    created_at: datetime
    message: EmailMessage | None


async def compose(session: AsyncSession, now: datetime) -> int:
    """Make mails of what is due, all of one recipient's together. Returns how many notices were looked at."""
    count = 0
    for row in (await session.execute(_COMPOSE, {"now": now})).all():
        for start in range(0, len(row.ids), _MOST_NOTICES):
            some = row.ids[start : start + _MOST_NOTICES]
            mail = new_id()
            await session.execute(_MADE, {"id": mail, "recipient": row.recipient, "now": now})
            await session.execute(
                text("UPDATE notices SET mail_id = :mail WHERE id = ANY(CAST(:ids AS uuid[]))"), {"mail": mail, "ids": some}
            )
            count += len(some)
    return count


async def claim(session: AsyncSession, runtime: Runtime, now: datetime) -> Mail | None:
    """Take the next mail for as long as the lease lasts."""
    row = (await session.execute(_CLAIM, {"now": now, "until": now + LEASE})).one_or_none()
    if row is None:
        return None
    wanted = (await session.execute(_PREFERENCE, {"recipient": row.recipient})).one_or_none()
    if wanted is None or wanted.mode == "off":
        return Mail(row.id, row.attempts, row.created_at, None)
    address = (await runtime.vault.open_key(session, wanted.key_id)).open(wanted.address, context=ADDRESS).decode()
    notices = (await session.execute(_NOTICES, {"mail": row.id})).all()
    return Mail(row.id, row.attempts, row.created_at, _message(runtime, row.id, row.created_at, address, notices))


def _message(runtime: Runtime, mail_id: UUID, created_at: datetime, address: str, notices: Sequence[Any]) -> EmailMessage:
    """Sentences and links: no name, no place, no theme. The same bytes whenever it is made again."""
    settings = cast(Settings, runtime.settings)
    sentences = list(dict.fromkeys(NoticeKind(one.kind).label for one in notices))
    message = EmailMessage()
    message["From"] = settings.smtp_from
    message["To"] = address
    message["Subject"] = f"Maillon : {sentences[0]}" if len(notices) == 1 else f"Maillon : {len(notices)} notifications"
    message["Message-ID"] = f"<{mail_id}@{urlsplit(settings.public_url).hostname}>"
    message["Date"] = format_datetime(created_at.astimezone(UTC))
    message["Auto-Submitted"] = "auto-generated"
    lines = [f"{NoticeKind(one.kind).label}\n{_address(runtime, settings, one)}" for one in notices]
    ending = "Ce message est envoyé automatiquement et ne contient aucune donnée personnelle. Ne transférez pas les liens qu'il contient."
    message.set_content("Bonjour,\n\n" + "\n\n".join(lines) + f"\n\n{ending}\n", cte="quoted-printable")
    return message


def _address(runtime: Runtime, settings: Settings, notice: Any) -> str:
    """Where to look: the link of a partner without account, else the page of the desk, else the object itself; of an absent post what it leaves."""
    if notice.link_id is not None:
        return Links.of(runtime).url(notice.link_id)
    with_desk = settings.desk_url is not None or settings.desk_client_id is not None
    base = settings.desk_base if with_desk else f"{settings.public_url}/v1"
    if notice.kind in _LISTS:
        return f"{base}/{_LISTS[notice.kind]}"
    if notice.kind == NoticeKind.REFERRAL_TAKEN:  # it may not be read any more: its number tells which one it was
        return f"{base}/referrals#{notice.referral_id}"
    if notice.kind == NoticeKind.POST_ABSENT:
        return f"{base}/referrals?{'absent=yes' if with_desk else 'post_absent=true'}"
    return f"{base}/orientations/{notice.orientation_id}" if notice.orientation_id is not None else f"{base}/referrals/{notice.referral_id}"


async def _close(session: AsyncSession, mail: Mail, state: str, now: datetime) -> None:
    await session.execute(
        text(
            "UPDATE notice_mails SET state = :state, sent_at = CASE WHEN :state = 'sent' THEN CAST(:now AS timestamptz) END WHERE id = :id"
        ),
        {"id": mail.id, "state": state, "now": now},
    )


async def _failed(session: AsyncSession, mail: Mail, error: Exception, now: datetime) -> None:
    failure, late = _failure(error), now - mail.created_at > GIVE_UP_AFTER
    if late and _is_for_good(error):
        await session.execute(
            text("UPDATE notice_mails SET state = 'abandoned', last_failure = :failure WHERE id = :id"), {"id": mail.id, "failure": failure}
        )
        MAILS.labels("abandoned").inc()
        _log.error("notice.abandoned", mail=str(mail.id), failure=failure)
        return
    pause = min(timedelta(seconds=30 * 2 ** min(mail.attempts, 7)), timedelta(hours=1))
    await session.execute(
        text("UPDATE notice_mails SET next_attempt_at = :next, last_failure = :failure WHERE id = :id"),
        {"id": mail.id, "next": now + pause, "failure": failure},
    )
    MAILS.labels("failed").inc()
    (_log.error if late else _log.warning)("notice.failed", mail=str(mail.id), failure=failure, attempts=mail.attempts)


def _client(settings: Settings) -> aiosmtplib.SMTP:
    context = ssl.create_default_context(cafile=settings.smtp_cafile)
    password = settings.smtp_password
    return aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        use_tls=settings.smtp_security == "tls",
        start_tls=settings.smtp_security == "starttls",
        tls_context=None if settings.smtp_security == "plain" else context,
        username=settings.smtp_username,
        password=None if password is None else password.get_secret_value(),
        timeout=20,
    )


def _failure(error: Exception) -> str:
    """A code, never the server's words: they quote the address."""
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return f"recipient-{error.recipients[0].code}" if error.recipients else "recipient"
    code = getattr(error, "code", None)
    return f"smtp-{code}" if isinstance(code, int) else type(error).__name__


def _is_for_good(error: Exception) -> bool:
    """Whether it is the address that the server refuses, and not for now."""
    return isinstance(error, aiosmtplib.SMTPRecipientsRefused) and all(500 <= one.code < 600 for one in error.recipients)


async def send_one(runtime: Runtime) -> bool:
    """Claim one mail, send it, mark it. False: none was due."""
    settings = cast(Settings, runtime.settings)
    async with runtime.database.transaction() as session:
        mail = await claim(session, runtime, datetime.now(UTC))
    if mail is None:
        return False
    if mail.message is None:
        async with runtime.database.transaction() as session:
            await _close(session, mail, "withdrawn", datetime.now(UTC))
        return True
    failure: Exception | None = None
    client = _client(settings)
    try:
        async with asyncio.timeout(SEND_SECONDS):
            await client.connect()
            await client.send_message(mail.message)
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        failure = error
    finally:
        client.close()
    async with runtime.database.transaction() as session:
        if failure is not None:
            await _failed(session, mail, failure, datetime.now(UTC))
        else:
            await _close(session, mail, "sent", datetime.now(UTC))
            MAILS.labels("sent").inc()
    return True


async def send_due(runtime: Runtime, heartbeat: Heartbeat) -> None:
    """Everything that is due, once."""
    async with runtime.database.transaction() as session:
        await compose(session, datetime.now(UTC))
    while await send_one(runtime):
        heartbeat.beat()


async def run(runtime: Runtime, heartbeat: Heartbeat) -> None:
    """The loop. Without a mail server nothing is sent, and what there is to tell waits."""
    settings = cast(Settings, runtime.settings)
    while True:
        heartbeat.beat()
        if settings.smtp_host is not None:
            await send_due(runtime, heartbeat)
        await asyncio.sleep(POLL_SECONDS)
