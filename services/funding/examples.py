"""Requests that work as they stand against the seeded demonstration territory, each with the client to call with.

In the order of the routes, so that they also work one after the other. The seed has the demonstration funders, and for the post of Cergy the plan of
`demonstration.YEAR` with two contributions (`SEED_PLAN` and after); its version is then 3.
"""

from typing import Any

from libs.chassis.docs import Example, examples
from libs.contracts import demonstration as d
from libs.contracts.vocabularies import Channel, FunderKind, Urgency
from services.funding.domain import Move, StartingFirmness

SEED_BUDGET = {
    "salary_cents": 3_600_000,
    "charges_cents": 1_500_000,
    "travel_cents": 200_000,
    "equipment_cents": 200_000,
    "overheads_cents": 500_000,
}
SEED_FUNDERS: tuple[dict[str, Any], ...] = tuple(
    {"id": one.id, "kind": one.kind, "name": one.name, "departement": one.departement} for one in d.FUNDERS
)
"""POST /v1/funders, as administrator."""
SEED_PLAN: dict[str, Any] = {"id": d.PLAN, "post_id": d.POST_CERGY, "year": d.YEAR, "budget": SEED_BUDGET}
"""POST /v1/plans, as coordinator-95."""
SEED_CONTRIBUTIONS: tuple[dict[str, Any], ...] = (
    {"id": d.CONTRIBUTION_STATE, "funder_id": d.FUNDER_STATE, "amount_cents": 3_000_000, "firmness": StartingFirmness.GRANTED},
    {
        "id": d.CONTRIBUTION_DEPARTEMENT,
        "funder_id": d.FUNDER_DEPARTEMENT,
        "amount_cents": 2_000_000,
        "firmness": StartingFirmness.REQUESTED,
    },
)
"""POST /v1/plans/{plan_id}/contributions, as coordinator-95: ten thousand euros are missing."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "register_funder": examples(
        Example(
            "coordinator-95",
            201,
            {"kind": FunderKind.FAMILY_FUND, "name": "CAF fictive du Val-d'Oise", "departement": d.DEPARTEMENT, "siret": "00095001400019"},
            summary="Un financeur et son SIRET",
        )
    ),
    "list_funders": examples(Example("funder-95", 200, query={"kind": FunderKind.STATE_FIPD})),
    "read_funder": examples(Example("employer-95", 200, path={"funder_id": d.FUNDER_STATE})),
    "open_plan": examples(
        Example(
            "coordinator-95",
            201,
            {"post_id": d.POST_SARCELLES, "year": d.YEAR, "budget": {"salary_cents": 3_200_000, "charges_cents": 1_300_000}},
            summary="Le plan d'un poste pour une année",
        )
    ),
    "list_plans": examples(Example("funder-95", 200, query={"departement": d.DEPARTEMENT, "year": d.YEAR})),
    "read_plan": examples(Example("employer-95", 200, path={"plan_id": d.PLAN}, summary="L'employeur lit le plan de son poste")),
    "change_budget": examples(
        Example(
            "coordinator-95",
            200,
            {"budget": SEED_BUDGET | {"travel_cents": 300_000}},
            path={"plan_id": d.PLAN},
            headers={"If-Match": '"3"'},
            summary="Des déplacements plus chers",
        )
    ),
    "add_contribution": examples(
        Example(
            "funder-95",
            201,
            {"funder_id": d.FUNDER_COMMUNE, "amount_cents": 500_000, "firmness": StartingFirmness.FORECAST},
            path={"plan_id": d.PLAN},
            summary="La commune prévoit cinq mille euros",
        )
    ),
    "change_contribution": examples(
        Example(
            "coordinator-95",
            200,
            {"amount_cents": 2_200_000},
            path={"plan_id": d.PLAN, "contribution_id": d.CONTRIBUTION_DEPARTEMENT},
            headers={"If-Match": '"5"'},
        )
    ),
    "move_contribution": examples(
        Example(
            "funder-95",
            200,
            {"move": Move.GRANT, "amount_cents": 2_100_000},
            path={"plan_id": d.PLAN, "contribution_id": d.CONTRIBUTION_DEPARTEMENT},
            headers={"If-Match": '"6"'},
            summary="Le département accorde un peu moins que demandé",
        )
    ),
    "sign_agreement": examples(
        Example(
            "coordinator-95",
            201,
            {
                "departement": d.DEPARTEMENT,
                "post_ids": [d.POST_CERGY],
                "starts_on": "2026-01-01",
                "ends_on": "2028-12-31",
                "channels": [Channel.INTERVENTION, Channel.OFFICER],
                "targets": [{"urgency": Urgency.IMMEDIATE, "minutes": 120}],
            },
            summary="Une convention de trois ans, ses modes de saisine et son délai",
        )
    ),
    "list_agreements": examples(Example("employer-95", 200, query={"post_id": d.POST_CERGY})),
    "read_agreement": examples(Example("coordinator-78", 404, path={"agreement_id": d.AGREEMENT}, summary="Hors du périmètre")),
}
