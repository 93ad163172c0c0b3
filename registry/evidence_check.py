"""Check what a verification stands on: the test set for leakage, a gallery for foreign rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.progress import track

from compat.dataset import Dataset, LabelledImage
from compat.foreign_rows import check_rows, draw_rows
from compat.images import read_image
from compat.leakage import Pictures, find_repeats, judge_leakage
from compat.space import EmbeddingSpace
from compat.terminal import STDERR
from registry.candidate import CandidateFolder
from registry.gallery import Gallery
from registry.gallery_build import embed_images, gallery_images, item_id
from registry.judging import HELD_OUT, embedder_of

SEED = 0  # the same rows each time, so that a verdict can be repeated


def check_leakage(dataset: Dataset) -> tuple[str, ...]:
    """What must be said of the held-out split, in words; empty when it is clean.

    Raises:
        DataError: it was trained on, or stands on both sides. Remedy: the message's.
    """
    queries = _pictures(dataset.of(HELD_OUT, "query"), "look for leaks: queries")
    gallery = _pictures(dataset.of(HELD_OUT, "gallery"), "look for leaks: gallery")
    trained = _pictures(dataset.of("train"), "look for leaks: training")
    return judge_leakage(
        trained=(*find_repeats(queries, trained), *find_repeats(gallery, trained)),
        held_out=len(queries) + len(gallery),
        both_sides=find_repeats(queries, gallery),
        queries=len(queries),
    )


def check_gallery(
    gallery: Path, dataset: Dataset, cloud: CandidateFolder, space: EmbeddingSpace
) -> int:
    """Embed a sample of the gallery's images again; how many rows were compared.

    Raises:
        RefusedError: rows are by another model. Remedy: build the gallery anew.
        UsageError, SpaceError: it is no gallery of this data set and space.
    """
    images = gallery_images(dataset)
    picked = [images[row] for row in draw_rows(len(images), SEED)]
    model = cloud.read()
    embedder = embedder_of(cloud, model, model.artifacts[0], space)
    again = embed_images(embedder, [image.path for image in picked])
    stored = Gallery.open(gallery, space.id).vectors([item_id(image.name) for image in picked])
    check_rows(stored, again, [image.name for image in picked])
    return len(picked)


def _pictures(images: Sequence[LabelledImage], title: str) -> Pictures:
    def read() -> Iterator[tuple[str, bytes]]:
        for image in track(images, title, transient=True, console=STDERR):
            yield image.name, read_image(image.path)

    return Pictures.of(read())
