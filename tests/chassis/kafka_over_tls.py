"""An Apache Kafka broker of a test's own that speaks TLS only and wants a certificate, and the certificates."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from libs.chassis.bus import Bus
from libs.embedded.broker import free_port
from tests.settings import settings_for

KAFKA = Path(__file__).parents[2] / "deploy" / "kafka" / "kafka"


def certificate(folder: Path, name: str, authority: trustme.CA) -> dict[str, str]:
    """A certificate of that authority, in files as settings name them. (Kafka reads keys in PKCS #8 only.)"""
    made = authority.issue_cert("127.0.0.1", common_name=name)
    key = load_pem_private_key(made.private_key_pem.bytes(), None)
    chain = b"".join(one.bytes() for one in made.cert_chain_pems)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files = {"ca": authority.cert_pem.bytes(), "cert": chain, "key": private, "both": private + chain}
    for kind, content in files.items():
        (folder / f"{name}.{kind}.pem").write_bytes(content)
    return {kind: str(folder / f"{name}.{kind}.pem") for kind in files}


def tls(files: dict[str, str]) -> dict[str, str]:
    """The settings of a service with this certificate."""
    return {
        "kafka_security_protocol": "SSL",
        "kafka_ssl_cafile": files["ca"],
        "kafka_ssl_certfile": files["cert"],
        "kafka_ssl_keyfile": files["key"],
    }


@contextmanager
def tls_broker(folder: Path, authority: trustme.CA, *properties: str) -> Iterator[str]:
    """Its address. `properties`: more lines of its configuration."""
    own = certificate(folder, "broker", authority)
    lines = (
        *(
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={own['both']}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={own['ca']}",
        ),
        *("ssl.client.auth=required", "ssl.enabled.protocols=TLSv1.3"),
        *properties,
    )
    (folder / "tls.properties").write_text("".join(f"{line}\n" for line in lines))
    where = [
        "--dir",
        str(folder / "kafka"),
        "--port",
        str(free_port()),
        "--protocol",
        "SSL",
        "--properties",
        str(folder / "tls.properties"),
    ]
    started = subprocess.run([KAFKA, "start", *where], check=True, capture_output=True, text=True)
    try:
        yield started.stdout.strip()
    finally:
        subprocess.run([KAFKA, "stop", "--dir", str(folder / "kafka")], check=True)


@asynccontextmanager
async def bus_of(broker: str, service: str = "partners", prefix: str | None = None, **settings: Any) -> AsyncIterator[Bus]:
    made = Bus(
        settings_for(
            service,
            kafka_bootstrap_servers=broker,
            kafka_create_topics=True,
            kafka_topic_prefix=prefix or f"t{uuid4().hex[:12]}",
            **settings,
        )
    )
    try:
        yield made
    finally:
        await made.close()
