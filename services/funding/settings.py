"""Settings of the funding service: `FUNDING_DATABASE_URL` and so on."""

from typing import ClassVar

from libs.chassis.settings import Settings as ChassisSettings


class Settings(ChassisSettings):
    service: ClassVar[str] = "funding"

    port: int = 8003
    public_url: str = "http://127.0.0.1:8003"
