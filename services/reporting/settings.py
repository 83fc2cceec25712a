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
    target_immediate_minutes: int = Field(default=4 * 60, ge=1)
    target_priority_minutes: int = Field(default=24 * 60, ge=1)
    target_standard_minutes: int = Field(default=72 * 60, ge=1)
    """The network's own target delays to the first contact (DOMAIN §3: unconfirmed, so never constants). Those of agreements do not count here yet."""
