"""Plans over HTTP: who may do what, what is said, what is refused."""

from typing import Any

import httpx
import pytest

from libs.contracts import demonstration as d
from services.funding import examples
from tests.serving import Served

PLAN = f"/v1/plans/{d.PLAN}"
STATE = f"{PLAN}/contributions/{d.CONTRIBUTION_STATE}"
DEPARTEMENT = f"{PLAN}/contributions/{d.CONTRIBUTION_DEPARTEMENT}"


async def change(service: Served, method: str, address: str, body: Any, *, version: int) -> httpx.Response:
    headers = service.token("coordinator-95") | {"If-Match": f'"{version}"'}
    return await service.client.request(method, address, json=body, headers=headers)


async def test_a_new_plan_lacks_its_whole_budget_and_says_so(funding: Served) -> None:
    answer = await funding.post("coordinator-95", "/v1/plans", examples.SEED_PLAN)

    assert answer.status_code == 201
    assert answer.headers["Location"] == PLAN
    assert answer.headers["ETag"] == '"1"'
    plan = answer.json()
    assert (plan["budget_cents"], plan["gap_cents"], plan["balanced"]) == (6_000_000, 6_000_000, False)
    [(type, data)] = await funding.said()
    assert type == "plan.gapped"
    assert (data["gap_cents"], data["shares"], data["departement"], data["post_id"]) == (6_000_000, [], "95", str(d.POST_CERGY))


async def test_each_change_says_the_contribution_then_the_whole_plan(funded: Served) -> None:
    granted = await funded.post("funder-95", f"{DEPARTEMENT}/moves", {"move": "grant", "amount_cents": 3_000_000}, version=3)

    assert granted.status_code == 200, granted.text
    assert granted.json()["balanced"] is True
    assert granted.headers["ETag"] == '"4"'
    said = await funded.said()
    assert [type for type, _ in said] == ["contribution.granted", "plan.balanced"]
    assert said[0][1]["amount_cents"] == 3_000_000
    assert [(share["firmness"], share["amount_cents"]) for share in said[1][1]["shares"]] == [("granted", 3_000_000)] * 2

    refused = await funded.post("coordinator-95", f"{STATE}/moves", {"move": "refuse"}, version=4)

    assert refused.json()["gap_cents"] == 3_000_000
    assert [type for type, _ in await funded.said()] == ["contribution.refused", "plan.gapped"]


async def test_a_contribution_goes_from_forecast_to_paid(funded: Served) -> None:
    added = await funded.post("coordinator-95", f"{PLAN}/contributions", {"funder_id": d.FUNDER_COMMUNE, "amount_cents": 1_000_000})
    contribution = next(one for one in added.json()["contributions"] if one["funder_id"] == str(d.FUNDER_COMMUNE))
    assert contribution["status"] == "forecast"
    assert [type for type, _ in await funded.said()] == ["plan.balanced"]

    statuses, types, version = [], [], 4
    for move in ("request", "grant", "agree", "pay"):
        answer = await funded.post("coordinator-95", f"{PLAN}/contributions/{contribution['id']}/moves", {"move": move}, version=version)
        version += 1
        statuses.append(next(one["status"] for one in answer.json()["contributions"] if one["id"] == contribution["id"]))
        types.append([type for type, _ in await funded.said()])

    assert statuses == ["requested", "granted", "agreed", "paid"]
    assert types == [
        ["contribution.requested", "plan.balanced"],
        ["contribution.granted", "plan.balanced"],
        ["contribution.agreed", "plan.balanced"],
        ["plan.balanced"],
    ]
    late = await funded.post("coordinator-95", f"{PLAN}/contributions/{contribution['id']}/moves", {"move": "refuse"}, version=version)
    assert (late.status_code, late.json()["type"].rsplit("/", 1)[1]) == (409, "move-not-allowed")


