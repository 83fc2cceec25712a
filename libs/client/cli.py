"""The `maillon` command. Each group of commands lives where its work is done; here they are only put side by side."""

import typer

from libs.client.importing import import_app
from libs.client.operating import audit_app, streams_app, vault_app

app = typer.Typer(name="maillon", help="Réseau national des intervenants sociaux en commissariat et gendarmerie.", no_args_is_help=True)
app.add_typer(import_app)
app.add_typer(audit_app)
app.add_typer(streams_app)
app.add_typer(vault_app)


@app.callback()
def maillon() -> None:
    """Réseau national des intervenants sociaux en commissariat et gendarmerie."""
