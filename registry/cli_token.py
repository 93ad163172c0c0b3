"""``kinspace token``: who may change a served registry, for which families, for what, how long."""

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli_errors import exits
from registry.cli_publish import Json

if TYPE_CHECKING:
    from registry.tokens import Token

token_app = typer.Typer(
    help="Say who may change a registry over HTTP, and what.", no_args_is_help=True
)

Tokens = Annotated[Path, typer.Option("--tokens", help="file of tokens, as kinspace serve has it")]


@token_app.command("new")
@exits
def new(
    tokens: Tokens,
    family: Annotated[
        list[str], typer.Option(help="what it is for; may be repeated; * is every family")
    ],
    verb: Annotated[
        list[str],
        typer.Option(
            help="publish (blobs, releases), promote (channels), keys (families and their keys); "
            "may be repeated"
        ),
    ],
    days: Annotated[int, typer.Option(min=1, max=3650, help="how long it holds")] = 90,
    as_json: Json = False,
) -> None:
    """Make a token and print it, once: the file keeps only what knows it again."""
    from registry.tokens import TokenBook, verb_of

    verbs = tuple(verb_of(each) for each in verb)
    token, words = TokenBook(tokens).add(tuple(family), verbs, lifetime=timedelta(days=days))
    if as_json:
        typer.echo(json.dumps(_shown(token) | {"token": words}))
        return
    typer.echo(words)
    typer.echo(f"token {_line(token)}; give it as KINSPACE_TOKEN", err=True)


@token_app.command("list")
@exits
def show(tokens: Tokens, as_json: Json = False) -> None:
    """List the tokens of a file; none of them can be read from it."""
    from registry.tokens import TokenBook

    found = TokenBook(tokens).tokens
    if as_json:
        typer.echo(json.dumps([_shown(each) for each in found]))
        return
    for each in found:
        typer.echo(_line(each))


@token_app.command("revoke")
@exits
def revoke(
    token_id: Annotated[str, typer.Argument(help="its eight digits, see kinspace token list")],
    tokens: Tokens,
    as_json: Json = False,
) -> None:
    """Let a token hold no longer; the service knows it at its next request."""
    from registry.tokens import TokenBook

    TokenBook(tokens).revoke(token_id)
    typer.echo(json.dumps({"revoked": token_id}) if as_json else f"revoked {token_id}")


def _shown(token: "Token") -> dict[str, object]:
    return token.model_dump(mode="json", exclude={"secret_digest"})


def _line(token: "Token") -> str:
    return (
        f"{token.id}  {', '.join(token.verbs)} of {', '.join(token.families)}  "
        f"until {token.expires:%Y-%m-%d %H:%M} UTC"
    )
