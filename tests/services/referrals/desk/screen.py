"""Debian's Chromium in front of the desk: a keyboard and no script; axe-core looks at every page; screenshots are kept where somebody looks at them."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

ROOT = Path(__file__).parents[4]
AXE = ROOT / "deploy" / "ci" / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MISSING = (
    "no Chromium here: apt-get install chromium"
    if CHROMIUM is None
    else "no axe-core here: npm install --prefix deploy/ci"
    if not AXE.exists()
    else None
)
_FLAGS = ("--lang=fr-FR", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
_MOST_KEYS = 150


@dataclass
class Screen:
    """One person's window. `looked_at`: the pages that axe saw, with what it found."""

    page: Page
    twin: Page
    folder: Path | None
    looked_at: dict[str, list[str]] = field(default_factory=dict)

    async def look(self, name: str) -> None:
        """Take a picture, and let axe look at the same page in a window where scripts run (and that has no session)."""
        if self.folder is not None:
            await self.page.screenshot(path=self.folder / f"{len(self.looked_at):02d}-{name}.png", full_page=True)
        address, content = self.page.url, await self.page.content()
        # the very page that the person has, an answer to a POST included; its stylesheets still come from the desk
        await self.twin.route(address, lambda route: route.fulfill(body=content, content_type="text/html; charset=utf-8"))
        await self.twin.goto(address)
        await self.twin.unroute(address)
        await self.twin.add_script_tag(path=AXE)
        found: dict[str, Any] = await self.twin.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(found["passes"]) > 10, "axe has looked"
        self.looked_at[name] = [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]

    async def tab_to(self, selector: str) -> None:
        """By the key alone, as far as it takes; the focus can be seen all the way."""
        wanted = self.page.locator(selector)
        assert await wanted.count() >= 1, f"no {selector} on {self.page.url}"
        for _ in range(_MOST_KEYS):
            await self.page.keyboard.press("Tab")
            if await self.page.locator(f":is({selector}):focus").count():
                return
        raise AssertionError(f"{selector} cannot be reached by Tab on {self.page.url}")

    async def press(self, selector: str, key: str = "Enter") -> None:
        """Go to something and use it; waits for the page that it leads to."""
        await self.tab_to(selector)
        async with self.page.expect_navigation():
            await self.page.keyboard.press(key)

    async def choose(self, selector: str, value: str) -> None:
        """An option of a select, by the arrow."""
        await self.tab_to(selector)
        select = self.page.locator(selector)
        for _ in range(_MOST_KEYS):
            if await select.input_value() == value:
                return
            await self.page.keyboard.press("ArrowDown")
        raise AssertionError(f"{selector} has no {value}")

    async def tick(self, selector: str) -> None:
        """A radio or a box, by the space bar; the arrow where another of the group has the focus."""
        name = await self.page.locator(selector).get_attribute("name")
        await self.tab_to(f'[name="{name}"]')
        for _ in range(_MOST_KEYS):
            if await self.page.locator(f"{selector}:focus").count():
                break
            await self.page.keyboard.press("ArrowDown")
        if not await self.page.locator(selector).is_checked():
            await self.page.keyboard.press("Space")
        assert await self.page.locator(selector).is_checked()


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def window(browser: Browser, **options: Any) -> AsyncIterator[Screen]:
    """Without scripts; a picture of each page in MAILLON_SCREENSHOTS when that is set."""
    given = os.environ.get("MAILLON_SCREENSHOTS")
    folder = Path(given) if given else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    context = await browser.new_context(java_script_enabled=False, locale="fr-FR", timezone_id="Europe/Paris", **options)
    seeing = await browser.new_context(bypass_csp=True, locale="fr-FR", **options)
    try:
        yield Screen(await context.new_page(), await seeing.new_page(), folder)
    finally:
        await seeing.close()
        await context.close()
