"""Reporting: what can be counted, computed from what the others said, and said with how far it had heard.

Owns   the log of the thin facts it heard; the projections and counters made of it, and nothing else: all of it can be rebuilt from the log.
Says   release.published, activity_report.issued (not yet: they come with releases and activity reports).
Hears  everything: referrals, partners, funding.
"""
