"""A partner without account answers by a signed link: once, on a plain page that shows the minimum."""

import re
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text

from libs.chassis import telemetry
from libs.contracts import demonstration as d
from services.referrals.app import SERVICE, expire_orientations, remind_partners
from services.referrals.models import Table
from services.referrals.orientations import answer_pages
from services.referrals.orientations.links import Links
from tests.services.referrals.conftest import Referrals, territory
from tests.services.referrals.test_orientations import ask, execute
from tests.serving import served

PARTNER = f"organization:{d.ASSOCIATION}"


async def link(referrals: Referrals, key: str | None = None, orientation: str | None = None) -> tuple[str, str]:
    """The orientation's id, and the path of a link to answer it."""
    if orientation is None:
        orientation = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    answer = await referrals.post("iscg-95", f"/v1/orientations/{orientation}/links", key=key)
    assert answer.status_code == 201, answer.text
    return str(orientation), urllib.parse.urlsplit(answer.json()["url"]).path


async def fill(referrals: Referrals, path: str, **fields: str) -> Any:
    return await referrals.client.post(path, data={"version": "1"} | fields)


async def answers_by_link(referrals: Referrals) -> None:
    """The association has no account."""
    headers = referrals.token("coordinator-95") | {"If-Match": '"0"'}
    body = {"address": "a@maillon.example", "mode": "immediate", "by_link": True}
    assert (await referrals.client.put(f"/v1/notice-preferences/{PARTNER}", json=body, headers=headers)).status_code == 200


async def status(referrals: Referrals, orientation: str) -> str:
    [row] = await referrals.rows(f"SELECT status FROM orientations WHERE id = '{orientation}'")
    return str(row.status)


async def test_a_partner_accepts_by_link_and_the_fact_is_said(referrals: Referrals) -> None:
    orientation, path = await link(referrals)
    await referrals.said()

    shown = await referrals.client.get(path)
    answered = await fill(referrals, path, answer="accept")

    assert (shown.status_code, answered.status_code) == (200, 200)
    assert "Réponse enregistrée" in answered.text
    assert await status(referrals, orientation) == "accepted"
    assert await referrals.said_types() == ["orientation.accepted"]
    audited = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")
    assert [re.search(rb'"operation":"(\w+)"', row.data)[1] for row in audited][-2:] == [b"show_answer_page", b"answer_by_link"]  # type: ignore[index]  # an entry has one


async def test_a_partner_rejects_with_a_reason_of_the_list_only(referrals: Referrals) -> None:
    orientation, path = await link(referrals)

    without = await fill(referrals, path, answer="reject", reject_reason="")
    made_up = await fill(referrals, path, answer="reject", reject_reason="<script>")
    assert (without.status_code, made_up.status_code) == (422, 422)
    assert "<script" not in made_up.text
    assert await status(referrals, orientation) == "requested"

    assert (await fill(referrals, path, answer="reject", reject_reason="no_capacity")).status_code == 200
    assert await status(referrals, orientation) == "rejected"


def next_link(answered: Any) -> str:
    """The path of the link that the answered page hands on: in a way to follow, and in writing, for paper."""
    [url] = re.findall(r'<a href="([^"]+/reponse/[^"]+)">', answered.text)
    assert f'<p class="address">{url}</p>' in answered.text
    return str(urllib.parse.urlsplit(url).path)


LIFE = ({"answer": "accept"}, {"answer": "start"}, {"answer": "complete", "outcome": "supported"})


async def test_one_link_of_the_social_worker_is_enough_for_a_whole_life_each_answer_hands_the_next_one_on(referrals: Referrals) -> None:
    orientation, path = await link(referrals)
    paths = [path]
    for version, fields in enumerate(LIFE, 1):
        answered = await fill(referrals, paths[-1], version=str(version), **fields)
        assert answered.status_code == 200
        if fields["answer"] != "complete":
            paths.append(next_link(answered))

    assert await status(referrals, orientation) == "completed"
    assert "/reponse/" not in answered.text, "nothing is left to answer"
    assert len(set(paths)) == 3
    assert [(await referrals.client.get(one)).status_code for one in paths] == [410, 410, 410]


