"""`maillon receipt verify`: receipts checked offline, for whoever keeps them: a police system, an auditor, a court."""

import json
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console

from libs.client.receipts import ReceiptInvalid, pairs, verify_receipt

receipt_app = typer.Typer(name="receipt", help="Reçus : vérifier ce qui a été reçu, sans le service.", no_args_is_help=True)
_out, _err = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)


@receipt_app.callback()
def _receipts() -> None:
    """Reçus : vérifier ce qui a été reçu, sans le service."""


@receipt_app.command("verify")
def verify(
    receipt: Annotated[
        Path,
        typer.Argument(help="La réponse à une saisine, son reçu seul, ou les résultats d'un envoi (NDJSON).", exists=True, dir_okay=False),
    ],
    request: Annotated[Path, typer.Argument(help="Ce qui a été envoyé, octet pour octet.", exists=True, dir_okay=False)],
    keys: Annotated[str, typer.Option("--keys", help="Les clés publiées : un fichier (la réponse de GET /v1/keys) ou leur adresse.")],
) -> None:
    """Vérifier qu'un reçu porte sur ces octets et que le service l'a signé. Code 1 sinon ; 2 si les clés ne se lisent pas."""
    jwks, sent = _keys(keys), request.read_bytes()
    good, wrong = 0, 0
    number: int | None = None
    try:
        for number, said, possible in pairs(receipt.read_bytes(), sent):
            try:
                proved = verify_receipt(said, possible, jwks)
            except ReceiptInvalid as invalid:
                wrong += 1
                _refuse(number, invalid)
                continue
            good += 1
            if number is None:
                statement = proved.statement
                _out.print(
                    f"Reçu valide : la saisine {statement.referral_id} de {statement.client_id} a été reçue le"
                    f" {statement.received_at.isoformat(timespec='seconds')} (clé {proved.key_id}).",
                    markup=False,
                )
    except ReceiptInvalid as invalid:
        wrong += 1
        _refuse(None, invalid)
    if number is not None:
        _out.print(f"{good} reçu(s) valide(s), {wrong} non valide(s).")
    if wrong or not good:
        raise typer.Exit(1)


def _refuse(number: int | None, invalid: ReceiptInvalid) -> None:
    place = f"ligne {number}, reçu" if number is not None else "Reçu"
    _err.print(f"{place} NON VALIDE : {invalid.flaw.label}.", style="red", markup=False)


def _keys(given: str) -> dict[str, Any]:
    try:
        elsewhere = given.startswith(("http://", "https://"))
        read = json.loads(httpx.get(given, timeout=10).raise_for_status().content if elsewhere else Path(given).read_bytes())
        if isinstance(read["keys"], list):
            return {"keys": read["keys"]}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, httpx.HTTPError, httpx.InvalidURL):
        pass  # said below, as when it holds no list
    _err.print("--keys ne donne pas de clés (JWKS) : enregistrez la réponse de GET /v1/keys, ou donnez son adresse.", style="red")
    raise typer.Exit(2)
