"""``kinspace gallery``: embed the gallery images with the release's cloud model, and count them."""

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from registry.cli_backfill import accept, backfill, rollback
from registry.cli_errors import exits

gallery_app = typer.Typer(help="Build, renew and inspect the gallery.", no_args_is_help=True)
gallery_app.command("backfill")(backfill)
gallery_app.command("rollback")(rollback)
gallery_app.command("accept")(accept)

GalleryDir = Annotated[Path, typer.Option("--gallery", help="folder of the gallery index")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


@gallery_app.command("build")
@exits
def build(
    registry: Annotated[str, typer.Option(help="folder or s3://bucket/prefix of the registry")],
    family: Annotated[str, typer.Option(help="family whose stable release embeds")],
    data: Annotated[Path, typer.Option(help="data set: folder, manifest .csv or .parquet")],
    gallery: GalleryDir,
    root: Annotated[
        Path | None, typer.Option(help="trusted root.json; default the registry's first root")
    ] = None,
    as_json: Json = False,
) -> None:
    """Embed the gallery images of a data set; the old gallery serves until the new one is whole."""
    from rich.progress import Progress

    from compat.dataset import read_dataset
    from compat.terminal import STDERR
    from edge.embedder import open_embedder
    from registry.gallery_build import build_from_dataset
    from registry.local_release import LocalRelease
    from registry.storage.address import open_store

    with (
        TemporaryDirectory(prefix="kinspace-") as scratch,
        Progress(console=STDERR) as bar,
    ):
        release = LocalRelease(open_store(registry), family, Path(scratch), root=root)
        manifest, artifact = release.manifest, release.cloud_artifact
        embedder = open_embedder(
            release.fetch_cloud(), artifact.runtime, manifest.cloud.preprocess, manifest.space.dim
        )
        embedding = bar.add_task("embedding")
        built = build_from_dataset(
            gallery,
            read_dataset(data),
            embedder,
            space=manifest.space,
            model_digest=artifact.digest,
            progress=lambda done, total: bar.update(embedding, completed=done, total=total),
        )
    words = f"{built.rows} images of {data} embedded by {manifest.cloud.name}, release "
    words += f"{manifest.version}, space {built.space_id}: searchable in {gallery}"
    typer.echo(json.dumps(asdict(built)) if as_json else words)


@gallery_app.command("status")
@exits
def status(gallery: GalleryDir, as_json: Json = False) -> None:
    """Count the images of each embedding space."""
    from registry.gallery import status as gallery_status

    found = gallery_status(gallery)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found]))
        return
    for each in found:
        made_by = ", ".join(f"{of.rows} by {of.model_digest[:12]}" for of in each.generations)
        typer.echo(f"{each.space_id}: {each.rows} images, {made_by}, version {each.version}")
