"""Code lists: labelled in French, without repeats, served as plain values."""

import inspect
import json
import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from libs.contracts import vocabularies
from libs.contracts.registry import EVENTS, SPEAKERS, VOCABULARIES, vocabularies_answer, vocabulary_answer
from libs.contracts.territories import DEPARTEMENTS, REGIONS, region_of
from libs.contracts.types import Code, CommuneCode, DepartementCode, departement_of
from libs.contracts.vocabularies import AgeBand, Channel, age_band_of

CODES = [each for _, each in inspect.getmembers(vocabularies, inspect.isclass) if issubclass(each, Code) and each is not Code]


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_has_a_label_a_version_and_unique_codes_with_labels(name: str) -> None:
    vocabulary = VOCABULARIES[name]

    assert re.fullmatch(r"[a-z][a-z_]*", name)
    assert vocabulary.version >= 1
    assert vocabulary.label == vocabulary.label.strip() != ""
    assert len({term.code for term in vocabulary.terms}) == len(vocabulary.terms) > 0
    assert len({term.label for term in vocabulary.terms}) == len(vocabulary.terms)
    assert all(term.label == term.label.strip() != "" for term in vocabulary.terms)


@pytest.mark.parametrize("codes", CODES, ids=lambda codes: codes.__name__)
def test_every_code_list_is_served(codes: type[Code]) -> None:
    served = [tuple((term.code, term.label) for term in vocabulary.terms) for vocabulary in VOCABULARIES.values()]

    assert tuple((code.value, code.label) for code in codes) in served


@pytest.mark.parametrize("codes", CODES, ids=lambda codes: codes.__name__)
def test_a_code_is_read_from_its_exact_text_only(codes: type[Code]) -> None:
    adapter = TypeAdapter(codes)
    first = next(iter(codes))

    assert adapter.validate_json(f'"{first.value}"') is first
    assert adapter.dump_python(first, mode="json") == first.value
    for wrong in (f'"{first.value} "', f'" {first.value}"', f'"{first.name}"' if first.name != first.value else '""', "0", "null"):
        with pytest.raises(ValidationError):
            adapter.validate_json(wrong)


def test_the_answer_is_plain_and_holds_every_vocabulary() -> None:
    answer = vocabularies_answer()

    assert json.loads(json.dumps(answer)) == answer
    assert [item["name"] for item in answer["items"]] == list(VOCABULARIES)
    assert vocabulary_answer("channels") == answer["items"][list(VOCABULARIES).index("channels")]
    assert vocabulary_answer("unheard-of") is None
    assert {"code": Channel.DAYBOOK.value, "label": "Exploitation de la main courante", "belongs_to": None} in answer["items"][3]["terms"]


def test_france_has_101_departements_in_18_regions_and_8_overseas_collectivities() -> None:
    with_region = [each for each in DEPARTEMENTS.values() if each.region is not None]

    assert len(with_region) == 101
    assert len(REGIONS) == 18
    assert len(DEPARTEMENTS) - len(with_region) == 8
    assert {each.region for each in with_region} == set(REGIONS)


@pytest.mark.parametrize(
    ("departement", "region"),
    [("95", "11"), ("78", "11"), ("2A", "94"), ("2B", "94"), ("56", "53"), ("974", "04"), ("976", "06"), ("988", None), ("20", None)],
)
def test_a_departement_lies_in_its_region(departement: str, region: str | None) -> None:
    assert region_of(departement) == region


@pytest.mark.parametrize(
    ("commune", "departement"), [("95127", "95"), ("2A004", "2A"), ("97105", "971"), ("98818", "988"), ("01053", "01")]
)
def test_a_commune_code_tells_its_departement(commune: str, departement: str) -> None:
    assert TypeAdapter(CommuneCode).validate_python(commune) == commune
    assert departement_of(commune) == departement
    assert departement in DEPARTEMENTS


@given(st.from_regex(get_args(CommuneCode)[1].metadata[0].pattern, fullmatch=True))
def test_whatever_is_read_as_a_commune_lies_in_a_departement_that_can_be_said(commune: str) -> None:
    assert TypeAdapter(DepartementCode).validate_python(departement_of(commune)) == departement_of(commune)


@pytest.mark.parametrize("code", DEPARTEMENTS)
def test_every_departement_of_the_cog_is_a_departement_code(code: str) -> None:
    assert TypeAdapter(DepartementCode).validate_python(code) == code


@pytest.mark.parametrize("wrong", ["20004", "00001", "96001", "9512", "951270", "2C004", "2a004", "9512７", "95127\n", "99100"])
def test_what_is_no_commune_code_is_refused(wrong: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(CommuneCode).validate_python(wrong)


@pytest.mark.parametrize(
    ("age", "band"),
    [
        (0, AgeBand.AGE_0_5),
        (5, AgeBand.AGE_0_5),
        (6, AgeBand.AGE_6_10),
        (17, AgeBand.AGE_15_17),
        (18, AgeBand.AGE_18_24),
        (74, AgeBand.AGE_60_74),
        (75, AgeBand.AGE_75_UP),
        (110, AgeBand.AGE_75_UP),
        (None, AgeBand.UNKNOWN),
    ],
)
def test_an_age_falls_in_its_band(age: int | None, band: AgeBand) -> None:
    assert age_band_of(age) is band


def test_every_event_of_the_design_is_said_by_its_service() -> None:
    """The table of DESIGN §5, and what came since."""
    facts = {
        "referrals": {
            "referral": "received assigned unrouted accepted corrected closed reopened erased overdue",
            "contact": "attempted withdrawn",
            "interview": "held withdrawn",
            "assessment": "recorded withdrawn",
            "alert": "recorded withdrawn",
            "orientation": "requested accepted rejected started completed failed expired cancelled updated",
        },
        "partners": {
            "organization": "registered changed closed",
            "service": "registered changed closed",
            "unit": "registered changed closed",
            "post": "opened filled vacant suspended closed",
            "coverage": "changed",
            "capacity": "changed",
        },
        "funding": {
            "plan": "balanced gapped",
            "agreement": "signed expiring ended",
            "contribution": "requested granted refused agreed",
            "instalment": "due paid overdue",
            "financial_report": "due submitted overdue",
            "post": "at_risk",
        },
        "reporting": {"release": "published", "activity_report": "issued"},
    }

    said = {service: {event.type for event in events} for service, events in SPEAKERS.items()}

    assert said == {
        service: {f"fr.maillon.{noun}.{fact}.v1" for noun, words in nouns.items() for fact in words.split()}
        for service, nouns in facts.items()
    }
    assert len(EVENTS) == sum(len(events) for events in SPEAKERS.values())
