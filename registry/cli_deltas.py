"""``kinspace deltas``: small ways to a published release, made where they miss, and shown."""

import json
from pathlib import Path
from typing import Annotated

import typer

from registry.cli_errors import exits


@exits
def deltas(
    registry: Annotated[str, typer.Argument(help="folder or s3://bucket/prefix")],
    keys: Annotated[Path, typer.Option(help="folder of private keys")],
    family: Annotated[str, typer.Option(help="one that the registry holds")],
    version: Annotated[str, typer.Option(help="a published release of it")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for machines")] = False,
) -> None:
    """Make and sign deltas that lead to a release, and show them; safe to repeat.

    `kinspace publish` does it after each release; this is for one that was published without.
    """
    from compat.errors import UsageError
    from compat.manifest import MAX_MANIFEST_BYTES, ReleaseManifest, manifest_target
    from registry.deltas import publish_deltas
    from registry.keys import KeyFolder
    from registry.repository import Repository
    from registry.storage.address import open_store

    repository = Repository(open_store(registry), KeyFolder(keys))
    name = manifest_target(family, version)
    blob = repository.read(family, name, max_bytes=MAX_MANIFEST_BYTES)
    if blob is None:
        raise UsageError(f"{registry} holds no release {version} of {family}")
    manifest = ReleaseManifest.from_bytes(blob)
    index = publish_deltas(repository, manifest)
    if as_json:
        typer.echo(json.dumps(index.model_dump(mode="json")))
        return
    for member in manifest.members:
        for artifact in member.artifacts:
            typer.echo(f"{member.name} {artifact.label}: {artifact.size_bytes} bytes")
            for offer in index.offers:
                if offer.result.digest == artifact.digest:
                    start = f"from {offer.base[:12]}" if offer.base else "compressed"
                    share = offer.size_bytes / artifact.size_bytes
                    typer.echo(
                        f"  {start:<18} {offer.method:<8} {offer.size_bytes:>10} {share:7.1%}"
                    )
