"""Hours that pass at once: a loop whose clock goes to its next timer when nothing else is left to do. For what opens no socket and starts no thread."""

import asyncio
import selectors
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, TypeVar

T = TypeVar("T")


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = 0.0
        super().__init__(_Skipping(self))

    def time(self) -> float:
        return self._clock

    def skip(self, seconds: float) -> None:
        self._clock += seconds


class _Skipping(selectors.DefaultSelector):
    def __init__(self, loop: _Loop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen"
        self._loop.skip(timeout)
        return super().select(0)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """What it gives; each timer in its turn, on a machine of any speed."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


class Another:
    """A module for one user of it, with some names that are other things."""

    def __init__(self, module: ModuleType, **others: Any) -> None:
        self._module = module
        vars(self).update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)
