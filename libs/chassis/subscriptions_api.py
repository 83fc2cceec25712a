"""`/v1/subscriptions`: webhooks. Each event of a stream, POSTed to the subscriber's own URL, in order, signed (Standard Webhooks)."""

import json
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from libs.chassis import subscriptions
from libs.chassis.access import AccessTable, Rule
from libs.chassis.docs import Example, examples
from libs.chassis.idempotency import Once
from libs.chassis.pagination import Page, page_of
from libs.chassis.problems import problems
from libs.chassis.runtime import Db, Run, Runtime
from libs.chassis.security import Caller, Principal
from libs.chassis.strict import Answer, Body, line
from libs.chassis.subscriptions import Renewed, Subscription, policy_of
from libs.chassis.webhooks import LONGEST_URL, Sender
from libs.contracts.types import Id, Instant
from libs.contracts.vocabularies import Role

router = APIRouter(tags=["Subscriptions"], dependencies=[Renewed])

_SUBSCRIBERS = Rule(roles=set(Role))
ACCESS = AccessTable(
    {
        "create_subscription": _SUBSCRIBERS,
        "list_subscriptions": _SUBSCRIBERS,
        "read_subscription": _SUBSCRIBERS,
        "delete_subscription": _SUBSCRIBERS,
        "rotate_subscription_secret": _SUBSCRIBERS,
        "resume_subscription": _SUBSCRIBERS,
        "ping_subscription": _SUBSCRIBERS,
    }
)


class SubscriptionIn(Body):
    """`url`: https, on a public address. `after`: the last number the subscriber already has; without it, delivery begins with the next event."""

    stream: Annotated[str, Field(pattern=r"^[a-z]+(:[0-9A-Za-z-]+)?$", max_length=60, examples=["internal"])]
    url: Annotated[str, line(LONGEST_URL), Field(examples=["https://recepteur.example/maillon"])]
    after: Annotated[int, Field(ge=0, le=2**62)] | None = None


class SubscriptionOut(Answer):
    """`epoch` and `sequence`: the last event delivered; `head_sequence`: the stream's last. `status`: active or disabled.

    `disabled_reason`: gone (the receiver answered 410), failing (three days without success), feed-too-old (the events wanted are no longer kept:
    it cannot be resumed, create another), not-entitled (the stream is no longer its owner's to read), expired (not renewed in time).
    `last_failure`: http-500, timeout, connect, tls, dns, redirect, protocol, address-refused, internal-error (ours)…
    `expires_at`: when the deliveries end, unless a call to `/v1/streams` or `/v1/subscriptions` renews them before.
    """

    id: Id
    stream: str
    url: str
    epoch: int
    sequence: int
    head_sequence: int
    status: str
    disabled_reason: str | None
    created_at: Instant
    delivered_at: Instant | None
    failures: int
    failing_since: Instant | None
    last_failure: str | None
    next_attempt_at: Instant | None
    expires_at: Instant


class SubscriptionWithSecretOut(SubscriptionOut):
    """`secret`: signs every delivery (Standard Webhooks). Shown in this answer only; keep it."""

    secret: str


class SubscriptionsOut(Answer):
    items: list[SubscriptionOut]
    next: str | None


class PingOut(Answer):
    """Whether the test message was answered 2xx; if not, why in one word."""

    delivered: bool
    failure: str | None


def _out(one: Subscription) -> SubscriptionOut:
    values: dict[str, Any] = {name: getattr(one, name) for name in SubscriptionOut.model_fields}
    if one.status != "active":
        values["next_attempt_at"] = None
    return SubscriptionOut(**values)


async def _with_secret(runtime: Runtime, caller: Principal, answer: Response) -> Response:
    """The stored answer holds no secret; whoever repeats a request because its answer was lost gets the secret again, with the same key only."""
    body = json.loads(bytes(answer.body))
    async with runtime.database.transaction() as session:
        body["secret"] = await subscriptions.open_secret(session, runtime.vault, caller, UUID(body["id"]))
    headers = {name: value for name, value in answer.headers.items() if name.lower() != "content-length"}
    return Response(
        SubscriptionWithSecretOut.model_validate(body).model_dump_json(), answer.status_code, {**headers, "Cache-Control": "no-store"}
    )


