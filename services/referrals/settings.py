"""Settings of the referrals service."""

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from libs.chassis.settings import Settings as ChassisSettings
from libs.contracts.vocabularies import Urgency


class Settings(ChassisSettings):
    service: ClassVar[str] = "referrals"

    orientation_days: int = Field(default=14, ge=1, le=365)
    """After how many days an orientation that nobody answered expires."""

    refused_erased_after_hours: int = Field(default=72, ge=0, le=24 * 31)
    """How long the personal data of somebody who refused to be contacted is kept: time to correct a mistake."""

    # From reception to the first contact attempt, where the post's agreement says nothing (DOMAIN §3: unconfirmed, hence settings)
    target_immediate_minutes: int = Field(default=4 * 60, ge=1, le=525_600)
    target_priority_minutes: int = Field(default=24 * 60, ge=1, le=525_600)
    target_standard_minutes: int = Field(default=72 * 60, ge=1, le=525_600)

    orientation_reminder_days: int = Field(default=3, ge=1, le=364)
    """How long before it expires an orientation that nobody answered is recalled to the partner."""
    link_days: int = Field(default=14, ge=1, le=60)
    """How long a partner's answer link holds, at most."""
    desk_url: str | None = None
    """Base URL of the web desk, for the links of notices; without it they lead to the API's own objects."""

    # Notices by e-mail. Without a host nothing is sent: notices wait
    smtp_host: str | None = None
    smtp_port: int = Field(default=587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "plain"] = "starttls"
    smtp_allow_plaintext: bool = False
    """Production otherwise refuses `plain`."""
    smtp_cafile: str | None = None
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: str = Field(default="ne-pas-repondre@maillon.example", pattern=r"^[^@\s]+@[^@\s]+$")

    @model_validator(mode="after")
    def _mail_is_private(self) -> Self:
        if self.environment == "production" and self.smtp_host and self.smtp_security == "plain" and not self.smtp_allow_plaintext:
            raise PydanticCustomError(
                "setting",
                "{sentence}",
                {
                    "sentence": "Les courriels ne sont pas chiffrés : SMTP_SECURITY=starttls ou tls, ou SMTP_ALLOW_PLAINTEXT=true si le réseau l'est déjà."
                },
            )
        return self

    # Personal data
    retention_days: int = Field(default=730, ge=30, le=3650)
    """How long after the last contact with the person everything sealed of a referral is kept (CNIL: two years)."""
    retention_job: bool = True
    """Erase by itself, every night; false: only by the command, after its `--dry-run`."""
    erasure_acknowledgers: tuple[str, ...] = ("partners", "funding", "reporting")
    """The clients of our own services, each of which must say that it has acted on an erasure."""

    def targets(self) -> Mapping[str, int]:
        """Minutes by urgency."""
        return {
            Urgency.IMMEDIATE: self.target_immediate_minutes,
            Urgency.PRIORITY: self.target_priority_minutes,
            Urgency.STANDARD: self.target_standard_minutes,
        }
