"""What is too long, too large or too many is refused by every operation as its document says."""

from typing import Any
from uuid import UUID

from libs.chassis.app import create_app
from libs.contracts.demonstration import CLIENTS
from services.referrals.app import SERVICE
from tests.hostile.process import MB, Served
from tests.planted import red
from tests.settings import settings_for

Operations = list[tuple[str, str, dict[str, Any]]]
"""Method, path, what the document says of it."""


def operations() -> Operations:
    document = create_app(SERVICE, settings_for(SERVICE.name, SERVICE.settings), roles=("api",)).openapi()
    return [(method.upper(), path, said) for path, methods in document["paths"].items() for method, said in methods.items()]


def _head(served: Served, method: str, path: str, said: dict[str, Any], **more: str) -> bytes:
    """A request that is right as far as its head goes: by a client whose role the document names, about something that is not there."""
    roles = said.get("x-roles", [])
    client = next((one.client_id for one in CLIENTS.values() if one.role.value in roles), "police-95")
    for one in said.get("parameters", []):
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", str(UUID(int=1)))
    headers = {"Authorization": served.token(client), "If-Match": '"1"', "X-Purpose": "follow_up"} | more
    return served.head(path, method, **headers)


def refuses_as_documented(served: Served, said_by: Operations) -> set[int]:
    """Gives the statuses that were answered."""
    answered, undocumented = set[int](), list[str]()
    for method, path, said in said_by:
        requests = {
            "a hundred and fifty headers": _head(served, method, path, said, **{f"X-{number}": "a" for number in range(150)}),
            "an address of 9,000 bytes": _head(served, method, f"{path}?x={'a' * 9_000}", said),
            "a body of 100 MB, announced": _head(served, method, path, said, Content_Length=str(100 * MB)),
        }
        for what, request in requests.items():
            status, *_ = served.ask([request])
            answered.add(status)
            if str(status) not in said["responses"]:
                undocumented.append(f"{status} to {method} {path} with {what}")
    assert not undocumented, f"not in the document: {undocumented}"
    return answered


async def test_every_operation_refuses_what_is_too_much_as_its_document_says(served: Served) -> None:
    assert refuses_as_documented(served, operations()) >= {413, 414, 431}


async def test_planted_a_document_without_one_of_these_refusals_is_seen(served: Served) -> None:
    """As it was: 413 where a body is declared only, 414 and 431 nowhere."""
    for status in ("413", "414", "431"):
        without = [
            (method, path, said | {"responses": {one: answer for one, answer in said["responses"].items() if one != status}})
            for method, path, said in operations()
            if path in {"/v1/referrals", "/v1/referrals/{referral_id}/accept"} and method == "POST"
        ]

        with red(f"{status} to POST /v1/referrals/{{referral_id}}/accept"):
            refuses_as_documented(served, without)