async def test_contributions_above_the_budget_are_refused_and_change_nothing(funded: Served) -> None:
    before = (await funded.get("coordinator-95", PLAN)).json()

    more = await funded.post("coordinator-95", f"{PLAN}/contributions", {"funder_id": d.FUNDER_COMMUNE, "amount_cents": 1_000_001})
    less = await change(funded, "PUT", f"{PLAN}/budget", {"budget": {"salary_cents": 4_999_999}}, version=3)
    grant = await funded.post("coordinator-95", f"{DEPARTEMENT}/moves", {"move": "grant", "amount_cents": 3_000_001}, version=3)

    for answer in (more, less, grant):
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (409, "plan-overfunded"), answer.text
    assert more.json()["excess_cents"] == 1
    assert await funded.said() == []
    assert (await funded.get("coordinator-95", PLAN)).json() == before


async def test_a_funder_gives_once_to_a_plan_unless_it_was_refused(funded: Served) -> None:
    twice = await funded.post("coordinator-95", f"{PLAN}/contributions", {"funder_id": d.FUNDER_STATE, "amount_cents": 1})
    assert (twice.status_code, twice.json()["type"].rsplit("/", 1)[1]) == (409, "funder-already-contributes")

    await funded.post("coordinator-95", f"{STATE}/moves", {"move": "refuse"}, version=3)
    again = await funded.post("coordinator-95", f"{PLAN}/contributions", {"funder_id": d.FUNDER_STATE, "amount_cents": 1})

    assert again.status_code == 201, again.text


async def test_an_amount_changes_until_it_is_granted(funded: Served) -> None:
    asked = await change(funded, "PATCH", DEPARTEMENT, {"amount_cents": 2_500_000}, version=3)
    granted = await change(funded, "PATCH", STATE, {"amount_cents": 1}, version=4)
    agreed = await funded.post("coordinator-95", f"{STATE}/moves", {"move": "agree", "amount_cents": 1}, version=4)

    assert asked.json()["gap_cents"] == 500_000
    for answer in (granted, agreed):
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (409, "amount-fixed")


async def test_a_post_not_yet_heard_and_one_of_another_departement_are_refused_alike(funding: Served) -> None:
    unknown = await funding.post("coordinator-95", "/v1/plans", examples.SEED_PLAN | {"post_id": d.REFERRAL})
    elsewhere = await funding.post("coordinator-95", "/v1/plans", examples.SEED_PLAN | {"post_id": d.POST_78})

    assert unknown.status_code == elsewhere.status_code == 409
    assert unknown.headers["Retry-After"] == "2"
    told = [{name: value for name, value in answer.json().items() if name != "instance"} for answer in (unknown, elsewhere)]
    assert told[0] == told[1]
    assert told[0]["type"].endswith("/post-not-yet-known")
    assert await funding.said() == []


async def test_two_people_who_change_one_plan_do_not_overwrite_each_other(funded: Served) -> None:
    first = await funded.post("funder-95", f"{DEPARTEMENT}/moves", {"move": "grant"}, version=3)
    second = await funded.post("coordinator-95", f"{DEPARTEMENT}/moves", {"move": "refuse"}, version=3)
    blind = await funded.post("coordinator-95", f"{DEPARTEMENT}/moves", {"move": "agree"})

    assert (first.status_code, second.status_code, blind.status_code) == (200, 412, 428)


async def test_a_repeated_opening_with_its_own_id_answers_the_same_plan(funded: Served) -> None:
    again = await funded.post("coordinator-95", "/v1/plans", examples.SEED_PLAN)
    same_year = await funded.post("coordinator-95", "/v1/plans", {key: value for key, value in examples.SEED_PLAN.items() if key != "id"})
    other = await funded.post("coordinator-95", "/v1/plans", examples.SEED_PLAN | {"year": 2027})
    funder = await funded.post("administrator", "/v1/funders", examples.SEED_FUNDERS[0])
    other_funder = await funded.post("administrator", "/v1/funders", examples.SEED_FUNDERS[0] | {"name": "Autre"})

    assert again.status_code == funder.status_code == 201
    assert again.json()["id"] == str(d.PLAN)
    kinds = [answer.json()["type"].rsplit("/", 1)[1] for answer in (same_year, other, other_funder)]
    assert kinds == ["plan-exists", "id-taken", "id-taken"]
    assert await funded.said() == []


