"""The receipt of a referral: what the service signs when it receives one, and how whoever has the published keys checks it offline."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from libs.contracts.types import Id, Instant

RECEIPT: Final = "vnd.maillon.receipt+jws"
"""The media type (`typ`) in the header of a receipt's signature: no other thing signed with the same key passes for a receipt."""


class ReceiptStatement(BaseModel):
    """The signed text, as canonical JSON (sorted members, no spaces). `sha256`: of the body of the request, or of its line in a batch without
    its end of line, byte for byte as it was sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    referral_id: Id
    client_id: str
    received_at: Instant
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
