"""Life signs of the loops that a process runs. `/livez` asks whether they make progress; a stuck loop is what a restart can heal."""

import time


class Heartbeat:
    """A loop beats whenever it made progress or found nothing to do; silence for longer than `max_silence_seconds` means that it is stuck."""

    def __init__(self, name: str, max_silence_seconds: float) -> None:
        self.name = name
        self.max_silence_seconds = max_silence_seconds
        self._last = time.monotonic()

    def beat(self) -> None:
        self._last = time.monotonic()

    @property
    def silence_seconds(self) -> float:
        return time.monotonic() - self._last

    @property
    def alive(self) -> bool:
        return self.silence_seconds <= self.max_silence_seconds
