"""The shared vocabulary: events (one file per speaking service), code lists, audiences.

Depends on the standard library and pydantic only, so that any other program may read it too.
"""
