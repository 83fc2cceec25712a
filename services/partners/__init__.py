"""The partner network: who may take a person over, where, and which post of ISCG covers which unit.

Owns: organisations, their services and locations, police and gendarmerie units, communes (INSEE's reference), posts, coverage, capacity.

Says: organization.registered / changed / closed; service.registered / changed / closed; capacity.changed; unit.registered / changed /
closed; post.opened / filled / vacant / suspended / closed; coverage.changed. Each carries the whole state a listener needs, and is said
only when something that listeners know has changed: a new telephone number is not an event.

Hears: the answers to orientations (referrals), for the acceptance rate and delay of each service; plan.balanced / plan.gapped (funding),
for the funding state of each post.

Everyone with a token reads the directory: it holds the contact details of services, never of persons.
"""
