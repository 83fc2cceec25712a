"""Applications whose routes are built once for many tests: FastAPI takes 0.1 s for those of a service, and 0.2 s for its document."""

from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from starlette.datastructures import State

from libs.chassis.app import create_app, furnish
from libs.chassis.runtime import Runtime
from libs.chassis.service import Service
from libs.chassis.settings import Settings

_free: list[tuple[Service, str, FastAPI]] = []
"""The one that was free last comes last."""


@contextmanager
def application(service: Service, settings: Settings) -> Iterator[FastAPI]:
    """As `create_app` gives it in the role `api`, with a Runtime and a state of its own; nobody else has it meanwhile."""
    kind = repr(settings.model_copy(update={"database_url": None}))  # secrets are hidden: a Runtime alone looks at them
    app = _taken(service, kind)
    if app is None:
        app = create_app(service, settings, roles=("api",))
    else:
        app.state = State()
        furnish(app, Runtime(service, settings, ("api",)))
    yield app
    _free.append((service, kind, app))  # not after an exception: it may have been left anyhow


def _taken(service: Service, kind: str) -> FastAPI | None:
    for place in reversed(range(len(_free))):
        if _free[place][0] is service and _free[place][1] == kind:
            return _free.pop(place)[2]
    return None
