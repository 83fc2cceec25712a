"""What the reporting service says: that a figure or a report was published. The figures themselves are fetched."""

from typing import ClassVar

from libs.contracts.envelope import Classification, Event
from libs.contracts.types import Day, DepartementCode, Id, Instant


class ReleasePublished(Event):
    type: ClassVar[str] = "fr.maillon.release.published.v1"
    aggregate: ClassVar[tuple[str, str]] = ("releases", "release_id")
    classification: ClassVar[Classification] = "public"

    release_id: Id
    from_on: Day
    until_on: Day
    published_at: Instant


class ActivityReportIssued(Event):
    """A bilan d'activité of a post."""

    type: ClassVar[str] = "fr.maillon.activity_report.issued.v1"
    aggregate: ClassVar[tuple[str, str]] = ("activity_reports", "activity_report_id")

    activity_report_id: Id
    departement: DepartementCode
    post_id: Id
    from_on: Day
    until_on: Day
    issued_at: Instant


EVENTS: tuple[type[Event], ...] = (ReleasePublished, ActivityReportIssued)
