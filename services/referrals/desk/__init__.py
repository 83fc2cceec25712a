"""The web desk of the social worker and the coordinator: server-rendered pages in French, without any script, behind an OpenID sign-in.

It owns the sessions (`sessions.py`) and nothing else: pages read by the queries of the API and change by its commands, audited the same way.
"""
