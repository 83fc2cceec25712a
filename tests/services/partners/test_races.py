"""Who comes second is told so: each family of commands of the directory, raced; each race is lost when the locks are taken away."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from libs.contracts import demonstration as d
from tests.planted import seen_red
from tests.racing import Race, run, without_locks
from tests.services.partners.conftest import Partners, plain
from tests.services.partners.test_posts import ERMONT, POST

SERVICE = f"/v1/services/{d.VICTIM_SUPPORT_SERVICE}"
WHO = "coordinator-95"


def _vacated(post: object) -> str:
    return f"/v1/posts/{post}/vacate"


async def a_post_vacated_by_three(directory: Partners) -> Race:
    vacate = partial(directory.post, WHO, _vacated(d.POST_CERGY))
    return Race(["posts"], [vacate] * 3, {(1, ("post.vacant",))})


async def a_post_closed_twice(directory: Partners) -> Race:
    close = partial(directory.post, WHO, f"/v1/posts/{d.POST_CERGY}/close")
    return Race(["posts"], [close, close], {(1, ("post.closed",))})


async def a_post_closed_while_its_coverage_is_changed(directory: Partners) -> Race:
    cover = partial(directory.change, WHO, f"/v1/posts/{d.POST_CERGY}/coverage", {"units": [ERMONT], "communes": ["95127"]})
    close = partial(directory.post, WHO, f"/v1/posts/{d.POST_CERGY}/close")
    # the coverage may be changed and the post closed after it, not the other way round
    return Race(["posts"], [close, cover], {(1, ("post.closed",)), (2, ("coverage.changed", "post.closed"))})


async def a_capacity_told_by_two(directory: Partners) -> Race:
    three, four = (partial(directory.change, who, f"{SERVICE}/capacity", {"capacity": n}) for who, n in ((WHO, 3), ("partner-95", 4)))
    return Race(["services"], [three, four], {(1, ("capacity.changed",))})


async def a_service_closed_twice(directory: Partners) -> Race:
    close = partial(directory.post, WHO, f"{SERVICE}/close")
    return Race(["services"], [close, close], {(1, ("service.closed",))})


async def _emptied(directory: Partners) -> str:
    """An organization that nothing keeps open."""
    body = plain(next(one for one in d.ORGANIZATIONS if one.id == d.ASSOCIATION)._asdict()) | {"siret": "00095006300016"}
    del body["id"]
    answer = await directory.post("administrator", "/v1/organizations", body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def an_organization_changed_by_two(directory: Partners) -> Race:
    address = f"/v1/organizations/{await _emptied(directory)}"
    body = {"departement": "95", "name": "Structure", "kind": "shelter", "siret": "00095006300016", "offence_data_allowed": False}
    one, other = (partial(directory.change, "administrator", address, body | {"kind": kind}) for kind in ("shelter", "social_centre"))
    return Race(["organizations"], [one, other], {(1, ("organization.changed",))})


async def an_organization_closed_while_it_opens_a_service(directory: Partners) -> Race:
    organization = await _emptied(directory)
    body = plain(next(one for one in d.SERVICES if one.id == d.VICTIM_SUPPORT_SERVICE)._asdict()) | {"organization_id": organization}
    del body["id"]
    close, register = (
        partial(directory.post, "administrator", f"/v1/organizations/{organization}/close"),
        partial(directory.post, WHO, "/v1/services", body),
    )
    return Race(["organizations"], [close, register], {(1, ("organization.closed",)), (1, ("service.registered",))}, refused=(409, 422))


async def a_unit_closed_while_a_post_begins_to_cover_it(directory: Partners) -> Race:
    close, cover = partial(directory.post, "administrator", f"/v1/units/{ERMONT}/close"), partial(directory.post, WHO, "/v1/posts", POST)
    return Race(["units"], [close, cover], {(1, ("unit.closed",)), (1, ("post.opened",))}, refused=(409, 422))


RACES: list[Callable[[Partners], Awaitable[Race]]] = [
    a_post_vacated_by_three,
    a_post_closed_twice,
    a_post_closed_while_its_coverage_is_changed,
    a_capacity_told_by_two,
    a_service_closed_twice,
    an_organization_changed_by_two,
    an_organization_closed_while_it_opens_a_service,
    a_unit_closed_while_a_post_begins_to_cover_it,
]
named = pytest.mark.parametrize("race", RACES, ids=[race.__name__ for race in RACES])


@named
async def test_who_comes_second_is_told_so(directory: Partners, race: Callable[[Partners], Awaitable[Race]]) -> None:
    await run(directory, await race(directory))


@named
async def test_planted_without_its_lock_a_race_is_seen(
    directory: Partners, race: Callable[[Partners], Awaitable[Race]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = await race(directory)
    without_locks(monkeypatch)

    await seen_red(run(directory, ready), "the lock did not hold")
