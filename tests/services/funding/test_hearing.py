"""What funding makes of what it hears, and its agreements and examples."""

from uuid import UUID

from sqlalchemy import text

from libs.contracts import demonstration as d
from libs.contracts.partners import PostFilled
from libs.contracts.referrals import ReferralAssigned, ReferralClosed
from libs.contracts.vocabularies import CloseReason, RoutingReason
from services.funding import handlers
from services.funding.access import ACCESS
from services.funding.models import Table
from tests.chassis.openapi_examples import try_examples, without_example
from tests.documents import differences
from tests.services.funding.conftest import NOW
from tests.serving import Served

PLAN = f"/v1/plans/{d.PLAN}"


def assigned(number: int, post: UUID = d.POST_CERGY) -> ReferralAssigned:
    return ReferralAssigned(referral_id=UUID(int=number), departement="95", post_id=post, reason=RoutingReason.UNIT, assigned_at=NOW)


def closed(number: int) -> ReferralClosed:
    return ReferralClosed(referral_id=UUID(int=number), departement="95", post_id=d.POST_CERGY, reason=CloseReason.ORIENTED, closed_at=NOW)


async def test_the_cost_per_situation_counts_each_referral_at_its_last_post(funded: Served) -> None:
    assert (await funded.get("coordinator-95", PLAN)).json()["cost_per_situation_cents"] is None

    events = [assigned(1), assigned(2), assigned(3), assigned(3, d.POST_SARCELLES), assigned(4), assigned(4), closed(1)]
    await funded.hear("referrals", *events)
    funded.heard -= len(events)
    await funded.hear("referrals", *events)

    plan = (await funded.get("coordinator-95", PLAN)).json()
    assert (plan["situations"], plan["closed"], plan["cost_per_situation_cents"]) == (3, 1, 2_000_000)


async def test_a_restored_source_is_forgotten_after_its_last_number(funded: Served) -> None:
    funded.heard = 0
    await funded.hear("referrals", assigned(1), assigned(2), assigned(3))

    async with funded.runtime.database.transaction() as session:
        await handlers.on_rewind(session, "referrals", 1)
        await handlers.on_rewind(session, "partners", 0)

    assert (await funded.get("coordinator-95", PLAN)).json()["situations"] == 1
    new_plan = {"post_id": d.POST_SARCELLES, "year": 2026, "budget": {"salary_cents": 1}}
    assert (await funded.post("coordinator-95", "/v1/plans", new_plan)).status_code == 409
    filled = PostFilled(post_id=d.POST_SARCELLES, departement="95", employer_id=d.EMPLOYER, filled_at=NOW)
    await funded.hear("partners", filled)
    assert (await funded.post("coordinator-95", "/v1/plans", new_plan)).status_code == 201


async def test_posts_are_read_from_the_list_when_the_feed_no_longer_reaches_back(funding: Served) -> None:
    async def read(path: str):  # type: ignore[no-untyped-def]  # an async generator, as the chassis gives one
        assert path.startswith("/v1/posts")
        yield {"id": str(d.POST_CERGY), "departement": "95", "employer_id": str(d.EMPLOYER), "closed_at": None}

    async with funding.runtime.database.transaction() as session:
        assert await handlers.bootstrap(session, "partners", read), "what is parked of posts is not over"
        known = list(await session.scalars(text("SELECT post_id FROM posts_heard")))

    assert known == [d.POST_CERGY]


async def test_a_signed_agreement_is_said_with_its_channels_and_targets(funded: Served) -> None:
    body = {
        "id": d.AGREEMENT,
        "departement": "95",
        "post_ids": [d.POST_CERGY, d.POST_CERGY],
        "starts_on": "2026-01-01",
        "ends_on": "2028-12-31",
        "channels": ["officer"],
        "targets": [{"urgency": "immediate", "minutes": 120}],
    }

    answer = await funded.post("coordinator-95", "/v1/agreements", body)
    again = await funded.post("coordinator-95", "/v1/agreements", body)

    assert answer.status_code == again.status_code == 201, answer.text
    [(type, data)] = await funded.said()
    assert type == "agreement.signed"
    assert (data["post_ids"], data["channels"], data["targets"]) == (
        [str(d.POST_CERGY)],
        ["officer"],
        [{"urgency": "immediate", "minutes": 120}],
    )
    assert [one["id"] for one in (await funded.get("employer-95", "/v1/agreements")).json()["items"]] == [str(d.AGREEMENT)]
    assert (await funded.get("employer-95", f"/v1/agreements/{d.AGREEMENT}")).status_code == 200
    assert (await funded.get("coordinator-78", f"/v1/agreements/{d.AGREEMENT}")).status_code == 404
    assert (await funded.get("coordinator-78", "/v1/agreements")).json()["items"] == []


async def test_an_agreement_ends_after_it_starts_and_covers_known_posts_of_its_departement(funded: Served) -> None:
    body = {"departement": "95", "post_ids": [d.POST_CERGY], "starts_on": "2026-01-01", "ends_on": "2026-12-31"}
    wrong = [
        body | {"ends_on": "2025-12-31"},
        body | {"targets": [{"urgency": "immediate", "minutes": 1}, {"urgency": "immediate", "minutes": 2}]},
        body | {"post_ids": [d.POST_CERGY, d.POST_78]},
        body | {"departement": "78"},
        body | {"post_ids": []},
    ]

    statuses = [(await funded.post("coordinator-95", "/v1/agreements", one)).status_code for one in wrong]

    assert statuses == [422, 422, 409, 404, 422]
    assert await funded.said() == []


async def test_every_example_of_the_document_works_as_it_stands(funded: Served) -> None:
    assert await try_examples(funded.client, funded.openapi(), funded.token) == []
    assert not set(ACCESS) & set(without_example(funded.openapi()))


async def test_the_migrated_database_is_what_the_models_say(funding: Served) -> None:
    assert await differences(funding.runtime.database, Table.metadata) == []