async def test_the_next_link_is_a_link_like_any_other(referrals: Referrals) -> None:
    """Once, until its hour, in its rate, over when the social worker hands another; the page that shows it is neither kept nor told of to others."""
    orientation, path = await link(referrals)
    answered = await fill(referrals, path, answer="accept")
    own = next_link(answered)

    assert (answered.headers["cache-control"], answered.headers["referrer-policy"]) == ("no-store", "no-referrer")
    [made] = await referrals.rows(
        "SELECT expires_at - created_at AS lasts FROM orientation_links WHERE used_at IS NULL AND revoked_at IS NULL"
    )
    assert made.lasts.days == referrals.runtime.settings.link_days  # type: ignore[attr-defined]  # a setting of this service
    audited = await referrals.rows("SELECT data FROM outbox WHERE stream = 'audit' ORDER BY position")
    [open_link] = await referrals.rows("SELECT id FROM orientation_links WHERE used_at IS NULL")
    assert str(open_link.id).encode() in audited[-1].data, "who reads the audit log sees which link came of which answer"

    _, other = await link(referrals, orientation=orientation)
    assert (await fill(referrals, own, answer="start", version="2")).status_code == 410
    looked = [(await referrals.client.get(other)).status_code for _ in range(25)]
    assert (looked[0], looked[-1]) == (200, 429)


async def test_who_refuses_or_answers_again_is_handed_no_link(referrals: Referrals) -> None:
    _, path = await link(referrals)
    refused = await fill(referrals, path, answer="reject", reject_reason="no_capacity")
    _, path = await link(referrals)
    await fill(referrals, path, answer="accept")

    again = await fill(referrals, path, answer="accept", version="2")
    looked = await referrals.client.get(path)

    assert (refused.status_code, again.status_code, looked.status_code) == (200, 410, 410)
    assert "/reponse/" not in refused.text + again.text + looked.text


async def test_the_page_shows_the_minimum_before_and_after(referrals: Referrals) -> None:
    _, path = await link(referrals)

    shown = (await referrals.client.get(path)).text
    answered = (await fill(referrals, path, answer="accept")).text

    for minimum in ("95127", "Aide aux victimes", "Prioritaire", "Téléphone", "lundi", "09:00", "interdit", "lit peut-être"):
        assert minimum in shown
    for personal in ("Camille", "Exemple", "3363998", "bibliothèque", "voisins", "1991"):
        assert personal not in shown + answered


async def test_the_page_names_the_commune_and_the_post_that_asks_but_not_the_service_that_would_lead_to_the_person(
    referrals: Referrals,
) -> None:
    _, path = await link(referrals)
    await execute(
        referrals,
        "INSERT INTO directory_names (kind, key, departement, name, themes, folded) VALUES"
        f" ('communes', '95127', '95', 'Cergy', '{{}}', 'cergy'), ('posts', '{d.POST_CERGY}', '95', 'Poste fictif de Cergy', '{{}}', ''),"
        f" ('services', '{d.VICTIM_SUPPORT_SERVICE}', '95', 'Service fictif', '{{}}', '')",
    )

    shown = (await referrals.client.get(path)).text

    assert "Cergy (95127)" in shown
    assert "Poste fictif de Cergy" in shown
    assert "Service fictif" not in shown


async def test_a_link_answers_once_and_looking_at_it_changes_nothing(referrals: Referrals) -> None:
    orientation, path = await link(referrals)
    before = await referrals.snapshot("orientations", "orientation_links", "referrals")
    for _ in range(3):
        await referrals.client.get(path)
    assert await referrals.snapshot("orientations", "orientation_links", "referrals") == before

    first = await fill(referrals, path, answer="accept")
    again = await fill(referrals, path, answer="accept", version="2")
    other = await fill(referrals, path, answer="start", version="2")
    looked = await referrals.client.get(path)

    assert (first.status_code, again.status_code, other.status_code, looked.status_code) == (200, 410, 410, 410)
    assert await status(referrals, orientation) == "accepted"


async def test_a_link_that_expired_was_replaced_or_whose_orientation_ended_is_over(referrals: Referrals) -> None:
    orientation, old = await link(referrals)
    _, new = await link(referrals, orientation=orientation)
    assert (await fill(referrals, old, answer="accept")).status_code == 410

    await execute(referrals, "UPDATE orientation_links SET expires_at = now() - interval '1 second' WHERE revoked_at IS NULL")
    assert (await fill(referrals, new, answer="accept")).status_code == 410

    _, cancelled = await link(referrals, orientation=orientation)
    assert (await referrals.answer("iscg-95", orientation, "cancel", {"reason": "mistake"})).status_code == 200
    assert (await fill(referrals, cancelled, answer="accept", version="2")).status_code == 410
    assert (await referrals.post("iscg-95", f"/v1/orientations/{orientation}/links")).status_code == 409
    assert await status(referrals, orientation) == "cancelled"


