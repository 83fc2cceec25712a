"""An entry of the register of judicial requisitions as a form: what was asked, by whom, and what was handed over; empty, or as an earlier entry says it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from services.referrals.desk.changes import Change, Doing, Field, of_codes, typed_moment
from services.referrals.desk.forms import Form
from services.referrals.desk.moves import everybody
from services.referrals.justice import requisitions
from services.referrals.justice.schemas import Authority, Ground, Held, RequisitionIn, RequisitionOut

Shown = Mapping[str, Any]


async def _enter(session: AsyncSession, it: Doing, body: Any) -> BaseModel:
    return await requisitions.record(session, it.caller, it.runtime.vault, it.id, body, it.now)


def _before(read: Callable[[RequisitionOut], Any]) -> Callable[[Shown], Any]:
    """What the entry that is corrected says."""

    def otherwise(shown: Shown) -> Any:
        before: RequisitionOut | None = shown["before"]
        return (read(before) if before is not None else None) or ""

    return otherwise


_FIELDS: Final = (
    Field(
        "authority", "Autorité", "radios", of_codes(Authority), otherwise=_before(lambda it: it.authority.value), heading="La réquisition"
    ),
    Field("authority_name", "Nom et service de l'autorité", "text", otherwise=_before(lambda it: it.authority_name)),
    Field("ground", "Fondement", "radios", of_codes(Ground), otherwise=_before(lambda it: it.ground.value)),
    Field("reference", "Référence de l'autorité (procès-verbal, parquet)", "text", otherwise=_before(lambda it: it.reference)),
    Field(
        "received_at",
        "Reçue le",
        "moment",
        otherwise=_before(lambda it: typed_moment(it.received_at)),
        exact=_before(lambda it: it.received_at),
    ),
    Field("asked", "Ce qui est demandé", "boxes", of_codes(Held), otherwise=_before(lambda it: [one.value for one in it.asked])),
    Field("scope", "Objet, dans les mots de la réquisition", "prose", otherwise=_before(lambda it: it.scope)),
    Field(
        "person_ids",
        "Personnes concernées",
        "boxes",
        everybody,
        required=False,
        otherwise=_before(lambda it: [str(one) for one in it.person_ids]),
    ),
    Field(
        "handed_over_at",
        "Répondu le",
        "moment",
        required=False,
        hint="Vide : pas encore répondu. L'entrée sera complétée plus tard.",
        otherwise=_before(lambda it: it.handed_over_at and typed_moment(it.handed_over_at)),
        exact=_before(lambda it: it.handed_over_at),
        heading="La réponse",
    ),
    Field(
        "handed_over",
        "Ce qui a été remis",
        "boxes",
        of_codes(Held),
        required=False,
        hint="Répondu et aucune case : rien n'est détenu, ou le secret professionnel a été opposé.",
        otherwise=_before(lambda it: [one.value for one in it.handed_over]),
    ),
)


def _shape(before: RequisitionOut | None) -> Callable[[dict[str, Any], Form], dict[str, Any]]:
    corrects = {} if before is None else {"corrects_id": str(before.id)}
    return lambda given, _: {"person_ids": [], "handed_over": []} | given | corrects


NEW: Final = Change(
    "Inscrire une réquisition judiciaire",
    "Inscrire au registre",
    "La réquisition est inscrite au registre.",
    _enter,
    RequisitionIn,
    _FIELDS,
    shape=_shape(None),
    explanation="Maillon ne remet rien : notez ici ce qui est demandé, et ce que vous avez remis. Une entrée ne s'efface pas ; une plus récente la"
    " complète ou la corrige.",
)


def requisition_change(before: RequisitionOut | None) -> Change:
    """`None`: a new one."""
    if before is None:
        return NEW
    return Change(
        "Compléter ou corriger une réquisition",
        "Inscrire la nouvelle entrée",
        "La nouvelle entrée est au registre ; celle d'avant y reste.",
        _enter,
        RequisitionIn,
        _FIELDS,
        shape=_shape(before),
        explanation="La nouvelle entrée remplace celle d'avant, qui reste au registre.",
    )
