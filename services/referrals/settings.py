"""Settings of the referrals service."""

from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from libs.chassis.settings import Settings as ChassisSettings
from libs.chassis.streams import INTERNAL
from libs.contracts.vocabularies import Urgency
from services.referrals.rights.domain import Term


class Settings(ChassisSettings):
    service: ClassVar[str] = "referrals"

    # When an orientation that nobody answered expires, by the urgency of its referral (no official figure was found, hence settings)
    orientation_immediate_hours: int = Field(default=24, ge=1, le=24 * 365)
    """Where somebody is in danger, too."""
    orientation_priority_hours: int = Field(default=7 * 24, ge=1, le=24 * 365)
    orientation_days: int = Field(default=14, ge=1, le=365)
    """Of a standard one."""

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

    # The web desk (services/referrals/desk). Without a client id nobody signs in, and the links of notices lead to the API's own objects
    desk_client_id: str | None = Field(default=None, min_length=1, max_length=200)
    """The desk's own client at the OpenID provider, which is TOKEN_ISSUER: found by discovery."""
    desk_client_secret: SecretStr | None = None
    """Of a confidential client; none: a public one, by PKCE alone."""
    desk_scope: str = Field(default="openid maillon", pattern=r"^openid(?: [!#-\[\]-~]+)*$")
    desk_url: str | None = Field(default=None, pattern=r"^https?://[A-Za-z0-9.:\[\]-]+/desk$")
    """Where browsers find the desk; without it: PUBLIC_URL, then /desk."""
    desk_idle_minutes: int = Field(default=30, ge=1, le=480)
    """A session that nobody used for so long is over. Who signed in at the provider longer ago than that signs in again."""
    desk_session_minutes: int = Field(default=600, ge=5, le=1440)
    """However much it is used, a session is over after that."""

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

    @model_validator(mode="after")
    def _desk_is_private(self) -> Self:
        if self.environment != "production" or self.desk_client_id is None or self.http_allow_plaintext:
            return self
        for name, url in (("DESK_URL", self.desk_base), ("TOKEN_ISSUER", self.token_issuer)):
            if not url.startswith("https://"):
                sentence = f"{name} n'est pas en https : corrigez-la, ou HTTP_ALLOW_PLAINTEXT=true si le réseau est déjà chiffré."
                raise PydanticCustomError("setting", "{sentence}", {"sentence": sentence})
        return self

    @property
    def desk_base(self) -> str:
        """The desk as browsers see it, without a slash at the end."""
        return self.desk_url or f"{self.public_url}/desk"

    # Personal data
    erasure_unconfirmed_days: int = Field(default=14, ge=1, le=90)
    """How long an erasure may wait for who was given the data before the coordinator is told, each week."""
    persons_retention_days: int = Field(default=730, ge=30, le=3650)
    """How long after the last contact with the person everything sealed of a referral is kept (CNIL: two years). Events have RETENTION_DAYS."""
    persons_retention_notice_days: int = Field(default=14, ge=0, le=90)
    """How long before it is erased the end of a referral's retention is announced (GET /v1/announced-ends), time to see a wrong setting or a case to keep.
    Nothing is erased by the retention that was not announced so long before."""
    persons_retention_job: bool = True
    """Erase by itself, every night, what was announced; false: announce only, and erase by the command (`retention`)."""
    erasure_acknowledgers: tuple[str, ...] = ("partners", "funding", "reporting")
    """The clients of our own services, each of which must say that it has acted on an erasure."""
    erasure_topic_readers: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By stream (`{"justice": ["justice"]}`), the clients that the broker's access lists let read its topic: Kafka does not tell us who did, so an erasure
    waits for each from the first day. Whoever reads by feed or webhook is known without it."""

    @property
    def term(self) -> Term:
        return Term(self.persons_retention_days, self.persons_retention_notice_days)

    def expected_readers(self) -> Mapping[str, Collection[str]]:
        """By stream, who must acknowledge an erasure though no door of ours has seen them."""
        return {**self.erasure_topic_readers, INTERNAL: (*self.erasure_acknowledgers, *self.erasure_topic_readers.get(INTERNAL, ()))}

    def answer_times(self) -> Mapping[str, timedelta]:
        """How long a partner's answer is waited for, by urgency."""
        return {
            Urgency.IMMEDIATE: timedelta(hours=self.orientation_immediate_hours),
            Urgency.PRIORITY: timedelta(hours=self.orientation_priority_hours),
            Urgency.STANDARD: timedelta(days=self.orientation_days),
        }

    def targets(self) -> Mapping[str, int]:
        """Minutes by urgency."""
        return {
            Urgency.IMMEDIATE: self.target_immediate_minutes,
            Urgency.PRIORITY: self.target_priority_minutes,
            Urgency.STANDARD: self.target_standard_minutes,
        }