async def test_who_answered_by_link_learns_from_it_that_the_orientation_was_taken_back(referrals: Referrals) -> None:
    await answers_by_link(referrals)
    orientation = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]
    [first] = await referrals.rows("SELECT link_id FROM notices")
    path = urllib.parse.urlsplit(Links.of(referrals.runtime).url(first.link_id)).path
    assert (await fill(referrals, path, answer="accept")).status_code == 200
    [follows] = await referrals.rows("SELECT kind, link_id FROM notices")

    assert (await referrals.answer("coordinator-95", orientation, "cancel", {"reason": "other"}, 2)).status_code == 200

    [over] = await referrals.rows("SELECT kind, link_id FROM notices")
    assert [one.kind for one in (follows, over)] == ["orientation_to_follow", "orientation_withdrawn"]
    assert follows.link_id == over.link_id != first.link_id
    shown = await referrals.client.get(path)
    assert shown.status_code == 410
    assert "Ne contactez plus la personne" in shown.text


async def test_an_orientation_that_expires_takes_its_link_along(referrals: Referrals) -> None:
    _, path = await link(referrals)
    await execute(referrals, "UPDATE orientations SET expires_at = now() - interval '1 minute'")
    await expire_orientations(referrals.runtime)

    assert (await referrals.client.get(path)).status_code == 410


async def test_a_page_read_before_a_change_answers_nothing(referrals: Referrals) -> None:
    orientation, path = await link(referrals)
    await execute(referrals, "UPDATE orientations SET version = 2")

    answer = await fill(referrals, path, answer="accept")

    assert answer.status_code == 412
    assert "Revoir la demande" in answer.text
    assert await status(referrals, orientation) == "requested"


async def test_the_page_says_that_a_person_refused_and_on_what_ground_it_is_oriented(referrals: Referrals) -> None:
    _, path = await link(referrals)
    before = (await referrals.client.get(path)).text
    await execute(referrals, "UPDATE orientations SET legal_ground = 'vital_danger'")
    await execute(referrals, "UPDATE persons SET agreement = 'refused'")

    page = (await referrals.client.get(path)).text

    assert "motif légal" not in before
    assert "a refusé d&#39;être contactée" in page
    assert "Danger vital immédiat" in page


async def test_a_made_up_token_is_unknown_and_many_of_them_are_slowed_while_a_true_one_works(referrals: Referrals) -> None:
    _, path = await link(referrals)
    token = path.rsplit("/", 1)[1]
    changed = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    assert (await referrals.client.get(f"/reponse/{changed}")).status_code == 404

    codes = [
        (await referrals.client.get(f"/reponse/{'x' * 53}{n}")).status_code for n in range(referrals.runtime.settings.rate_limit_refusals)
    ]

    assert codes[-1] == 429
    assert (await referrals.client.get(path)).status_code == 200


async def test_one_link_is_not_hammered(referrals: Referrals) -> None:
    _, path = await link(referrals)

    answers = [await referrals.client.get(path) for _ in range(25)]

    assert (answers[0].status_code, answers[-1].status_code) == (200, 429)
    assert "retry-after" in answers[-1].headers


async def test_only_the_social_worker_of_the_referral_makes_links(referrals: Referrals) -> None:
    orientation, _ = await link(referrals)

    assert (await referrals.post("iscg-78", f"/v1/orientations/{orientation}/links")).status_code == 404
    assert (await referrals.post("partner-95", f"/v1/orientations/{orientation}/links")).status_code == 403


async def test_the_token_is_kept_nowhere_not_even_for_a_repeated_request(referrals: Referrals) -> None:
    orientation, path = await link(referrals, key="the-same")
    _, again = await link(referrals, key="the-same", orientation=orientation)
    token = path.rsplit("/", 1)[1]

    assert again == path
    following = next_link(await fill(referrals, path, answer="accept")).rsplit("/", 1)[1]
    kept = await referrals.snapshot(*Table.metadata.tables, "idempotency_keys", "outbox")
    for one in (token, following):
        assert one not in str(kept)
        assert one.encode().hex() not in str(kept)


async def test_the_token_is_in_no_log_and_no_span(database_url: Any, capsys: pytest.CaptureFixture[str]) -> None:
    spans = InMemorySpanExporter()
    telemetry.start_tracing("referrals", exporter=spans)
    try:
        async with served(SERVICE, database_url("referrals")) as up:
            referrals = Referrals(up.client, up.runtime, up.issuer, up.openapi)
            await referrals.hear("partners", *territory())
            _, path = await link(referrals)
            await referrals.client.get(path)
            following = next_link(await fill(referrals, path, answer="accept"))
            await fill(referrals, path, answer="accept")
            await referrals.client.get(following)
    finally:
        telemetry.stop_tracing()
    written = capsys.readouterr()

    assert spans.get_finished_spans()
    for token in (path.rsplit("/", 1)[1], following.rsplit("/", 1)[1]):
        assert token not in "".join(span.to_json() for span in spans.get_finished_spans())
        assert token not in written.out + written.err


