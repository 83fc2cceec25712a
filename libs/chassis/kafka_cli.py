"""Commands for whoever operates the broker: `maillon kafka`."""

import shlex
from typing import Annotated

import typer

from libs.chassis.acls import acls, principals_of
from libs.chassis.cli import MISCONFIGURED

kafka_app = typer.Typer(name="kafka", help="Bus : qui peut lire et écrire quel sujet.", no_args_is_help=True)

_TOOL = 'kafka-acls.sh --bootstrap-server "$KAFKA_BOOTSTRAP_SERVERS" --command-config "$KAFKA_ADMIN_PROPERTIES"'


@kafka_app.command("acls")
def kafka_acls(
    principal: Annotated[
        list[str],
        typer.Argument(
            help="Qui est qui : un service ou un flux, et le nom de son certificat, par exemple referrals=User:CN=referrals interior=User:CN=dgpn.",
            metavar="NOM=User:…",
            show_default=False,
        ),
    ],
    prefix: Annotated[str, typer.Option("--prefix", help="KAFKA_TOPIC_PREFIX des services.")] = "maillon",
    remove: Annotated[bool, typer.Option("--remove", help="Écrire de quoi les retirer.")] = False,
) -> None:
    """Écrire les commandes kafka-acls qui donnent à chacun ses propres sujets, d'après la table des audiences. Code 2 : un nom n'a pas de sujet."""
    try:
        found = acls(principals_of(principal), prefix)
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(MISCONFIGURED) from None
    typer.echo("set -eu")
    for one in found:
        typer.echo(f"{_TOOL} {'--remove --force' if remove else '--add'} {shlex.join(one.options())}")
