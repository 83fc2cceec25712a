"""What every service stands on: settings, database, outbox, streams, relay, consumer, HTTP house rules, security, vault, audit, telemetry.

Owns: the mechanics of DESIGN §3 and §4, and the tables that carry them in every service's database. Knows no domain noun.
Says and hears: nothing of its own; it carries what the services say.

An endpoint stands on `app` (create_app), `access` (who may call what), `security` (Caller), `strict` (Body, Answer), `idempotency` (Once),
`etag` (IfMatch), `pagination` (Page), `refusals` and `problems`.
"""
