"""Everything on one machine: `python -m services [--once]`, which `make run` calls.

Starts PostgreSQL, a Kafka-protocol broker and a token issuer out of wheels, then the four services, each as a process of its own; fills a new data
folder with the demonstration territory; plays one referral through its whole journey and says what happened; stays up until Ctrl-C.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.status import Status

from libs.contracts.demonstration import CLIENTS, PERSONS
from libs.embedded import demonstration, journey
from libs.embedded.errors import CannotStart
from libs.embedded.house import House, Plan
from libs.embedded.network import CallFailed, Network

_STARTED = time.monotonic()
SERVICES = {"referrals": 8001, "partners": 8002, "funding": 8003, "reporting": 8004}
ISSUER_PORT = 8000


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make run ARGS=…" if "MAKELEVEL" in os.environ else "python -m services",
        description="Tout Maillon sur une machine.",
        epilog="Ports : REFERRALS_PORT, PARTNERS_PORT, FUNDING_PORT, REPORTING_PORT, ISSUER_PORT. Pour se passer d'une partie embarquée : "
        "KAFKA_BOOTSTRAP_SERVERS, REFERRALS_DATABASE_URL (et les trois autres), TOKEN_ISSUER avec TOKEN_URL et TOKEN_JWKS_URL.",
    )
    parser.add_argument("--once", action="store_true", help="finir dès que le parcours est compté : code 0, ou 1 s'il ne l'est pas")
    parser.add_argument(
        "--data", type=Path, default=Path(os.environ.get("MAILLON_DATA") or ".maillon"), help="dossier des données (MAILLON_DATA, .maillon)"
    )
    parser.add_argument("--memory", action="store_true", help="dire la mémoire de chaque processus")
    return parser.parse_args(arguments)


def _port(environment: Mapping[str, str], variable: str, default: int) -> int:
    given = environment.get(variable) or str(default)
    if not given.isascii() or not given.isdigit() or not 0 < int(given) < 65536:
        raise CannotStart(f"{variable} doit être un numéro de port, de 1 à 65535.")
    return int(given)


def plan_of(folder: Path, environment: Mapping[str, str]) -> Plan:
    """What to start, out of the environment. Raises `CannotStart`."""
    services = {name: _port(environment, f"{name.upper()}_PORT", port) for name, port in SERVICES.items()}
    plan = Plan(folder, services, _port(environment, "ISSUER_PORT", ISSUER_PORT), environment)
    if plan.needs_issuer and environment.get("MAILLON_ENVIRONMENT", "development") != "development":
        raise CannotStart(
            "L'émetteur embarqué donne un jeton à qui le demande : hors développement, donnez TOKEN_ISSUER, TOKEN_URL et TOKEN_JWKS_URL."
        )
    return plan


class _Progress:
    """One line that tells what is awaited, and one line for each part that is there."""

    def __init__(self, console: Console, status: Status) -> None:
        self._console = console
        self._status = status
        self._waiting: dict[str, str] = {}

    def __call__(self, name: str, what: str) -> None:
        if what.startswith("prêt"):
            self._waiting.pop(name, None)
            self._console.print(f"  [green]✓[/] {name:<19} [dim]{what}[/]", highlight=False)
        else:
            self._waiting[name] = what
        self._status.update("Démarrage : " + ", ".join(f"{part} {state}" for part, state in self._waiting.items()) + "…")


async def _run(options: argparse.Namespace, console: Console, stopping: asyncio.Event) -> int:
    plan = plan_of(options.data, os.environ)
    house = House(plan)
    watching: asyncio.Task[None] | None = None
    try:
        with console.status("Démarrage…") as status:
            await house.start(_Progress(console, status))
        console.print(f"[bold]Prêt en {time.monotonic() - _STARTED:.1f} s.[/]".replace(".", ",", 1), highlight=False)
        watching = asyncio.create_task(
            house.watch(lambda name, what: console.print(f"[yellow]![/] {name} {what}", highlight=False, soft_wrap=True))
        )
        async with Network({name: plan.url(name) for name in plan.services}, plan.token_url) as network:
            with console.status("Territoire de démonstration…") as status:
                await demonstration.seed(network, house.folder, lambda what: status.update(f"Territoire de démonstration : {what}…"))
            seen = await journey.play(network, console)
        if options.memory:
            _print_memory(house, console)
        if options.once:
            return 0 if seen else 1
        _print_welcome(plan, console)
        await stopping.wait()
        return 0
    finally:
        if watching:
            watching.cancel()
        with console.status("Arrêt…"):
            await house.stop()


def _print_memory(house: House, console: Console) -> None:
    resident = house.memory()
    for name, size in sorted(resident.items(), key=lambda item: -item[1]):
        console.print(f"  {name:<19} {size / 2**20:6.0f} Mo", highlight=False)
    console.print(f"  {'ensemble':<19} {sum(resident.values()) / 2**20:6.0f} Mo", style="bold", highlight=False)


def _print_welcome(plan: Plan, console: Console) -> None:
    console.rule("Maillon est en marche", style="green")
    for name in plan.services:
        console.print(f"  {name:<19} {plan.url(name)}/docs", highlight=False)
    console.print(f"  {'jetons':<19} {plan.token_url}", highlight=False)
    if plan.needs_issuer:
        console.print(f"  {'poste de travail':<19} {plan.url('referrals')}/desk/", highlight=False)
        names = ", ".join(f"{person.name} ({CLIENTS[person.client_id].label})" for person in PERSONS.values())
        console.print(f"  {'':<19} s'y connectent : {names}", style="dim", highlight=False, soft_wrap=True)
    console.print("\nÀ coller dans un autre terminal :\n", highlight=False)
    # as it stands, on one line each: a terminal that breaks lines would break the commands
    for line in journey.first_call(plan.url("referrals"), plan.token_url):
        console.print(line, style="cyan", soft_wrap=True, highlight=False, markup=False)
    console.print("\nCtrl-C pour tout arrêter.", style="dim")


async def _main(options: argparse.Namespace, console: Console) -> int:
    stopping = asyncio.Event()
    running = asyncio.ensure_future(_run(options, console, stopping))
    hurried = False

    def stop() -> None:
        nonlocal hurried
        if hurried:
            os._exit(1)  # the children end with us
        hurried = True
        stopping.set()
        running.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        return await running
    except asyncio.CancelledError:
        return 1 if options.once else 0


def main() -> int:
    options = _options(sys.argv[1:])
    console, errors = Console(), Console(stderr=True)
    try:
        return asyncio.run(_main(options, console))
    except (CannotStart, CallFailed) as reason:
        errors.print(str(reason), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
