"""Settings of the referrals service."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from libs.chassis.settings import Settings as ChassisSettings
from libs.contracts.vocabularies import Urgency


class Settings(ChassisSettings):
    service: ClassVar[str] = "referrals"

    orientation_days: int = Field(default=14, ge=1, le=365)
    """After how many days an orientation that nobody answered expires."""

    # From reception to the first contact attempt, where the post's agreement says nothing (DOMAIN §3: unconfirmed, hence settings)
    target_immediate_minutes: int = Field(default=4 * 60, ge=1, le=525_600)
    target_priority_minutes: int = Field(default=24 * 60, ge=1, le=525_600)
    target_standard_minutes: int = Field(default=72 * 60, ge=1, le=525_600)

    def targets(self) -> Mapping[str, int]:
        """Minutes by urgency."""
        return {
            Urgency.IMMEDIATE: self.target_immediate_minutes,
            Urgency.PRIORITY: self.target_priority_minutes,
            Urgency.STANDARD: self.target_standard_minutes,
        }
