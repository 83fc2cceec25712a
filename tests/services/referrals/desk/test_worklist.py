"""The desk's worklist: what waits, how much of it, narrowed by a form that works without a script."""

from uuid import UUID

from libs.contracts import demonstration as d
from tests.services.referrals.desk.browser import Browser
from tests.services.referrals.desk.conftest import Desk
from tests.services.referrals.desk.test_sign_in import execute


def listed(browser: Browser) -> list[str]:
    links = [link.removeprefix("/desk/referrals/") for _, link in browser.html.all_links if link.startswith("/desk/referrals/")]
    assert browser.page.status_code == 200, browser.html.text
    return links


async def test_each_filter_of_the_form_narrows_the_list(desk: Desk) -> None:
    plain = str(await desk.receive())
    urgent = str(await desk.receive(urgency="immediate"))
    themed = str(await desk.receive(themes=["housing"], principal_theme="housing"))
    closed = await desk.accepted()
    assert (await desk.move("iscg-95", closed, "close", {"reason": "out_of_scope"})).status_code == 200
    overdue = str(await desk.receive())
    await execute(desk, "UPDATE referrals SET due_at = now() - interval '1 hour' WHERE id = :id", id=UUID(overdue))
    old = str(await desk.receive())
    await execute(desk, "UPDATE referrals SET received_at = '2026-01-01T12:00:00Z' WHERE id = :id", id=UUID(old))
    browser = await desk.sign_in("iscg-95")
    assert set(listed(browser)) == {plain, urgent, themed, overdue, old}, "what is closed is shown to who asks for it"

    for fields, expected in (
        ({"status": "closed"}, {str(closed)}),
        ({"status": "all"}, {plain, urgent, themed, str(closed), overdue, old}),
        ({"urgency": "immediate"}, {urgent}),
        ({"theme": "housing"}, {themed}),
        ({"overdue": "yes"}, {overdue}),
        ({"since": "2026-01-02"}, {plain, urgent, themed, overdue}),
        ({"commune": "95585"}, set()),
        ({"commune": "95127", "theme": "housing"}, {themed}),
    ):
        await browser.open("/desk/referrals")
        await browser.submit(**fields)
        assert set(listed(browser)) == expected, fields
        kept = dict(browser.html.forms[-1].fields)
        assert {name: kept.get(name) for name in fields} == fields, "the form shows what the list is narrowed to"
    await browser.open(f"/desk/referrals?unit={d.UNIT_CERGY}")
    assert len(listed(browser)) == 5
    await browser.open("/desk/referrals?unit=made-up")
    assert listed(browser) == []


async def test_the_coordinator_lists_what_one_post_has(desk: Desk) -> None:
    here = str(await desk.receive())
    there = str(await desk.receive(unit_id=str(d.UNIT_SARCELLES), commune="95585"))
    lost = await desk.receive(unit_id=None, commune="95008")
    browser = await desk.sign_in("coordinator-95")
    assert set(listed(browser)) == {here, there, str(lost)}

    await browser.submit(post=str(d.POST_SARCELLES))

    assert listed(browser) == [there]
    assert dict(browser.html.forms[-1].fields)["post"] == str(d.POST_SARCELLES)
    assert "Sans poste, à affecter" not in browser.html.text
    await browser.open(f"/desk/referrals?post={d.POST_78}")
    assert listed(browser) == []


async def test_counts_by_state_lead_to_their_lists(desk: Desk) -> None:
    for _ in range(2):
        await desk.receive()
    await desk.accepted()
    browser = await desk.sign_in("iscg-95")

    assert {"Affectée : 2", "Acceptée : 1", "Close : 0", "Premier contact dépassé : 0"} <= browser.html.links.keys()
    await browser.follow("Affectée : 2")
    assert len(listed(browser)) == 2


async def test_the_coordinator_finds_what_waits_at_a_post_where_nobody_works(desk: Desk) -> None:
    waiting = str(await desk.receive())
    await desk.receive("police-95", unit_id=None, commune="95008")
    await execute(desk, "UPDATE posts_heard SET state = 'suspended' WHERE id = :id", id=d.POST_CERGY)
    browser = await desk.sign_in("coordinator-95")

    await browser.follow("Poste sans titulaire en fonction : 1")
    found = listed(browser)
    await browser.open("/desk/referrals")
    await browser.submit(absent="yes")

    assert found == listed(browser) == [waiting]
    assert dict(browser.html.forms[-1].fields)["absent"] == "yes"
    own = await desk.sign_in("iscg-95")
    assert "Poste sans titulaire" not in own.html.text


async def test_what_is_typed_wrongly_is_said_beside_it(desk: Desk) -> None:
    browser = await desk.sign_in("iscg-95")

    for fields, sentence in (({"commune": "Cergy"}, "Un code INSEE de commune"), ({"since": "hier"}, "Indiquez un jour.")):
        answer = await browser.submit(**fields)
        assert answer.status_code == 422
        assert sentence in browser.html.text
        assert dict(browser.html.forms[-1].fields).items() >= fields.items()
        await browser.open("/desk/referrals")
    assert (await browser.open("/desk/referrals?status=made-up")).status_code == 400
    assert (await browser.open("/desk/referrals?cursor=made-up")).status_code == 400


async def test_pages_follow_one_another_within_the_filters(desk: Desk) -> None:
    wanted = {str(await desk.receive(urgency="immediate")) for _ in range(3)}
    await desk.receive()
    browser = await desk.sign_in("iscg-95")

    await browser.open("/desk/referrals?urgency=immediate&limit=2")
    seen = listed(browser)
    await browser.follow("Page suivante")
    seen += listed(browser)

    assert len(seen) == 3
    assert set(seen) == wanted
    assert "Revenir au début" in browser.html.links
