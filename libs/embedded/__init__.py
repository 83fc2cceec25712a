"""The embedded default: everything one machine needs that is not ours, out of wheels.

PostgreSQL (`postgres`), a Kafka-protocol broker (`broker`), a token issuer for development (`issuer`), development secrets (`secrets`).
In production none of it runs: PostgreSQL, Apache Kafka and an OpenID provider are given by their addresses.
Known by services/__main__.py and by tests only.
"""
