"""The register of judicial requisitions at the desk: who enters, who reads, and what a correction leaves."""

from datetime import datetime, timedelta
from uuid import UUID

from libs.contracts import demonstration as d
from libs.contracts.types import PARIS
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.desk.test_moves import at
from tests.services.referrals.test_justice import REQUISITION

SCOPE = "Texte fictif : les coordonnées de la personne."
YESTERDAY = datetime.now(PARIS) - timedelta(days=1)
TYPED = {
    "authority": "prosecutor",
    "authority_name": "Parquet fictif de Pontoise",
    "ground": "cpp_77_1_1",
    "reference": "PARQUET-0042",
    "received_at": YESTERDAY.strftime("%Y-%m-%dT%H:%M"),
    "asked": ["contact", "facts"],
    "scope": SCOPE,
}


async def entering(desk: Desk, who: str, referral_id: UUID) -> Browser:
    browser = await at(desk, who, referral_id)
    await browser.follow("Inscrire une réquisition")
    assert browser.page.status_code == 200, browser.html.text
    return browser


async def register(desk: Desk) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await desk.get("coordinator-95", "/v1/requisitions")).json()["items"]
    return found


async def test_a_coordinator_enters_a_requisition_reads_it_and_completes_it_with_what_was_handed_over(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, *_] = await desk.persons(referral_id)
    browser = await entering(desk, "coordinator-95", referral_id)

    await browser.submit(**TYPED, person_ids=[str(victim)])

    assert browser.page.status_code == 200, browser.html.text
    assert "La réquisition est inscrite au registre." in browser.html.text
    assert "pas encore répondu" in browser.html.text
    await browser.follow("Enquête préliminaire (CPP, article 77-1-1), procureur de la République")
    for said in ("Parquet fictif de Pontoise", "PARQUET-0042", SCOPE, "Coordonnées, Faits reçus de l'unité"):
        assert said in browser.html.text
    await browser.follow("Compléter ou corriger")
    answered = datetime.now(PARIS).strftime("%Y-%m-%dT%H:%M")
    await browser.submit(handed_over=["contact"], handed_over_at=answered)

    assert browser.page.status_code == 200, browser.html.text
    assert "celle d'avant y reste" in browser.html.text
    first, second = await register(desk)
    assert (first["corrected_by_id"], second["corrects_id"]) == (second["id"], first["id"])
    assert (second["asked"], second["handed_over"], second["person_ids"]) == (["contact", "facts"], ["contact"], [str(victim)])
    await browser.open("/desk/requisitions")
    assert "remplacée par une entrée plus récente" in browser.html.text
    assert "remis le" in browser.html.text
    await browser.open(f"/desk/requisitions/{first['id']}")
    assert "Une entrée plus récente vaut à sa place" in browser.html.text
    assert "Compléter ou corriger" not in browser.html.text


async def test_completing_an_entry_leaves_the_moment_of_its_reception_as_it_was(desk: Desk) -> None:
    referral_id = await desk.accepted()
    now = datetime.now(PARIS)
    asked = REQUISITION | {"received_at": (now - timedelta(hours=2)).isoformat(), "handed_over_at": (now - timedelta(hours=1)).isoformat()}
    entry = (await desk.post("coordinator-95", f"/v1/referrals/{referral_id}/requisitions", asked)).json()["id"]
    browser = await at(desk, "coordinator-95", referral_id)

    await browser.open(f"/desk/requisitions/{entry}/correct")
    await browser.submit(scope="Texte fictif, complété.")

    assert browser.page.status_code == 200, browser.html.text
    first, second = await register(desk)
    assert second["received_at"] == first["received_at"]
    assert second["handed_over_at"] == first["handed_over_at"]


async def test_a_social_worker_sees_on_the_referral_what_is_asked_and_completes_it_but_has_no_register(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await entering(desk, "iscg-95", referral_id)
    await browser.submit(**TYPED)
    assert "La réquisition est inscrite au registre." in browser.html.text
    assert "PARQUET-0042" not in browser.html.text
    [entry] = await register(desk)

    await browser.open(f"/desk/requisitions/{entry['id']}")
    assert "PARQUET-0042" in browser.html.text
    assert "Registre des réquisitions" not in browser.html.text
    await browser.follow("Compléter ou corriger")
    await browser.submit(handed_over=["contact"], handed_over_at=YESTERDAY.strftime("%Y-%m-%dT%H:%M"))

    assert "remis le" in browser.html.text
    assert (await browser.open("/desk/requisitions")).status_code == 403


async def test_another_departements_coordinator_finds_neither_the_entry_nor_its_form(desk: Desk) -> None:
    referral_id = await desk.accepted()
    await (await entering(desk, "coordinator-95", referral_id)).submit(**TYPED)
    [entry] = await register(desk)
    browser = await desk.sign_in("coordinator-78")

    await browser.open("/desk/requisitions")
    assert "Le registre est vide." in browser.html.text
    for path in (
        f"/desk/requisitions/{entry['id']}",
        f"/desk/requisitions/{entry['id']}/correct",
        f"/desk/referrals/{referral_id}/requisitions/new",
    ):
        await browser.open(path)
        assert browser.page.status_code == 404, path


async def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(desk: Desk) -> None:
    referral_id = await desk.accepted()
    browser = await entering(desk, "coordinator-95", referral_id)

    await browser.submit(authority_name="Parquet fictif", handed_over=["contact"])

    assert browser.page.status_code == 422
    links = {link for _, link in browser.html.all_links}
    assert {"#authority", "#ground", "#reference", "#received_at", "#asked", "#scope", "#handed_over_at"} <= links
    assert ("authority_name", "Parquet fictif") in browser.html.forms[-1].fields
    late = (datetime.now(PARIS) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M")
    await browser.submit(**TYPED | {"received_at": late, "handed_over": []})
    assert browser.page.status_code == 422
    assert "#received_at" in {link for _, link in browser.html.all_links}
    assert await register(desk) == []


async def test_an_entry_that_was_corrected_meanwhile_is_not_corrected_twice(desk: Desk) -> None:
    referral_id = await desk.accepted()
    await (await entering(desk, "coordinator-95", referral_id)).submit(**TYPED)
    [entry] = await register(desk)
    one, other = await desk.sign_in("coordinator-95"), await desk.sign_in("coordinator-95")
    for browser in (one, other):
        await browser.open(f"/desk/requisitions/{entry['id']}/correct")

    await one.submit(reference="PARQUET-0043")
    await other.submit(reference="PARQUET-0044")

    assert (one.page.status_code, other.page.status_code) == (200, 409)
    assert "corrigez la plus récente" in other.html.text
    assert len(await register(desk)) == 2


async def test_each_reading_of_an_entrys_words_is_audited(desk: Desk) -> None:
    referral_id = await desk.accepted()
    await (await entering(desk, "coordinator-95", referral_id)).submit(**TYPED)
    [entry] = await register(desk)
    browser = await desk.sign_in("coordinator-95", purpose="judicial_requisition")

    await browser.open(f"/desk/requisitions/{entry['id']}")

    said = [row.data for row in await desk.rows("SELECT convert_from(data, 'UTF8') AS data FROM outbox WHERE stream = 'audit'")]
    assert any("read_requisition" in one and str(entry["id"]) in one and "judicial_requisition" in one for one in said)
    assert d.COMMUNE_CERGY not in "".join(one for one in said if "read_requisition" in one)
