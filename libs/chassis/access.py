"""The access table: role × operation × perimeter, as data. What has no row is refused; an app with a route that has no row does not start.

The table is the first wall: may this role call this operation at all (403). The second is in the query: what lies outside the caller's
perimeter answers 404 (`libs.chassis.refusals.NotFound`), never a hint that it exists.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from libs.chassis.refusals import Forbidden
from libs.chassis.security import Principal
from libs.contracts.vocabularies import Role

EVERY_ROLE: frozenset[Role] = frozenset(Role)


@dataclass(frozen=True, slots=True, init=False)
class Rule:
    """One row: who may call the operation.

    `purpose`: reads a person's content, so that `X-Purpose` is required. `within`: perimeter kinds ("departement", "post", "organization"…)
    of which the caller must hold at least one; "national" always does. `public`: no token at all. `page`: for a person with a browser: the
    service's page guard finds who it is by a session in place of a token, and says no on a page.
    """

    roles: frozenset[Role]
    purpose: bool
    within: frozenset[str]
    public: bool
    page: bool

    def __init__(
        self,
        roles: Collection[Role] = (),
        *,
        purpose: bool = False,
        within: Collection[str] = (),
        public: bool = False,
        page: bool = False,
    ) -> None:
        if public == bool(roles):
            raise ValueError("a rule names its roles, or is public")
        object.__setattr__(self, "roles", frozenset(roles))
        object.__setattr__(self, "purpose", purpose)
        object.__setattr__(self, "within", frozenset(within))
        object.__setattr__(self, "public", public)
        object.__setattr__(self, "page", page)

    def allows(self, caller: Principal) -> bool:
        if caller.role not in self.roles:
            return False
        return not self.within or caller.departements() is None or not self.within.isdisjoint(caller.perimeter_kinds())


PUBLIC = Rule(public=True)


class AccessTable(Mapping[str, Rule]):
    """Operation id → rule."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = dict(rules)

    def __getitem__(self, operation: str) -> Rule:
        return self._rules[operation]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __or__(self, other: Mapping[str, Rule]) -> Self:
        twice = self._rules.keys() & other.keys()
        if twice:
            raise ValueError(f"two access rules for {', '.join(sorted(twice))}")
        return type(self)({**self._rules, **other})

    def check(self, operation: str, caller: Principal) -> Rule:
        """The operation's rule. Raises Forbidden when the caller may not call it."""
        rule = self._rules.get(operation)
        if rule is None or not (rule.public or rule.allows(caller)):
            raise Forbidden("Votre rôle ne permet pas cette opération.")
        return rule


class RouteWithoutRule(Exception):
    """The application refuses to start: a route is in no access table, or a row names no route."""


def check_complete(operations: Iterable[str], table: AccessTable) -> None:
    operations = list(operations)
    missing = sorted(set(operations) - table.keys())
    unused = sorted(table.keys() - set(operations))
    twice = sorted({operation for operation in operations if operations.count(operation) > 1})
    if missing:
        raise RouteWithoutRule(f"no row in the access table for: {', '.join(missing)}")
    if unused:
        raise RouteWithoutRule(f"rows of the access table that no route answers: {', '.join(unused)}")
    if twice:
        raise RouteWithoutRule(f"two routes share an operation id: {', '.join(twice)}")
