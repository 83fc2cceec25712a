"""No form of the desk is left out by the search for personal markers, and what one of them would leave in the log is found."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import structlog

from libs.embedded.journey import referral
from services.referrals.desk import move_pages, notice_pages, orientation_pages, person_pages, requisition_pages
from services.referrals.desk.forms import Form
from tests.journeys.desk_forms import EXEMPT, forms_of, type_everywhere
from tests.journeys.markers import found_in
from tests.planted import red
from tests.services.referrals.desk.conftest import Desk
from tests.serving import app_of


async def test_every_form_of_the_desk_is_typed_into_and_leaves_nothing_in_an_address_or_in_the_log(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses, _ = await type_everywhere(desk, referral("typed"))

    assert [one for one in addresses if found_in(one)] == [], "in an address"
    assert EXEMPT.keys() < forms_of(desk).keys()
    assert not found_in("".join(capfd.readouterr())), "in the log"


@pytest.mark.parametrize("pages", [person_pages, move_pages, requisition_pages, orientation_pages, notice_pages])
async def test_planted_a_form_that_is_logged_is_seen(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, pages: ModuleType
) -> None:
    read: Callable[[Any], Form] = pages.form_of

    def telling(request: Any) -> Form:
        structlog.get_logger("planted").info("planted", form=read(request).pairs)
        return read(request)

    monkeypatch.setattr(pages, "form_of", telling)

    with red("in the log"):
        await test_every_form_of_the_desk_is_typed_into_and_leaves_nothing_in_an_address_or_in_the_log(desk, capfd)


async def test_planted_a_form_that_nobody_types_into_is_seen(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    async def take(planted_id: str) -> None: ...

    app_of(desk.client).add_api_route("/desk/planted/{planted_id}", take, methods=["POST"], operation_id="planted", include_in_schema=False)

    with red("a form that nobody typed into"):
        await test_every_form_of_the_desk_is_typed_into_and_leaves_nothing_in_an_address_or_in_the_log(desk, capfd)
