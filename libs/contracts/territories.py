"""Départements, overseas collectivities and régions of INSEE's Code officiel géographique, with the région of each département.

Facts as of 1 January 2026, taken from the npm package @etalab/decoupage-administratif 6.0.0 (INSEE, Licence Ouverte 2.0) on 24 November 2026.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

COG_EDITION: Final = 2026


class Region(NamedTuple):
    code: str
    name: str


class Departement(NamedTuple):
    code: str
    name: str
    region: str | None
    """The région's code; `None` for an overseas collectivity, which belongs to no région."""


REGIONS: Final[Mapping[str, Region]] = MappingProxyType(
    {
        region.code: region
        for region in (
            Region("01", "Guadeloupe"),
            Region("02", "Martinique"),
            Region("03", "Guyane"),
            Region("04", "La Réunion"),
            Region("06", "Mayotte"),
            Region("11", "Île-de-France"),
            Region("24", "Centre-Val de Loire"),
            Region("27", "Bourgogne-Franche-Comté"),
            Region("28", "Normandie"),
            Region("32", "Hauts-de-France"),
            Region("44", "Grand Est"),
            Region("52", "Pays de la Loire"),
            Region("53", "Bretagne"),
            Region("75", "Nouvelle-Aquitaine"),
            Region("76", "Occitanie"),
            Region("84", "Auvergne-Rhône-Alpes"),
            Region("93", "Provence-Alpes-Côte d'Azur"),
            Region("94", "Corse"),
        )
    }
)

DEPARTEMENTS: Final[Mapping[str, Departement]] = MappingProxyType(
    {
        departement.code: departement
        for departement in (
            Departement("01", "Ain", "84"),
            Departement("02", "Aisne", "32"),
            Departement("03", "Allier", "84"),
            Departement("04", "Alpes-de-Haute-Provence", "93"),
            Departement("05", "Hautes-Alpes", "93"),
            Departement("06", "Alpes-Maritimes", "93"),
            Departement("07", "Ardèche", "84"),
            Departement("08", "Ardennes", "44"),
            Departement("09", "Ariège", "76"),
            Departement("10", "Aube", "44"),
            Departement("11", "Aude", "76"),
            Departement("12", "Aveyron", "76"),
            Departement("13", "Bouches-du-Rhône", "93"),
            Departement("14", "Calvados", "28"),
            Departement("15", "Cantal", "84"),
            Departement("16", "Charente", "75"),
            Departement("17", "Charente-Maritime", "75"),
            Departement("18", "Cher", "24"),
            Departement("19", "Corrèze", "75"),
            Departement("21", "Côte-d'Or", "27"),
            Departement("22", "Côtes-d'Armor", "53"),
            Departement("23", "Creuse", "75"),
            Departement("24", "Dordogne", "75"),
            Departement("25", "Doubs", "27"),
            Departement("26", "Drôme", "84"),
            Departement("27", "Eure", "28"),
            Departement("28", "Eure-et-Loir", "24"),
            Departement("29", "Finistère", "53"),
            Departement("2A", "Corse-du-Sud", "94"),
            Departement("2B", "Haute-Corse", "94"),
            Departement("30", "Gard", "76"),
            Departement("31", "Haute-Garonne", "76"),
            Departement("32", "Gers", "76"),
            Departement("33", "Gironde", "75"),
            Departement("34", "Hérault", "76"),
            Departement("35", "Ille-et-Vilaine", "53"),
            Departement("36", "Indre", "24"),
            Departement("37", "Indre-et-Loire", "24"),
            Departement("38", "Isère", "84"),
            Departement("39", "Jura", "27"),
            Departement("40", "Landes", "75"),
            Departement("41", "Loir-et-Cher", "24"),
            Departement("42", "Loire", "84"),
            Departement("43", "Haute-Loire", "84"),
            Departement("44", "Loire-Atlantique", "52"),
            Departement("45", "Loiret", "24"),
            Departement("46", "Lot", "76"),
            Departement("47", "Lot-et-Garonne", "75"),
            Departement("48", "Lozère", "76"),
            Departement("49", "Maine-et-Loire", "52"),
            Departement("50", "Manche", "28"),
            Departement("51", "Marne", "44"),
            Departement("52", "Haute-Marne", "44"),
            Departement("53", "Mayenne", "52"),
            Departement("54", "Meurthe-et-Moselle", "44"),
            Departement("55", "Meuse", "44"),
            Departement("56", "Morbihan", "53"),
            Departement("57", "Moselle", "44"),
            Departement("58", "Nièvre", "27"),
            Departement("59", "Nord", "32"),
            Departement("60", "Oise", "32"),
            Departement("61", "Orne", "28"),
            Departement("62", "Pas-de-Calais", "32"),
            Departement("63", "Puy-de-Dôme", "84"),
            Departement("64", "Pyrénées-Atlantiques", "75"),
            Departement("65", "Hautes-Pyrénées", "76"),
            Departement("66", "Pyrénées-Orientales", "76"),
            Departement("67", "Bas-Rhin", "44"),
            Departement("68", "Haut-Rhin", "44"),
            Departement("69", "Rhône", "84"),
            Departement("70", "Haute-Saône", "27"),
            Departement("71", "Saône-et-Loire", "27"),
            Departement("72", "Sarthe", "52"),
            Departement("73", "Savoie", "84"),
            Departement("74", "Haute-Savoie", "84"),
            Departement("75", "Paris", "11"),
            Departement("76", "Seine-Maritime", "28"),
            Departement("77", "Seine-et-Marne", "11"),
            Departement("78", "Yvelines", "11"),
            Departement("79", "Deux-Sèvres", "75"),
            Departement("80", "Somme", "32"),
            Departement("81", "Tarn", "76"),
            Departement("82", "Tarn-et-Garonne", "76"),
            Departement("83", "Var", "93"),
            Departement("84", "Vaucluse", "93"),
            Departement("85", "Vendée", "52"),
            Departement("86", "Vienne", "75"),
            Departement("87", "Haute-Vienne", "75"),
            Departement("88", "Vosges", "44"),
            Departement("89", "Yonne", "27"),
            Departement("90", "Territoire de Belfort", "27"),
            Departement("91", "Essonne", "11"),
            Departement("92", "Hauts-de-Seine", "11"),
            Departement("93", "Seine-Saint-Denis", "11"),
            Departement("94", "Val-de-Marne", "11"),
            Departement("95", "Val-d'Oise", "11"),
            Departement("971", "Guadeloupe", "01"),
            Departement("972", "Martinique", "02"),
            Departement("973", "Guyane", "03"),
            Departement("974", "La Réunion", "04"),
            Departement("975", "Saint-Pierre-et-Miquelon", None),
            Departement("976", "Mayotte", "06"),
            Departement("977", "Saint-Barthélemy", None),
            Departement("978", "Saint-Martin", None),
            Departement("984", "Terres australes et antarctiques françaises", None),
            Departement("986", "Wallis et Futuna", None),
            Departement("987", "Polynésie française", None),
            Departement("988", "Nouvelle-Calédonie", None),
            Departement("989", "Île de Clipperton", None),
        )
    }
)


def region_of(departement: str) -> str | None:
    """The région of a département; `None` for an overseas collectivity and for a code that the COG does not hold."""
    found = DEPARTEMENTS.get(departement)
    return None if found is None else found.region
