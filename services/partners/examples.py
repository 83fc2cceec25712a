"""Requests that work as they stand against the seeded demonstration territory, each with the client to call with.

In the order of the routes, so that they also work one after the other: a post is suspended before it is filled again.
"""

from typing import Any

from libs.chassis.docs import Example, examples
from libs.contracts import demonstration as d
from libs.contracts.units import unit_id_of
from libs.contracts.vocabularies import Channel, Force, Need, PartnerKind, PostForce, Theme, UnitKind

_ERMONT = unit_id_of("PN", "", "Commissariat de police d'Ermont")
_MERY = unit_id_of("GN", "1003398", "Gendarmerie - Brigade de Méry-sur-Oise")
_READ = {"If-Match": '"1"'}

EXAMPLES: dict[str, dict[str, Any]] = {
    "register_organization": examples(
        Example(
            "administrator",
            201,
            {
                "departement": d.DEPARTEMENT,
                "name": "Centre fictif d'information sur les droits des femmes",
                "kind": PartnerKind.WOMEN_RIGHTS,
                "siret": "00095005500012",
                "rna": "W950000000",
                "offence_data_allowed": False,
            },
            summary="Une association et son SIRET",
        )
    ),
    "list_organizations": examples(Example("justice", 200, query={"departement": d.DEPARTEMENT, "kind": PartnerKind.VICTIM_SUPPORT})),
    "read_organization": examples(Example("interior", 200, path={"organization_id": d.ASSOCIATION})),
    "change_organization": examples(
        Example(
            "administrator",
            200,
            {
                "departement": d.DEPARTEMENT,
                "name": "CCAS fictif de Cergy",
                "kind": PartnerKind.SOCIAL_CENTRE,
                "siret": "00095004800017",
                "offence_data_allowed": False,
            },
            path={"organization_id": d.SOCIAL_CENTRE},
            headers=_READ,
            summary="Un autre nom : aucun événement, les abonnés ne connaissent pas les noms",
        )
    ),
    "close_organization": examples(
        Example("administrator", 409, path={"organization_id": d.EMPLOYER}, summary="Un employeur qui a des postes ne se ferme pas")
    ),
    "register_service": examples(
        Example(
            "coordinator-95",
            201,
            {
                "organization_id": d.ASSOCIATION,
                "departement": d.DEPARTEMENT,
                "name": "Groupe de parole fictif",
                "kind": PartnerKind.VICTIM_SUPPORT,
                "description": "Un groupe ouvert, chaque mardi.",
                "themes": [Theme.COUPLE_VIOLENCE, Theme.FAMILY_VIOLENCE],
                "needs": [Need.PSYCHOLOGICAL_SUPPORT, Need.LISTENING],
                "communes": [d.COMMUNE_CERGY],
                "capacity": 12,
                "phone": "+33199000095",
                "email": "accueil@exemple.invalid",
                "url": "https://exemple.invalid/groupe",
                "opening_hours": "Mardi de 18 h à 20 h",
                "locations": [
                    {
                        "name": "Maison fictive des associations",
                        "address": "1 place Fictive",
                        "postcode": "95000",
                        "commune": d.COMMUNE_CERGY,
                    }
                ],
            },
            summary="Un service, ses besoins, son ressort et son lieu",
        )
    ),
    "list_services": examples(Example("iscg-95", 200, query={"commune": d.COMMUNE_CERGY, "need": Need.SHELTER})),
    "read_service": examples(Example("iscg-95", 200, path={"service_id": d.SHELTER_SERVICE})),
    "change_service": examples(
        Example(
            "coordinator-95",
            200,
            {
                "departement": d.DEPARTEMENT,
                "name": "Service social fictif",
                "kind": PartnerKind.SOCIAL_CENTRE,
                "needs": [Need.FINANCIAL_AID, Need.HOUSING, Need.RIGHTS, Need.AUTONOMY],
                "communes": [d.COMMUNE_CERGY],
                "phone": "+33199000096",
                "locations": [{"name": "Espace fictif", "address": "2 place Fictive", "postcode": "95000", "commune": d.COMMUNE_CERGY}],
            },
            path={"service_id": d.SOCIAL_SERVICE},
            headers=_READ,
        )
    ),
    "change_capacity": examples(
        Example("partner-95", 200, {"capacity": 8}, path={"service_id": d.VICTIM_SUPPORT_SERVICE}, headers=_READ, summary="Huit places")
    ),
    "close_service": examples(Example("coordinator-95", 200, path={"service_id": d.LEGAL_ADVICE_SERVICE})),
    "register_unit": examples(
        Example(
            "administrator",
            201,
            {
                "departement": d.DEPARTEMENT,
                "force": Force.GENDARMERIE,
                "kind": UnitKind.COMPANY,
                "label": "Gendarmerie - Compagnie fictive du Vexin",
                "communes": ["95355", "95370"],
            },
        )
    ),
    "list_units": examples(Example("police-95", 200, query={"commune": d.COMMUNE_CERGY})),
    "read_unit": examples(Example("police-95", 200, path={"unit_id": d.UNIT_CERGY})),
    "change_unit": examples(
        Example(
            "administrator",
            200,
            {
                "departement": d.DEPARTEMENT,
                "force": Force.GENDARMERIE,
                "kind": UnitKind.BRIGADE,
                "code": "1003398",
                "label": "Gendarmerie - Brigade de Méry-sur-Oise",
                "communes": ["95256", "95392", "95394"],
            },
            path={"unit_id": _MERY},
            headers=_READ,
        )
    ),
    "close_unit": examples(
        Example("administrator", 409, path={"unit_id": d.UNIT_CERGY}, summary="Une unité qu'un poste couvre ne se ferme pas")
    ),
    "list_communes": examples(Example("police-95", 200, query={"departement": d.DEPARTEMENT, "limit": 10})),
    "read_commune": examples(Example("police-95", 200, path={"code": d.COMMUNE_CERGY})),
    "list_coverage": examples(
        Example(
            "coordinator-95", 200, query={"departement": d.DEPARTEMENT, "covered": "false"}, summary="Les communes qu'aucun poste ne couvre"
        )
    ),
    "open_post": examples(
        Example(
            "coordinator-95",
            201,
            {
                "departement": d.DEPARTEMENT,
                "employer_id": d.EMPLOYER,
                "force": PostForce.POLICE,
                "label": "Poste fictif d'Ermont",
                "full_time_percent": 100,
                "channels": [Channel.OFFICER, Channel.COMPLAINT],
                "units": [_ERMONT],
                "communes": [],
                "filled": True,
                "opened_on": "2026-11-23",
            },
        )
    ),
    "list_posts": examples(Example("interior", 200, query={"departement": d.DEPARTEMENT})),
    "read_post": examples(Example("funder-95", 200, path={"post_id": d.POST_CERGY}, summary="Un poste et ses plans de financement")),
    "rename_post": examples(
        Example("coordinator-95", 200, {"label": "Poste fictif de Cergy-Pontoise"}, path={"post_id": d.POST_CERGY}, headers=_READ)
    ),
    "change_coverage": examples(
        Example(
            "coordinator-95",
            200,
            {"units": [d.UNIT_SARCELLES], "communes": ["95019"]},
            path={"post_id": d.POST_SARCELLES},
            headers=_READ,
        )
    ),
    "suspend_post": examples(
        Example(
            "coordinator-95",
            200,
            {"until_on": "2099-01-31", "replacement_post_id": d.POST_SARCELLES},
            "Une absence jusqu'à une date, avec un poste qui remplace",
            path={"post_id": d.POST_CERGY},
        )
    ),
    "fill_post": examples(Example("coordinator-95", 200, path={"post_id": d.POST_CERGY})),
    "vacate_post": examples(Example("coordinator-95", 200, path={"post_id": d.POST_SARCELLES})),
    "close_post": examples(Example("coordinator-95", 200, path={"post_id": d.POST_MAGNY})),
    "import_communes": examples(
        Example(
            "administrator",
            200,
            {
                "rows": [
                    {
                        "code": "95127",
                        "name": "Cergy",
                        "departement": "95",
                        "region": "11",
                        "population": 70906,
                        "postcodes": ["95000", "95800"],
                    }
                ]
            },
        )
    ),
    "import_jurisdictions": examples(
        Example(
            "administrator",
            200,
            {"rows": [{"commune": "95127", "institution": "PN", "id_service": "", "service": "Commissariat de police de Cergy"}]},
        )
    ),
}
