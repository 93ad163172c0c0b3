"""``kinspace ladder``: what a foreign new model may do before an old gallery, measured, signed."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from compat.ladder import Ladder
from compat.manifest import ReleaseManifest
from registry.cli_errors import exits
from registry.cli_publish import KeysDir, keys_folder

ladder_app = typer.Typer(
    help="Fall back where spaces differ: adapter, dual query, cloud, refuse.", no_args_is_help=True
)

Registry = Annotated[str, typer.Option(help="folder or s3://bucket/prefix of the registry")]
Family = Annotated[str, typer.Option(help="family of both releases")]
New = Annotated[str, typer.Option(help="version whose member cannot query the gallery")]
Old = Annotated[str, typer.Option(help="version whose cloud model made the gallery")]
Name = Annotated[str | None, typer.Option("--member", help="default the one listed first")]
Root = Annotated[
    Path | None, typer.Option(help="trusted root.json; default the registry's first root")
]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


@ladder_app.command("publish")
@exits
def publish(
    registry: Registry,
    family: Family,
    data: Annotated[Path, typer.Option(help="data set of the family: it fits and measures")],
    new: New,
    old: Old,
    keys: KeysDir = None,
    member: Name = None,
    min_share: Annotated[
        float, typer.Option(min=0, max=1, help="of the mAP before; below it a rung is left out")
    ] = 0.9,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Fit an adapter, measure every rung on the held-out split, sign them. Exit 5: none holds."""
    from compat.dataset import read_dataset
    from compat.errors import RefusedError
    from registry.keys import KeyFolder
    from registry.laddering import Side, measure, sign
    from registry.local_release import LocalRelease
    from registry.repository import Repository
    from registry.storage.address import open_store

    store = open_store(registry)
    with TemporaryDirectory(prefix="kinspace-") as scratch:
        folders = [Path(scratch) / each for each in ("new", "old")]
        releases = []
        for folder, version in zip(folders, (new, old), strict=True):
            folder.mkdir()
            releases.append(LocalRelease(store, family, folder, root=root, version=version))
        newer, older = releases
        queried = Side.member(newer, member)
        measured = measure(
            read_dataset(data),
            new=queried,
            own=Side.cloud(newer),
            old=Side.member(older, _same_name(older.manifest, member)),
            gallery=Side.cloud(older),
            min_share=min_share,
        )
    if not any(rung.admitted for rung in measured.ladder.rungs):
        raise RefusedError("no rung finds enough, nothing was signed: " + _words(measured.ladder))
    sign(Repository(store, KeyFolder(keys_folder(registry, keys))), measured, queried)
    _show(measured.ladder, as_json=as_json)


@ladder_app.command("show")
@exits
def show(
    registry: Registry,
    family: Family,
    new: New,
    old: Old,
    member: Name = None,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Print the signed rungs from a release's member to the gallery of another."""
    from registry.local_release import LocalRelease
    from registry.storage.address import open_store

    store = open_store(registry)
    with TemporaryDirectory(prefix="kinspace-") as scratch:
        folders = [Path(scratch) / each for each in ("new", "old")]
        for folder in folders:
            folder.mkdir()
        older = LocalRelease(store, family, folders[1], root=root, version=old)
        newer = LocalRelease(store, family, folders[0], root=root, version=new)
        _show(newer.ladder(member, older.manifest.space.id), as_json=as_json)


def _same_name(manifest: ReleaseManifest, member: str | None) -> str | None:
    """The member of that name, if the older release had it; else the one that it lists first."""
    return member if member in [each.name for each in manifest.members] else None


def _words(ladder: Ladder) -> str:
    return ", ".join(f"{rung.kind} {rung.cross:.1%} mAP" for rung in ladder.rungs)


def _show(ladder: Ladder, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(ladder.model_dump(mode="json")))
        return
    typer.echo(
        f"{ladder.member} of {ladder.source.id} before a gallery of {ladder.target.id}; what was "
        f"there before finds {ladder.criterion:.1%} mAP ({ladder.queries} queries)"
    )
    for place, rung in enumerate(ladder.rungs, start=1):
        verdict = "admitted" if rung.admitted else "left out"
        interval = f"{rung.low:.1%} to {rung.high:.1%}"
        typer.echo(f"{place}  {rung.kind:<8}  {rung.cross:6.1%} mAP ({interval})  {verdict}")
    typer.echo(f"{len(ladder.rungs) + 1}  refuse")
