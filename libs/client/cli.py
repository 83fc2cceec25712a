"""The `maillon` command. Each group of commands lives where its work is done; here they are only put side by side."""

import typer

from libs.client.importing import import_app

app = typer.Typer(name="maillon", help="Réseau national des intervenants sociaux en commissariat et gendarmerie.", no_args_is_help=True)
app.add_typer(import_app)


@app.callback()
def maillon() -> None:
    """Keeps the groups' names even while there is one group only: `maillon import …`."""
