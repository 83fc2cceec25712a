"""What the funding service says. Money is integer cents of euro."""

from typing import ClassVar

from pydantic import Field

from libs.contracts.envelope import Event, Part
from libs.contracts.types import Cents, Count, Day, DepartementCode, Id, Instant
from libs.contracts.vocabularies import Channel, Firmness, FunderKind, RiskReason, Urgency


class Share(Part):
    """One funder's part of a plan."""

    funder_id: Id
    funder_kind: FunderKind
    firmness: Firmness
    amount_cents: Cents


class FundingEvent(Event):
    departement: DepartementCode


class PlanEvent(FundingEvent):
    """A plan is the budget and the shares of one post for one year; the whole state after the change."""

    aggregate: ClassVar[tuple[str, str]] = ("plans", "plan_id")

    plan_id: Id
    post_id: Id
    year: int = Field(ge=1990, le=2100)
    budget_cents: Cents
    funded_cents: Cents
    shares: tuple[Share, ...] = Field(max_length=50)
    changed_at: Instant


class PlanBalanced(PlanEvent):
    """The shares reach the budget."""

    type: ClassVar[str] = "fr.maillon.plan.balanced.v1"


class PlanGapped(PlanEvent):
    """The shares do not reach the budget: `gap_cents` = budget - funded, above zero."""

    type: ClassVar[str] = "fr.maillon.plan.gapped.v1"

    gap_cents: Cents = Field(gt=0)


class TargetDelay(Part):
    """Minutes from reception to the first contact attempt."""

    urgency: Urgency
    minutes: Count


class AgreementEvent(FundingEvent):
    aggregate: ClassVar[tuple[str, str]] = ("agreements", "agreement_id")

    agreement_id: Id
    post_ids: tuple[Id, ...] = Field(min_length=1, max_length=100)


class AgreementSigned(AgreementEvent):
    """`channels` empty: every channel. `targets` empty: the network's own."""

    type: ClassVar[str] = "fr.maillon.agreement.signed.v1"

    starts_on: Day
    ends_on: Day
    channels: tuple[Channel, ...] = Field(max_length=9)
    targets: tuple[TargetDelay, ...] = Field(max_length=3)
    signed_at: Instant


class AgreementExpiring(AgreementEvent):
    type: ClassVar[str] = "fr.maillon.agreement.expiring.v1"

    ends_on: Day
    noticed_at: Instant


class AgreementEnded(AgreementEvent):
    type: ClassVar[str] = "fr.maillon.agreement.ended.v1"

    ended_on: Day
    ended_at: Instant


class ContributionEvent(FundingEvent):
    aggregate: ClassVar[tuple[str, str]] = ("plans", "plan_id")

    plan_id: Id
    contribution_id: Id
    post_id: Id
    year: int = Field(ge=1990, le=2100)
    funder_id: Id
    funder_kind: FunderKind
    amount_cents: Cents


class ContributionRequested(ContributionEvent):
    type: ClassVar[str] = "fr.maillon.contribution.requested.v1"

    requested_at: Instant


class ContributionGranted(ContributionEvent):
    type: ClassVar[str] = "fr.maillon.contribution.granted.v1"

    granted_at: Instant


class ContributionRefused(ContributionEvent):
    type: ClassVar[str] = "fr.maillon.contribution.refused.v1"

    refused_at: Instant


class ContributionAgreed(ContributionEvent):
    type: ClassVar[str] = "fr.maillon.contribution.agreed.v1"

    agreed_at: Instant


class InstalmentEvent(FundingEvent):
    aggregate: ClassVar[tuple[str, str]] = ("agreements", "agreement_id")

    agreement_id: Id
    instalment_id: Id
    post_id: Id
    funder_id: Id
    amount_cents: Cents
    due_on: Day


class InstalmentDue(InstalmentEvent):
    type: ClassVar[str] = "fr.maillon.instalment.due.v1"

    noticed_at: Instant


class InstalmentPaid(InstalmentEvent):
    type: ClassVar[str] = "fr.maillon.instalment.paid.v1"

    paid_cents: Cents
    paid_on: Day


class InstalmentOverdue(InstalmentEvent):
    type: ClassVar[str] = "fr.maillon.instalment.overdue.v1"

    noticed_at: Instant


class FinancialReportEvent(FundingEvent):
    """Cerfa 15059: within six months after the end of the financial year (DOMAIN §6)."""

    aggregate: ClassVar[tuple[str, str]] = ("agreements", "agreement_id")

    agreement_id: Id
    financial_report_id: Id
    year: int = Field(ge=1990, le=2100)
    due_on: Day


class FinancialReportDue(FinancialReportEvent):
    type: ClassVar[str] = "fr.maillon.financial_report.due.v1"

    noticed_at: Instant


class FinancialReportSubmitted(FinancialReportEvent):
    type: ClassVar[str] = "fr.maillon.financial_report.submitted.v1"

    submitted_at: Instant


class FinancialReportOverdue(FinancialReportEvent):
    type: ClassVar[str] = "fr.maillon.financial_report.overdue.v1"

    noticed_at: Instant


class PostAtRisk(FundingEvent):
    type: ClassVar[str] = "fr.maillon.post.at_risk.v1"
    aggregate: ClassVar[tuple[str, str]] = ("posts", "post_id")

    post_id: Id
    year: int = Field(ge=1990, le=2100)
    reason: RiskReason
    from_on: Day
    noticed_at: Instant


EVENTS: tuple[type[Event], ...] = (
    PlanBalanced,
    PlanGapped,
    AgreementSigned,
    AgreementExpiring,
    AgreementEnded,
    ContributionRequested,
    ContributionGranted,
    ContributionRefused,
    ContributionAgreed,
    InstalmentDue,
    InstalmentPaid,
    InstalmentOverdue,
    FinancialReportDue,
    FinancialReportSubmitted,
    FinancialReportOverdue,
    PostAtRisk,
)