async def test_the_page_is_plain_closed_and_not_indexed(referrals: Referrals) -> None:
    _, path = await link(referrals)

    for page in (await referrals.client.get(path), await referrals.client.get("/reponse/unknown")):
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; form-action 'self'")
        assert page.headers["referrer-policy"] == "no-referrer"
        assert "noindex" in page.headers["x-robots-tag"]
        assert page.headers["cache-control"] == "no-store"
        assert "<script" not in page.text
        assert "style=" not in page.text
        assert "http://" not in page.text
        assert '<html lang="fr">' in page.text
    style = await referrals.client.get("/reponse.css")
    assert (style.status_code, style.headers["content-type"].split(";")[0]) == (200, "text/css")
    assert "url(" not in (Path(answer_pages.__file__).parent / "pages" / "answer.css").read_text(encoding="utf-8")


async def test_a_form_from_elsewhere_or_too_large_is_refused(referrals: Referrals) -> None:
    orientation, path = await link(referrals)

    json = await referrals.client.post(path, json={"answer": "accept", "version": "1"})
    large = await fill(referrals, path, answer="accept", more="x" * 17_000)
    nothing = await fill(referrals, path)

    assert (json.status_code, large.status_code, nothing.status_code) == (400, 413, 400)
    assert await status(referrals, orientation) == "requested"


async def test_an_organization_without_account_is_sent_a_link_the_same_one_when_it_is_reminded(referrals: Referrals) -> None:
    await answers_by_link(referrals)
    await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)
    await execute(referrals, "UPDATE orientations SET requested_at = now() - interval '12 days', expires_at = now() + interval '2 days'")

    await remind_partners(referrals.runtime)

    rows = await referrals.rows(f"SELECT kind, link_id FROM notices WHERE recipient = '{PARTNER}' ORDER BY id")
    assert [row.kind for row in rows] == ["orientation_urgent", "orientation_reminder"]
    assert rows[0].link_id is not None
    assert rows[0].link_id == rows[1].link_id
    path = f"/reponse/{Links.of(referrals.runtime).token(rows[0].link_id)}"
    assert (await referrals.client.get(path)).status_code == 200


async def test_what_was_erased_is_not_shown_by_a_link(referrals: Referrals) -> None:
    _, path = await link(referrals)
    async with referrals.runtime.database.transaction() as session:
        await session.execute(text("UPDATE vault_keys SET wrapped = NULL, destroyed_at = now()"))

    assert (await referrals.client.get(path)).status_code == 410


async def test_who_answers_by_link_is_mailed_the_next_link_until_nothing_is_left_to_answer(referrals: Referrals) -> None:
    await answers_by_link(referrals)
    orientation = (await ask(referrals, await referrals.accepted(), d.VICTIM_SUPPORT_SERVICE)).json()["id"]

    async def mailed() -> list[tuple[str, str]]:
        rows = await referrals.rows("SELECT kind, link_id FROM notices ORDER BY id")
        return [(row.kind, urllib.parse.urlsplit(Links.of(referrals.runtime).url(row.link_id)).path) for row in rows]

    told = []
    for version, fields in enumerate(LIFE, 1):
        kind, path = (await mailed())[-1]
        told.append(kind)
        answered = await fill(referrals, path, version=str(version), **fields)
        assert answered.status_code == 200, answered.text
        assert ("nouveau lien vous est envoyé" in answered.text) == (fields["answer"] != "complete")
        if fields["answer"] != "complete":
            assert next_link(answered) == (await mailed())[-1][1], "one link, shown and mailed"

    assert told == ["orientation_urgent", "orientation_to_follow", "orientation_to_follow"]
    assert await mailed() == []
    assert await status(referrals, orientation) == "completed"


async def test_the_page_says_until_which_hour_of_paris_it_may_be_answered_and_no_later_than_the_orientation(referrals: Referrals) -> None:
    orientation, path = await link(referrals)
    await execute(referrals, "UPDATE orientation_links SET expires_at = '2030-12-02T01:16:00Z'")
    await execute(referrals, f"UPDATE orientations SET expires_at = '2030-12-01T23:30:00Z' WHERE id = '{orientation}'")

    assert "jusqu'au 02/12/2030 à 00:30 (heure de Paris)" in (await referrals.client.get(path)).text.replace("&#39;", "'")

    await execute(referrals, "UPDATE orientations SET status = 'accepted'")
    assert "jusqu'au 02/12/2030 à 02:16 (heure de Paris)" in (await referrals.client.get(path)).text.replace("&#39;", "'")
