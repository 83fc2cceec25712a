"""Settings of the reporting service: `REPORTING_DATABASE_URL` and so on."""

from typing import ClassVar

from pydantic import Field

from libs.chassis.settings import Settings as ChassisSettings


class Settings(ChassisSettings):
    service: ClassVar[str] = "reporting"

    port: int = 8004
    public_url: str = "http://127.0.0.1:8004"

    suppression_threshold: int = Field(default=5, ge=1, le=100)
    """Cells about fewer situations or persons are hidden (DOMAIN §8: 5 inside ministries)."""
