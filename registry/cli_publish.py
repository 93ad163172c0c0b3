"""``kinspace keys``: make a registry with its keys, and keep its signatures fresh."""

import json
from pathlib import Path
from typing import Annotated

import typer

from compat.errors import UsageError
from registry.cli_errors import exits

keys_app = typer.Typer(help="Make a registry's keys and keep it signed.", no_args_is_help=True)

Registry = Annotated[
    str, typer.Argument(help="folder or s3://bucket/prefix, which is served to everybody")
]
KeysDir = Annotated[
    Path | None,
    typer.Option("--keys", help="folder of private keys; default REGISTRY-keys for a folder"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def keys_folder(registry: str, keys: Path | None) -> Path:
    """Beside the registry, never in it. Raises UsageError: a bucket has no beside."""
    if keys is None and "://" in registry:
        raise UsageError(f"{registry} is no folder: say where the private keys are with --keys")
    folder = Path(registry).resolve()
    return keys or folder.with_name(f"{folder.name}-keys")


@keys_app.command("init")
@exits
def init(
    registry: Registry,
    keys: KeysDir = None,
    family: Annotated[
        list[str] | None, typer.Option(help="family with a key of its own; may be repeated")
    ] = None,
    bins: Annotated[
        int, typer.Option(help="documents that list a new family's files: 1, 2, 4, ... 256")
    ] = 1,
    as_json: Json = False,
) -> None:
    """Make a registry and its keys, encrypted when KINSPACE_KEY_PASSPHRASE is set; may be repeated.

    Prints where the trusted root is: devices get it with the app, not from the registry.
    """
    from compat.files import digest_of
    from registry.keys import KeyFolder
    from registry.repository import Repository
    from registry.storage.address import open_store

    folder = keys_folder(registry, keys)
    repository = Repository(open_store(registry), KeyFolder(folder))
    repository.create()
    for name in family or ():
        repository.add_family(name, bins=bins)
    made = {
        "registry": registry,
        "keys": str(folder),
        "families": repository.families,
        "root": str(folder / "root.json"),
        "root_digest": digest_of(repository.trusted_root),
    }
    if as_json:
        typer.echo(json.dumps(made))
        return
    for name, words in made.items():
        typer.echo(f"{name:<11}  {', '.join(words) if isinstance(words, tuple) else words}")


@keys_app.command("refresh")
@exits
def refresh(registry: Registry, keys: KeysDir = None, as_json: Json = False) -> None:
    """Sign the timestamp anew, and what is past half of its life; run it every few hours."""
    from registry.keys import KeyFolder
    from registry.repository import Repository
    from registry.storage.address import open_store

    folder = keys_folder(registry, keys)
    expires = Repository(open_store(registry), KeyFolder(folder)).refresh()
    if as_json:
        typer.echo(json.dumps({role: when.isoformat() for role, when in expires.items()}))
        return
    for role, when in expires.items():
        typer.echo(f"{role:<12}  expires {when:%Y-%m-%d %H:%M} UTC")