@router.post(
    "/v1/subscriptions",
    status_code=201,
    operation_id="create_subscription",
    response_model=SubscriptionWithSecretOut,
    responses=problems(404, 409, 422),
    openapi_extra=examples(
        Example("interior", 201, {"stream": "interior", "url": "https://recepteur.example/maillon"}, "À partir du prochain événement"),
        Example(
            "coordinator-95", 201, {"stream": "departement:95", "url": "https://recepteur.example/maillon", "after": 0}, "Depuis le début"
        ),
        Example("coordinator-95", 422, {"stream": "departement:95", "url": "https://10.0.0.1/"}, "Une adresse privée est refusée"),
        Example("coordinator-95", 404, {"stream": "departement:78", "url": "https://recepteur.example/"}, "Un flux hors du périmètre"),
    ),
)
async def create_subscription(body: SubscriptionIn, caller: Caller, runtime: Run, once: Once) -> Response:
    """Have a stream delivered to a URL. The answer holds the secret that signs the deliveries, this once.

    It goes on for a week after its owner's last call to `/v1/streams` or `/v1/subscriptions` of this service; then it is disabled (`expired`), until
    it is resumed. A call with a token that may not read the stream any more disables it at once (`not-entitled`). Its owner is the client; where many persons
    share one, the person. Five subscriptions of an owner are delivered at a time: a slow receiver holds nobody else up.
    """

    async def create(session: AsyncSession) -> SubscriptionOut:
        policy = policy_of(runtime.settings)
        return _out(
            await subscriptions.subscribe(session, runtime.vault, policy, caller, stream=body.stream, url=body.url, after=body.after)
        )

    return await _with_secret(runtime, caller, await once(create, status=201, location="/v1/subscriptions/{id}"))


@router.get("/v1/subscriptions", operation_id="list_subscriptions", response_model=SubscriptionsOut)
async def list_subscriptions(caller: Caller, database: Db, page: Page, response: Response) -> SubscriptionsOut:
    """The caller's subscriptions (an administrator's: everybody's), oldest first."""
    async with database.transaction() as session:
        rows = await subscriptions.subscriptions(session, caller, after=page.after[0] if page.after else None, limit=page.limit + 1)
    shown, following = page_of(rows, page, lambda row: (row.id,))
    page.link(response, following)
    return SubscriptionsOut(items=[_out(row) for row in shown], next=following)


@router.get(
    "/v1/subscriptions/{subscription_id}", operation_id="read_subscription", response_model=SubscriptionOut, responses=problems(404)
)
async def read_subscription(subscription_id: Id, caller: Caller, database: Db) -> SubscriptionOut:
    """Where delivery stands, and what fails."""
    async with database.transaction() as session:
        return _out(await subscriptions.subscription(session, caller, subscription_id))


@router.delete("/v1/subscriptions/{subscription_id}", status_code=204, operation_id="delete_subscription", responses=problems(404))
async def delete_subscription(subscription_id: Id, caller: Caller, runtime: Run) -> Response:
    """End the deliveries and destroy the secret. What was delivered stays known: who was told of a person is still asked to erase it."""
    async with runtime.database.transaction() as session:
        await subscriptions.unsubscribe(session, runtime.vault, caller, subscription_id)
    return Response(status_code=204)


@router.post(
    "/v1/subscriptions/{subscription_id}/secret",
    operation_id="rotate_subscription_secret",
    response_model=SubscriptionWithSecretOut,
    responses=problems(404, 409, 422),
)
async def rotate_subscription_secret(subscription_id: Id, caller: Caller, runtime: Run, once: Once) -> Response:
    """Replace the secret. For 24 hours deliveries carry the signatures of both."""

    async def rotate(session: AsyncSession) -> SubscriptionOut:
        return _out(await subscriptions.rotate_secret(session, runtime.vault, caller, subscription_id))

    return await _with_secret(runtime, caller, await once(rotate, status=200))


@router.post(
    "/v1/subscriptions/{subscription_id}/resume",
    operation_id="resume_subscription",
    response_model=SubscriptionOut,
    responses=problems(404, 409, 422),
)
async def resume_subscription(subscription_id: Id, caller: Caller, once: Once) -> Response:
    """Deliver again from the cursor on, after a subscription was disabled. 409 `subscription-too-old` when what follows is no longer kept (`feed-too-old`):

    no delivery would be without a hole. List anew, delete this subscription, and create another from the lists' `Stream-Position` on.
    """

    async def resume(session: AsyncSession) -> SubscriptionOut:
        return _out(await subscriptions.resume(session, caller, subscription_id))

    return await once(resume, status=200)


@router.post("/v1/subscriptions/{subscription_id}/ping", operation_id="ping_subscription", response_model=PingOut, responses=problems(404))
async def ping_subscription(subscription_id: Id, caller: Caller, runtime: Run) -> PingOut:
    """Send a signed test message now (type fr.maillon.subscription.ping.v1), outside the stream. Takes 20 s at most."""
    failure = await subscriptions.ping(runtime, Sender(policy_of(runtime.settings)), caller, subscription_id)
    return PingOut(delivered=failure is None, failure=failure)
