"""The demonstration territory: fictitious, recognisable, and consistent enough for examples to work as they stand."""

import inspect
from uuid import UUID

import pytest

from libs.contracts import demonstration
from libs.contracts.demonstration import CLIENTS, FUNDERS, ORGANIZATIONS, POSTS, SERVICES, UNITS, DemonstrationOrganization
from libs.contracts.territories import DEPARTEMENTS
from libs.contracts.types import departement_of
from libs.contracts.vocabularies import Role


def is_luhn(digits: str) -> bool:
    """DOMAIN §7: 20003452800014 is one, 20003452800041 is none."""
    doubled = [int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0


def test_the_rule_of_siret_numbers_knows_a_valid_one_from_an_invalid_one() -> None:
    assert is_luhn("20003452800014")
    assert not is_luhn("20003452800041")


@pytest.mark.parametrize("organization", ORGANIZATIONS, ids=lambda each: each.name)
def test_a_demonstration_organization_has_a_valid_siret_that_is_assigned_to_nobody(organization: DemonstrationOrganization) -> None:
    assert len(organization.siret) == 14
    assert organization.siret.startswith("000")
    assert is_luhn(organization.siret)
    assert is_luhn(organization.siret[:9])
    assert "ficti" in organization.name


def test_no_two_things_of_the_demonstration_share_an_id() -> None:
    ids = [
        value
        for name, value in inspect.getmembers(demonstration)
        if isinstance(value, UUID) and name not in {"UNIT", "POST", "NAMESPACE_URL"}
    ]

    assert len(ids) == len(set(ids)) > 30


def test_what_the_demonstration_refers_to_is_there() -> None:
    organizations = {each.id for each in ORGANIZATIONS}
    units = {each.id for each in UNITS}

    assert {each.organization_id for each in SERVICES} <= organizations
    assert {each.employer_id for each in POSTS} <= organizations
    assert {unit for each in POSTS for unit in each.units} <= units
    for departements in (
        {each.departement for each in ORGANIZATIONS},
        {each.departement for each in SERVICES},
        {each.departement for each in UNITS},
        {each.departement for each in POSTS},
        {each.departement for each in FUNDERS},
    ):
        assert departements == {"95", "78"} <= set(DEPARTEMENTS)
    assert all(departement_of(each.commune) == each.departement for each in UNITS)


def test_some_services_take_some_only_and_others_anybody() -> None:
    assert {bool(each.sexes) for each in SERVICES} == {bool(each.age_bands) for each in SERVICES} == {True, False}


def test_a_client_acts_within_what_the_demonstration_holds() -> None:
    organizations = {each.id for each in ORGANIZATIONS}
    perimeters = {"national", "interior", "justice", "departement:95", "departement:78", *(f"post:{each.id}" for each in POSTS)}

    for client in CLIENTS.values():
        assert client.perimeter <= perimeters
        assert client.organization is None or client.organization in organizations
        assert (client.organization is not None) == (client.role in {Role.PARTNER, Role.EMPLOYER})
    assert {client.role for client in CLIENTS.values()} == set(Role)
