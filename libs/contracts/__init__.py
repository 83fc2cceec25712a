"""The shared vocabulary: events (one file per speaking service), code lists, audiences.

Depends on the standard library and pydantic only, so that any other program may read it too.

- `types`, `vocabularies`, `territories`, `units`: what events are made of
- `envelope`: what an event is; `referrals`, `partners`, `funding`, `reporting`: what each service says; `registry`: all of it by name
- `audiences`: who is told what; `schemas`: JSON Schema and AsyncAPI, made from all this; `samples`: one immutable sample per event version
- `demonstration`: the fixed fictitious ids of the demonstration territory
"""
