"""Who may read and write which topic: the broker's ACLs, made from the tables of audiences (DESIGN §3). What no ACL allows, Apache Kafka's authorizer refuses.

A service writes its own topics and reads what the others tell `internal`; an audience reads its own topics and nothing else. Organizations and police
systems have feed and webhooks: no topic, so no ACL.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from libs.chassis.streams import INTERNAL, has_topic, topic
from libs.contracts.audiences import AUDIENCES, is_stream, kind_of
from libs.contracts.registry import SPEAKERS


class Acl(NamedTuple):
    """What a principal (`User:…`) is allowed to do with some topics or consumer groups: the names as they are, or all that begin with them."""

    principal: str
    operations: tuple[str, ...]
    resource: Literal["topic", "group"]
    names: tuple[str, ...]
    pattern: Literal["literal", "prefixed"] = "literal"

    def options(self) -> list[str]:
        """As `kafka-acls` takes them."""
        operations = [word for operation in self.operations for word in ("--operation", operation)]
        names = [word for name in self.names for word in (f"--{self.resource}", name)]
        return ["--allow-principal", self.principal, *operations, *names, "--resource-pattern-type", self.pattern]


def acls(principals: Iterable[tuple[str, str]], prefix: str = "maillon") -> list[Acl]:
    """What each (name, principal) may: the name of a service, or of a stream that has topics (`interior`, `departement:95`).

    Raises ValueError, in a sentence for the operator, for a name that has no topics, and for one principal of a service and of an audience: it would read
    what services tell each other.
    """
    named = list(principals)
    of_services = {principal for name, principal in named if name in SPEAKERS}
    found: list[Acl] = []
    for name, principal in named:
        if name in SPEAKERS:
            found += _of_service(name, principal, prefix)
        elif principal in of_services:
            raise ValueError(f"{principal} est le certificat d'un service : {name} doit avoir le sien.")
        else:
            found += _of_audience(name, principal, prefix)
    return found


def _of_service(service: str, principal: str, prefix: str) -> list[Acl]:
    others = tuple(topic(speaker, INTERNAL, prefix) for speaker in SPEAKERS if speaker != service)
    return [
        Acl(principal, ("Create", "Write", "Read"), "topic", (f"{prefix}.{service}.",), "prefixed"),
        # who starts first makes the topic
        Acl(principal, ("Create", "Read"), "topic", others),
        Acl(principal, ("Read",), "group", (f"{prefix}.{service}",)),
    ]


def _of_audience(stream: str, principal: str, prefix: str) -> list[Acl]:
    if not is_stream(stream):
        raise ValueError(f"{stream} n'est ni un service ni le flux d'une audience : par exemple interior, departement:95.")
    if stream == INTERNAL or not has_topic(stream):
        raise ValueError(f"{stream} n'a pas de sujet Kafka qui lui soit ouvert : son flux se lit par l'API et par webhook.")
    granted = AUDIENCES[kind_of(stream)].grants
    spoken = tuple(topic(speaker, stream, prefix) for speaker, events in SPEAKERS.items() if any(event in granted for event in events))
    return [
        Acl(principal, ("Read",), "topic", spoken),
        Acl(principal, ("Read",), "group", (f"{group_of(stream, prefix)}.",), "prefixed"),
    ]


def group_of(stream: str, prefix: str = "maillon") -> str:
    """What the names of an audience's consumer groups begin with, a dot behind it."""
    return f"{prefix}.for.{stream.replace(':', '.')}"


def principals_of(written: Iterable[str]) -> list[tuple[str, str]]:
    """Out of `interior=User:CN=dgpn,O=Intérieur`, each. Raises ValueError."""
    found = []
    for text in written:
        name, _, principal = text.partition("=")
        if not principal.startswith("User:") or not principal.isprintable() or len(principal) < len("User:x"):
            raise ValueError(f"« {text} » ne nomme pas qui est qui : par exemple interior=User:CN=dgpn.")
        found.append((name, principal))
    return found
