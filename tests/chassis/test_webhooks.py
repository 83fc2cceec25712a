"""One delivery: what it carries, and where it refuses to go."""

import asyncio
import ipaddress
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks import Webhook, WebhookVerificationError

from libs.chassis import webhooks
from libs.chassis.streams import GENESIS, Record, canonical
from libs.chassis.webhooks import Policy, Sender, Undeliverable, UrlRefused, checked_url, headers_of, new_secret, resolve
from tests.chassis.receiving import answering, certificate, receiver

PRODUCTION = Policy()
DEVELOPMENT = Policy(loopback=True)
DATA = '{"commune":"95127","note":"é"}'.encode()
RECORD = Record(
    "departement:95",
    1,
    7,
    GENESIS,
    canonical(
        {
            "specversion": "1.0",
            "id": "018f",
            "source": "urn:maillon:partners",
            "type": "fr.maillon.unit.closed.v1",
            "subject": 'units/é "1"%',
            "time": "2026-11-23T08:00:00.000000Z",
            "datacontenttype": "application/json",
        }
    ),
    DATA,
)


def names(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[str]:
    """Every host name has these addresses, the next one at each question when there are several. Gives the names that were asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        if host == "nowhere.example":
            raise OSError
        found = answers[min(len(asked), len(answers)) - 1].split()
        return [(2, 1, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


# What a delivery carries


def test_a_delivery_is_a_cloudevent_as_its_own_library_reads_it() -> None:
    headers = headers_of(RECORD, [new_secret()], datetime.now(UTC))

    event = from_binary_event(HTTPMessage(headers, DATA), JSONFormat())

    assert event.get_attributes()["subject"] == 'units/é "1"%'
    assert event.get_attributes()["sequence"] == "7"
    assert event.get_attributes()["previousdigest"] == GENESIS.hex()
    assert event.get_data() == json.loads(DATA)
    assert headers["content-type"] == "application/json"
    assert all(value.isascii() for value in headers.values())


def test_a_delivery_is_signed_as_standard_webhooks_says() -> None:
    secret, other = new_secret(), new_secret()

    headers = headers_of(RECORD, [secret], datetime.now(UTC))

    assert headers["webhook-id"] == "018f"
    Webhook(secret).verify(DATA, headers)
    for wrong, body in ((other, DATA), (secret, DATA + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(wrong).verify(body, headers)


def test_while_a_secret_is_replaced_both_sign() -> None:
    old, new = new_secret(), new_secret()

    headers = headers_of(RECORD, [new, old], datetime.now(UTC))

    Webhook(old).verify(DATA, headers)
    Webhook(new).verify(DATA, headers)


async def test_the_bytes_that_arrive_are_those_that_are_stored() -> None:
    async with receiver() as theirs, Sender(DEVELOPMENT).to(theirs.url()) as channel:
        await channel.post(headers_of(RECORD, [new_secret()], datetime.now(UTC)), RECORD.data)
        await channel.post(headers_of(RECORD, [new_secret()], datetime.now(UTC)), RECORD.data)

        assert [one.body for one in theirs.received] == [DATA, DATA]
        assert theirs.received[0].path == "/maillon?room=1"
        assert theirs.received[0].headers["host"] == f"127.0.0.1:{theirs.port}"
        assert theirs.connections == 1


# Where it may go

URLS = {
    "https://recepteur.example/maillon": True,
    "https://recepteur.example:8443/a?b=c": True,
    "https://93.184.216.34/": True,
    "http://recepteur.example/": False,
    "ftp://recepteur.example/": False,
    "file:///etc/passwd": False,
    "https://": False,
    "https:///path": False,
    "recepteur.example": False,
    "": False,
    "https://user:secret@recepteur.example/": False,
    "https://user@recepteur.example/": False,
    "https://recepteur.example/#part": False,
    "https://recepteur.example:0/": False,
    "https://recepteur.example:99999/": False,
    "https://127.0.0.1/": False,
    "https://127.1/": True,  # a name to us; the resolver makes 127.0.0.1 of it, which is refused then
    "https://[::1]/": False,
    "https://[::ffff:127.0.0.1]/": False,
    "https://[::ffff:10.0.0.1]/": False,
    "https://[64:ff9b::a00:1]/": False,
    "https://[2002:a00:1::]/": False,
    "https://[fe80::1]/": False,
    "https://[fd00::1]/": False,
    "https://10.1.2.3/": False,
    "https://172.16.0.1/": False,
    "https://192.168.1.1/": False,
    "https://169.254.169.254/latest/meta-data": False,
    "https://100.64.0.1/": False,
    "https://0.0.0.0/": False,
    "https://224.0.0.1/": False,
    "https://255.255.255.255/": False,
    "https://recepteur.example/" + "a" * 2000: False,
    "https://récepteur.example/": False,
    "https://recepteur.example/\x00": False,
    "https://recepteur.example/a b": True,
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_accepted_or_refused_when_it_is_subscribed(url: str) -> None:
    try:
        checked_url(url, PRODUCTION)
        accepted = True
    except UrlRefused:
        accepted = False

    assert accepted is URLS[url]


@pytest.mark.parametrize(
    "addresses",
    [
        *("127.0.0.1", "10.0.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1"),  # noqa: S104  # addresses to refuse
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:192.168.0.1", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "2001::1", "93.184.216.34 10.0.0.1"),
    ],
)
async def test_a_name_that_leads_inside_is_refused(addresses: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, addresses)

    with pytest.raises(Undeliverable, match="address-refused"):
        await resolve(httpx.URL("https://recepteur.example/"), PRODUCTION)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
async def test_a_public_address_is_reached(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, address)

    assert await resolve(httpx.URL("https://recepteur.example/"), PRODUCTION) == address


async def test_a_private_network_is_reached_when_the_operator_opened_it(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "10.20.3.4", "10.21.3.4")
    closed_network = Policy(networks=(ipaddress.ip_network("10.20.0.0/16"),))

    assert await resolve(httpx.URL("https://recepteur.interieur.example/"), closed_network) == "10.20.3.4"
    with pytest.raises(Undeliverable, match="address-refused"):
        await resolve(httpx.URL("https://recepteur.interieur.example/"), closed_network)


async def test_plain_http_reaches_this_machine_only_and_only_in_development(monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, "127.0.0.1", "93.184.216.34")

    assert await resolve(httpx.URL("http://localhost/"), DEVELOPMENT) == "127.0.0.1"
    with pytest.raises(Undeliverable, match="address-refused"):
        await resolve(httpx.URL("http://recepteur.example/"), DEVELOPMENT)


async def test_the_checked_address_is_the_one_connected_to_although_the_name_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: a name that is public when checked and private when used."""
    asked = names(monkeypatch, "93.184.216.34", "127.0.0.1")
    reached: list[str] = []

    async def connect(*_: Any, host: str = "", **__: Any) -> Any:
        reached.append(host)
        raise OSError

    monkeypatch.setattr("anyio.connect_tcp", lambda remote_host, *_, **__: connect(host=remote_host))

    async with Sender(PRODUCTION).to("https://recepteur.example/") as channel:
        with pytest.raises(Undeliverable, match="connect"):
            await channel.post({}, b"{}")

    assert reached == ["93.184.216.34"]
    assert asked == ["recepteur.example"]


async def test_planted_a_sender_that_connects_to_the_name_is_led_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as theirs:
        names(monkeypatch, "93.184.216.34", "127.0.0.1")
        monkeypatch.setattr(Policy, "admits", lambda *_: True)
        monkeypatch.setattr(webhooks, "checked_url", lambda text, _: httpx.URL(text))

        async def name_itself(url: httpx.URL, policy: Policy) -> str:
            await resolve(url, policy)
            return url.host

        monkeypatch.setattr(webhooks, "resolve", name_itself)
        async with Sender(DEVELOPMENT).to(theirs.url(host="recepteur.example")) as channel:
            await channel.post(headers_of(RECORD, [new_secret()], datetime.now(UTC)), RECORD.data)

        assert len(theirs.received) == 1


# What goes wrong


@pytest.mark.parametrize(
    ("status", "code"), [(500, "http-500"), (404, "http-404"), (410, "http-410"), (302, "redirect"), (304, "redirect")]
)
async def test_an_answer_that_is_no_success_says_which(status: int, code: str) -> None:
    async with receiver() as theirs, receiver() as elsewhere:
        theirs.answer = answering(status, f"Location: {elsewhere.url()}", "Retry-After: 7")

        async with Sender(DEVELOPMENT).to(theirs.url()) as channel:
            with pytest.raises(Undeliverable) as failure:
                await channel.post({}, b"{}")

        assert failure.value.code == code
        assert elsewhere.received == []
        assert failure.value.retry_after_seconds == (None if code == "redirect" else 7)


@pytest.mark.parametrize("retry_after", ["-1", "soon", "²", "99999999"])
async def test_a_wish_to_wait_is_bounded(retry_after: str) -> None:
    async with receiver() as theirs:
        theirs.answer = lambda _: b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\nRetry-After: " + retry_after.encode("latin-1") + b"\r\n\r\n"

        async with Sender(DEVELOPMENT).to(theirs.url()) as channel:
            with pytest.raises(Undeliverable) as failure:
                await channel.post({}, b"{}")

    assert failure.value.retry_after_seconds == (3600 if retry_after == "99999999" else None)


async def test_an_endless_answer_is_not_read() -> None:
    async with receiver() as theirs:
        theirs.answer = lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + b"x" * 1_000_000

        async with Sender(DEVELOPMENT).to(theirs.url()) as channel:
            await asyncio.wait_for(channel.post({}, b"{}"), 60)


async def test_a_receiver_that_never_answers_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "_SECONDS", 0.3)
    async with receiver() as theirs:
        theirs.answer = lambda _: b"HTTP/1.1 200 OK\r\n"

        async with Sender(DEVELOPMENT).to(theirs.url()) as channel:
            with pytest.raises(Undeliverable, match="timeout"):
                await channel.post({}, b"{}")


