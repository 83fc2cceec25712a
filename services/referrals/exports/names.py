"""How the organizations, services, posts, units and communes of an export are called, out of the directory's local copy: a person cannot read ids."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from services.referrals.directory.called import called
from services.referrals.directory.names import COMMUNES
from services.referrals.exports.schemas import ExportOut


async def names_of(session: AsyncSession, export: ExportOut) -> dict[str, str]:
    """By id, or by the code of a commune; what the directory does not name yet is missing."""
    referral, orientations = export.referral, export.orientations
    posts = {referral.post_id, *(one.post_id for one in export.moves), *(one.post_id for one in export.contacts)}
    posts |= {
        *(one.post_id for one in export.interviews),
        *(one.post_id for one in export.assessments),
        *(one.post_id for one in orientations),
    }
    corrected = [(change.field, value) for one in export.corrections for change in one.changes for value in (change.before, change.after)]
    found = await called(
        session,
        services={one.service_id for one in orientations},
        posts=posts,
        units={referral.unit_id, *(UUID(str(value)) for field, value in corrected if field == "/unit_id" and value)},
        communes={referral.commune, *(str(value) for field, value in corrected if field == "/commune" and value)},
    )
    names = {key: found.commune(key) if kind == COMMUNES else name for (kind, key), (name, _) in found.names.items()}
    whose = {str(one.organization_id): found.organization(one.service_id) for one in orientations}
    return names | {id: name for id, name in whose.items() if name}
