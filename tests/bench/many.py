"""Tables filled by SQL as years of use would have filled them: a true row of each, so many times, with what tells one from another changed.

Secondary indexes are made afterwards: a tenth of the time.
"""

import asyncpg

_PLACE = "lpad((n % 95 + 1)::text, 2, '0')"
_REFERRALS = {
    "vault_keys": "'id', md5('key' || n)::uuid",
    "referrals": (
        f"'id', md5('referral' || n)::uuid, 'client_id', 'police-' || {_PLACE}, 'external_reference', 'before-' || n, 'departement', {_PLACE},"
        f" 'unit_id', md5('unit' || n % 4000)::uuid, 'commune', {_PLACE} || lpad((n % 500)::text, 3, '0'), 'post_id', md5('post' || n % 600)::uuid,"
        " 'status', CASE WHEN n % 200 = 0 THEN 'accepted' ELSE 'closed' END, 'received_at', now() - make_interval(mins => $1::int - n)"
    ),
    "persons": (
        "'id', md5('person' || n)::uuid, 'referral_id', md5('referral' || n)::uuid, 'key_id', md5('key' || n)::uuid,"
        r" 'identity_hash', '\x' || md5('identity' || n) || md5('other' || n),"
        r" 'name_hash', '\x' || md5('name' || n / 3) || md5('other' || n / 3)"
    ),
    "idempotency_keys": f"'client', 'police-' || {_PLACE}, 'key', md5('request' || n)",
}
_FIGURES = {
    # numbers below zero: what is heard in the measure begins at one
    "facts": "'source', 'referrals', 'position', -n, 'sequence', -n, 'subject', md5('referral' || n)::uuid",
    "situations": f"'referral_id', md5('referral' || n)::uuid, 'departement', {_PLACE}, 'received_on', current_date - n % 3650, 'status', 'closed'",
    "persons": (
        f"'referral_id', md5('referral' || n)::uuid, 'person_id', md5('person' || n)::uuid, 'departement', {_PLACE},"
        " 'received_on', current_date - n % 3650"
    ),
    "orientations": (
        f"'orientation_id', md5('orientation' || n)::uuid, 'referral_id', md5('referral' || n)::uuid, 'departement', {_PLACE},"
        " 'requested_on', current_date - n % 3650"
    ),
}
_INDEXES = (
    "SELECT schemaname || '.' || quote_ident(indexname) AS name, indexdef AS made FROM pg_indexes"
    " WHERE schemaname = 'public' AND tablename = ANY($1) AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)"
)


async def fill_referrals(url: str, number: int) -> None:
    """So many referrals of one person each, with their requests' keys, a minute apart until now, one in 200 still open; no post of the demonstration
    territory has any. (The outbox is emptied by the relay, and nobody in the measure gave an address for notices.)

    One must have been received.
    """
    await _fill(url, _REFERRALS, number)


async def fill_figures(url: str, number: int) -> None:
    """So many situations of one person and one orientation each, over ten years, with a fact each. One of each must have been heard."""
    await _fill(url, _FIGURES, number)


async def _fill(url: str, tables: dict[str, str], number: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        # no foreign key is looked up for rows that are right by their making
        await connection.execute("SET session_replication_role = replica; SET synchronous_commit = off; SET maintenance_work_mem = '256MB'")
        indexes = await connection.fetch(_INDEXES, list(tables))
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        for table, changes in tables.items():
            made = await connection.execute(
                f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT made.* FROM (SELECT one FROM {table} AS one LIMIT 1) AS pattern,"
                f" generate_series(1, $1::int) AS n, LATERAL jsonb_populate_record(pattern.one, jsonb_build_object({changes})) AS made",
                number,
            )
            if made != f"INSERT 0 {number}":
                raise RuntimeError(f"{table} has no row to be filled after: {made}")
        for index in indexes:
            await connection.execute(index["made"])
        for table in tables:
            await connection.execute(f"VACUUM ANALYZE {table}")
    finally:
        await connection.close()
