"""``kinspace gallery backfill``, ``rollback`` and ``accept``: a gallery gets a new cloud model."""

import json
import signal
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Annotated

import typer

from registry.cli_errors import exits

GalleryDir = Annotated[Path, typer.Option("--gallery", help="folder of the gallery index")]
Json = Annotated[bool, typer.Option("--json", help="print JSON for machines")]
Space = Annotated[
    str | None, typer.Option(help="id of the space, where the folder holds several galleries")
]


@exits
def backfill(
    registry: Annotated[str, typer.Option(help="folder or s3://bucket/prefix of the registry")],
    family: Annotated[str, typer.Option(help="family whose stable release embeds")],
    data: Annotated[Path, typer.Option(help="data set that the gallery was built from")],
    gallery: GalleryDir,
    queries: Annotated[
        Path | None,
        typer.Option(help="data set whose test queries measure the accuracy after each commit"),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=65536, help="rows a commit")] = 256,
    root: Annotated[
        Path | None, typer.Option(help="trusted root.json; default the registry's first root")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print a line of JSON after each commit")
    ] = False,
) -> None:
    """Embed the gallery again with the stable release's cloud model, most changed rows first.

    It is searchable throughout. SIGTERM or ctrl-C stops it after the batch at hand; the same
    command goes on from there, also after a kill. kinspace gallery rollback undoes it.
    """
    from rich.progress import Progress

    from compat.dataset import read_dataset
    from compat.terminal import STDERR
    from edge.embedder import open_embedder
    from registry.backfill import BackfillStep, HeldOutQueries
    from registry.backfill import backfill as run
    from registry.gallery_build import embed_images
    from registry.local_release import LocalRelease
    from registry.storage.address import open_store

    stop = _StopSignal()
    with (
        TemporaryDirectory(prefix="kinspace-") as scratch,
        Progress(console=STDERR) as bar,
        stop,
    ):
        release = LocalRelease(open_store(registry), family, Path(scratch), root=root)
        manifest, artifact = release.manifest, release.cloud_artifact
        embedder = open_embedder(
            release.fetch_cloud(), artifact.runtime, manifest.cloud.preprocess, manifest.space.dim
        )
        held_out = None
        if queries is not None:
            images = read_dataset(queries).of("test", "query")
            embeddings = embed_images(embedder, [each.path for each in images])
            held_out = HeldOutQueries(embeddings, tuple(each.label for each in images))
        task = bar.add_task("backfill")

        def progress(step: BackfillStep) -> None:
            accuracy = step.hit_rate_at_10
            words = "backfill" if accuracy is None else f"backfill, hit_rate@10 {accuracy:.1%}"
            bar.update(task, completed=step.done, total=step.total, description=words)
            if as_json:
                typer.echo(json.dumps(asdict(step)))

        last = run(
            gallery,
            read_dataset(data),
            embedder,
            space=manifest.space,
            model_digest=artifact.digest,
            queries=held_out,
            batch_rows=batch,
            stopped=lambda: stop.caught is not None,
            progress=progress,
        )
    if last.done < last.total:
        words = f"stopped with {last.done} of {last.total} rows done: the same command goes on"
        typer.echo(words, err=True)
        raise typer.Exit(128 + (stop.caught or 0))
    if not as_json:
        words = f"{last.total} rows of {manifest.space.id} embedded by {manifest.cloud.name}"
        typer.echo(
            f"{words}, release {manifest.version}. kinspace gallery rollback undoes it, kinspace "
            "gallery accept frees the room that this takes"
        )


@exits
def rollback(gallery: GalleryDir, space: Space = None, as_json: Json = False) -> None:
    """Undo the last backfill, whole or half done: the gallery is row for row what it was."""
    from registry.gallery_life import roll_back

    undone = roll_back(gallery, space)
    words = f"{undone.rows} rows of {undone.space_id} are what they were before the backfill to "
    words += f"{undone.undone}, sha256 {undone.content_digest}"
    typer.echo(json.dumps(asdict(undone)) if as_json else words)


@exits
def accept(gallery: GalleryDir, space: Space = None) -> None:
    """Keep the gallery as it is: what a rollback would need is given up, and its room freed."""
    from registry.gallery_life import accept as give_up

    count = give_up(gallery, space)
    typer.echo(f"{count} backfills can no longer be rolled back; old files go within seven days")


class _StopSignal:
    """Within it SIGTERM and SIGINT are noted instead of ending the process."""

    def __init__(self) -> None:
        self.caught: int | None = None

    def _note(self, number: int, _: FrameType | None) -> None:
        self.caught = number

    def __enter__(self) -> None:
        self._before = {
            each: signal.signal(each, self._note) for each in (signal.SIGTERM, signal.SIGINT)
        }

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
