"""A rule says no, in one sentence a case worker understands. Nothing here knows HTTP beyond a status number (`domain.py` uses it).

A refusal's sentence is French and never holds a submitted value: it may be shown, logged and kept.
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar

Pointer = tuple[str, str]
"""Where (a JSON pointer into the request body, "" for its root) and what is wrong there (a sentence)."""


class Refusal(Exception):
    """A request that was understood and refused; nothing was changed.

    `type` is the stable kebab-case name that programs match on, `title` the French name of the kind, `detail` the sentence of this case.
    `pointers` become the problem's `errors[]`; `more` its further members (ids and codes only); `headers` go with the answer.
    """

    status: ClassVar[int] = 409
    type: ClassVar[str] = "refused"
    title: ClassVar[str] = "Demande refusée"

    def __init__(
        self,
        detail: str,
        *,
        pointers: Iterable[Pointer] = (),
        more: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.pointers: tuple[Pointer, ...] = tuple(pointers)
        self.more: dict[str, str | int] = dict(more or {})
        self.headers: dict[str, str] = dict(headers or {})


class Malformed(Refusal):
    """The request cannot be read: broken JSON, a bad header or cursor."""

    status = 400
    type = "malformed"
    title = "Demande illisible"


class Unauthenticated(Refusal):
    status = 401
    type = "unauthenticated"
    title = "Authentification requise"


class Forbidden(Refusal):
    status = 403
    type = "forbidden"
    title = "Accès refusé"


class NotFound(Refusal):
    """Also for what exists outside the caller's perimeter: the two cannot be told apart."""

    status = 404
    type = "not-found"
    title = "Introuvable"

    def __init__(
        self,
        detail: str = "Cet objet n'existe pas, ou n'est pas dans votre périmètre.",
        *,
        pointers: Iterable[Pointer] = (),
        more: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, pointers=pointers, more=more, headers=headers)


class Conflict(Refusal):
    type = "conflict"
    title = "Conflit avec l'état actuel"


class Gone(Refusal):
    """It was there and is no longer kept."""

    status = 410
    type = "gone"
    title = "Plus disponible"


class StaleVersion(Refusal):
    """`If-Match` names an older version than the one stored."""

    status = 412
    type = "stale-version"
    title = "Version dépassée"

    def __init__(
        self,
        detail: str = "Cet objet a été modifié entre-temps : relisez-le, puis recommencez avec sa nouvelle version.",
        *,
        pointers: Iterable[Pointer] = (),
        more: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, pointers=pointers, more=more, headers=headers)


class VersionMissing(Refusal):
    status = 428
    type = "version-missing"
    title = "Version attendue"

    def __init__(
        self,
        detail: str = "Indiquez dans l'en-tête If-Match la version de l'objet que vous avez lue (son ETag).",
        *,
        pointers: Iterable[Pointer] = (),
        more: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, pointers=pointers, more=more, headers=headers)


class Invalid(Refusal):
    """Read, but a value is not acceptable: `pointers` say which and why."""

    status = 422
    type = "invalid"
    title = "Données invalides"


class Unavailable(Refusal):
    """Nothing is wrong with the request: something this service needs does not answer."""

    status = 503
    type = "unavailable"
    title = "Service momentanément indisponible"

    def __init__(
        self,
        detail: str = "Le service est momentanément indisponible : rien n'a été enregistré, réessayez dans quelques instants.",
        *,
        retry_after_seconds: int = 5,
        pointers: Iterable[Pointer] = (),
        more: Mapping[str, str | int] | None = None,
    ) -> None:
        super().__init__(detail, pointers=pointers, more=more, headers={"Retry-After": str(retry_after_seconds)})
