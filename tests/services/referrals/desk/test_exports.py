"""The document that is handed over to a person, downloaded at the desk."""

import json

from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.test_exports import squeezed, text_of


async def test_the_document_of_each_person_is_downloaded_from_the_referral_and_audited_as_their_right(desk: Desk) -> None:
    referral_id = await desk.accepted()
    people = await desk.persons(referral_id)
    browser = await desk.sign_in("coordinator-95")
    await browser.open(f"/desk/referrals/{referral_id}")
    links = [link for link in browser.html.links.values() if link.endswith("/export.pdf")]

    answer = await browser.open(links[0])

    assert links == [f"/desk/referrals/{referral_id}/persons/{person}/export.pdf" for person in people]
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/pdf")
    assert answer.headers["cache-control"] == "no-store"
    assert squeezed("bibliothèque") in text_of(answer.content), "the word agreed with the victim"
    entries = [json.loads(row.data) for row in await desk.rows("SELECT data FROM outbox WHERE stream = 'audit'")]
    exported = [(one["subject"], one["purpose"]) for one in entries if one["operation"] == "export_person"]
    assert exported == [(f"referrals/{referral_id}/persons/{people[0]}", "persons_rights")]


async def test_nobody_downloads_it_without_a_session_or_from_another_post(desk: Desk) -> None:
    referral_id = await desk.accepted()
    [victim, _] = await desk.persons(referral_id)
    address = f"/desk/referrals/{referral_id}/persons/{victim}/export.pdf"

    answers = {who: await (await desk.sign_in(who)).open(address) for who in ("iscg-78", "partner-95")}
    nobody = await desk.browser().desk.get(address)

    assert {who: answer.status_code for who, answer in answers.items()} == {"iscg-78": 404, "partner-95": 403}
    assert nobody.status_code == 303
    assert b"%PDF" not in nobody.content