async def test_a_receiver_that_hangs_up_or_talks_nonsense_is_a_failure() -> None:
    async with receiver() as theirs:
        for answer in (None, b"SSH-2.0-nonsense\r\n\r\n"):
            theirs.answer = lambda _, answer=answer: answer  # type: ignore[misc]  # the default binds the loop's value
            async with Sender(DEVELOPMENT).to(theirs.url()) as channel:
                with pytest.raises(Undeliverable, match="protocol"):
                    await channel.post({}, b"{}")


async def test_nobody_there_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as theirs:
        url = theirs.url()
    async with Sender(DEVELOPMENT).to(url) as channel:
        with pytest.raises(Undeliverable, match="connect"):
            await channel.post({}, b"{}")
    names(monkeypatch, "")
    for nowhere in ("https://nowhere.example/", "https://empty.example/"):
        with pytest.raises(Undeliverable, match="dns"):
            async with Sender(PRODUCTION).to(nowhere):
                pass


async def test_the_certificate_must_be_the_names_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls, trusted = certificate(tmp_path, "recepteur.example")
    async with receiver(tls) as theirs:
        names(monkeypatch, "127.0.0.1")

        async with Sender(DEVELOPMENT).to(theirs.url("https", "recepteur.example")) as channel:
            with pytest.raises(Undeliverable, match="tls"):
                await channel.post({}, b"{}")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        async with Sender(DEVELOPMENT).to(theirs.url("https", "autre.example")) as channel:
            with pytest.raises(Undeliverable, match="tls"):
                await channel.post({}, b"{}")
        async with Sender(DEVELOPMENT).to(theirs.url("https", "recepteur.example")) as channel:
            await channel.post({}, b"{}")

        assert [one.headers["host"] for one in theirs.received] == [f"recepteur.example:{theirs.port}"]
