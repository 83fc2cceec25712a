"""The referrals of the police and gendarmerie to the ISCG: from the patrol's word to the closed case.

Owns: referrals, their persons, moves, contact attempts, interviews, assessments, corrections, orientations and routing decisions;
copies of posts, units, coverage, services and agreements, kept up to date by what it hears.

Says: referral.received / assigned / unrouted / accepted / corrected / closed / reopened / erased / overdue; contact.attempted; interview.held / withdrawn;
assessment.recorded / withdrawn; orientation.requested / accepted / rejected / started / completed / failed / expired / cancelled / updated.

Hears: posts, units, coverage, services and capacity (partners); agreements with their channels and target delays (funding).

Names, contacts and narratives are sealed with one data key for each person and one for the narrative. The police read how far their
referral is, never what was said, to whom the person was oriented, or whether it was known.
"""