@pytest.mark.parametrize(
    ("who", "sees"),
    [
        ("coordinator-95", True),
        ("funder-95", True),
        ("employer-95", True),
        ("administrator", True),
        ("auditor", True),
        ("reporting", True),
        ("coordinator-78", False),
    ],
)
async def test_a_plan_is_seen_within_its_perimeter_only(funded: Served, who: str, sees: bool) -> None:
    one = await funded.get(who, PLAN)
    listed = await funded.get(who, "/v1/plans")

    assert one.status_code == (200 if sees else 404)
    assert [plan["id"] for plan in listed.json()["items"]] == ([str(d.PLAN)] if sees else [])


@pytest.mark.parametrize("who", ["police-95", "iscg-95", "partner-95", "interior", "justice"])
async def test_who_neither_pays_nor_steers_nor_employs_sees_no_plan(funded: Served, who: str) -> None:
    assert (await funded.get(who, PLAN)).status_code == 403


async def test_an_employer_reads_its_plans_and_changes_nothing(funded: Served) -> None:
    assert (await funded.post("employer-95", f"{STATE}/moves", {"move": "agree"}, version=3)).status_code == 403
    assert (await funded.post("coordinator-78", f"{STATE}/moves", {"move": "agree"}, version=3)).status_code == 404


async def test_a_funder_of_another_departement_does_not_pay_here(funded: Served) -> None:
    answer = await funded.post("coordinator-95", f"{PLAN}/contributions", {"funder_id": d.FUNDER_78, "amount_cents": 1})

    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (422, "unknown-funder")
    assert answer.json()["errors"][0]["pointer"] == "/funder_id"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"siret": "20003452800041"}, "/siret"),
        ({"siren": "200034582"}, "/siren"),
        ({"siren": "000950022", "siret": "00095001400019"}, "/siret"),
        ({"departement": None}, "/departement"),
        ({"kind": "nobody"}, "/kind"),
        ({"name": "\u0000"}, "/name"),
    ],
)
async def test_bad_input_is_refused_with_its_place(funding: Served, change: dict[str, Any], pointer: str) -> None:
    good = {"kind": "commune", "name": "Commune fictive", "departement": "95", "siren": "000950014", "siret": "00095001400019"}
    assert (await funding.post("coordinator-95", "/v1/funders", good)).status_code == 201

    answer = await funding.post("coordinator-95", "/v1/funders", good | change)

    assert answer.status_code == 422, answer.text
    assert pointer in [error["pointer"] for error in answer.json()["errors"]]


async def test_a_plan_of_nothing_is_refused(funding: Served) -> None:
    answer = await funding.post("coordinator-95", "/v1/plans", examples.SEED_PLAN | {"budget": {"salary_cents": 0}})

    assert answer.status_code == 422
    assert (await funding.get("coordinator-95", "/v1/plans")).json()["items"] == []


async def test_lists_go_on_page_after_page_and_say_where_the_stream_stands(funded: Served) -> None:
    for year in (2024, 2025):
        body = {key: value for key, value in examples.SEED_PLAN.items() if key != "id"} | {"year": year}
        assert (await funded.post("coordinator-95", "/v1/plans", body)).status_code == 201

    seen, query = [], {"limit": "2"}
    while True:
        page = await funded.get("funder-95", "/v1/plans", **query)
        assert page.headers["Stream-Position"] == "1:0"
        seen += [plan["year"] for plan in page.json()["items"]]
        if page.json()["next"] is None:
            break
        query["cursor"] = page.json()["next"]

    assert sorted(seen) == [2024, 2025, 2026]
