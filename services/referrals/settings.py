"""Settings of the referrals service."""

from typing import ClassVar

from pydantic import Field

from libs.chassis.settings import Settings as ChassisSettings


class Settings(ChassisSettings):
    service: ClassVar[str] = "referrals"

    orientation_days: int = Field(default=14, ge=1, le=365)
    """After how many days an orientation that nobody answered expires."""
