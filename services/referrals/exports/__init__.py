"""The right of access (GDPR art. 15): everything held on one person of a referral, as JSON and as a document to hand over; nothing of the others."""
