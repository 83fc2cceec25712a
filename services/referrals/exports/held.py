"""Where something is held on a person: every table that names a person, a referral, or something of theirs, and what an export does with it.

A test walks the tables: one that is in neither list fails.
"""

from collections.abc import Mapping
from typing import Final

EXPORTED: Final[Mapping[str, str]] = {
    "referrals": "referral",
    "persons": "person",
    "moves": "moves",
    "overdues": "overdues",
    "contact_attempts": "contacts",
    "interviews": "interviews",
    "assessments": "assessments",
    "orientations": "orientations",
    "orientation_links": "orientations",
    "corrections": "corrections",
    "corrected_contents": "corrections",
    "erasures": "erasures",
    "erasure_notices": "erasures",
}
"""Table → the part of the export that tells it."""

LEFT_OUT: Final[Mapping[str, tuple[str, str]]] = {
    "requisitions": (
        "Registre des réquisitions judiciaires",
        "Le secret de l'enquête et de l'instruction (code de procédure pénale, article 11) s'oppose à leur communication ;"
        " la CNIL peut vérifier ce registre pour vous.",
    ),
    "alerts": (
        "Informations préoccupantes et signalements au procureur, s'il y en a",
        "Le secret de l'enquête (code de procédure pénale, article 11) et l'intérêt de l'enfant (code de l'action sociale et des familles,"
        " article L. 226-2-1) s'opposent à ce qu'un document le dise, à qui que ce soit ; la CNIL peut vérifier ces données pour vous.",
    ),
    "notices": (
        "Avis adressés aux professionnels par courriel",
        "Ils disent seulement qu'un dossier attend, sans donnée sur vous.",
    ),
    "announced_ends": (
        "Annonce de la fin de conservation",
        "Ce document dit lui-même jusqu'à quand ces données sont conservées.",
    ),
}
"""Table → what it is, and why it is left out, in words for the person."""

SHARED: Final = (
    "channel",
    "urgency",
    "principal_theme",
    "themes",
    "penal",
    "natinf",
    "danger",
    "children_present",
    "close_reason",
    "duplicate_of",
)
"""What of a referral may be what another person told, since it can be corrected (working/corrections.py) or ends it: given to a victim who is alone in it."""

OF_OTHERS: Final = (
    "Ce qui peut parler d'autres personnes : récit, mode de saisine, urgence, thèmes, suites pénales, infractions, danger, enfants présents,"
    " délais dépassés, motifs de clôture, ce qui a été appris depuis de la situation",
    "D'autres personnes, même non inscrites, ont des droits qui interdisent de le communiquer tel quel (RGPD, article 15.4) ;"
    " le professionnel qui vous remet ce document peut vous en dire ce qui vous concerne.",
)
REFERENCE: Final = (
    "Référence du dossier chez la police ou la gendarmerie",
    "Elle appartient à leur fichier : le droit d'accès s'exerce auprès d'elles.",
)
