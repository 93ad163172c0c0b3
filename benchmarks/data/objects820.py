"""Objects-820: 820 furniture models as catalogue icons, clean studio views and wild views.

    python -m benchmarks.data.objects820 [--size 128] [--extra-wild N] [--jobs 2]

Renders of real, human-made 3D models; not photographs. Written to the cache's
``objects820/<size>px``: ``manifest.csv`` (icon and studio are the gallery, wild the queries), and
with ``--extra-wild`` also ``extra.csv``, N more wild views of each training object, and
``full.csv``, both together. ``catalogue.csv`` is the same set split by catalogue: the objects of
other libraries than those of the training side are for testing. Its test side is in the pool and
in the starters (`benchmarks.data.pool`), so begin with nothing there, or with ImageNet.
A second run makes only what is missing.
"""

import argparse
import functools
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from benchmarks.data.backgrounds import (
    Cell,
    Texture,
    choices,
    deal_textures,
    near_copies,
    pick,
    read_picture,
)
from benchmarks.data.backgrounds import read_textures as read_backgrounds
from benchmarks.data.cache import cache_folder, claim_folder, is_complete, write_atomic
from benchmarks.data.catalogue import Furniture, icon_grey, icon_image, read_furniture
from benchmarks.data.manifest import OBJECT_COLUMNS, write_manifest
from benchmarks.data.model import read_mesh, read_textures
from benchmarks.data.splits import near_twins, split_groups
from benchmarks.data.views import STUDIO_QUALITY, encode, studio_view, view_rng, wild_view

RECIPE = 1  # +1 when the same seed would give other pictures
SEED = 0  # of the first ten, the one that leaves validation most backgrounds (50)
SPLIT_SIZES = {"train": 410, "val": 82, "test": 328}
N_STUDIO, N_WILD = 8, 8


@dataclass(frozen=True)
class Task:
    """One object's share of the work; picklable."""

    item: Furniture
    behind: tuple[Texture, ...]  # what it may stand before,
    banned: frozenset[Texture]  # less these
    views: tuple[str, ...]
    folder: Path
    size_px: int


def split_furniture(furniture: list[Furniture]) -> dict[str, str]:
    """Label -> train, val or test; near-identical icons always on one side."""
    groups = near_twins(np.stack([icon_grey(item) for item in furniture]))
    sides = split_groups(groups, SPLIT_SIZES, SEED)
    return {item.label: sides[number] for number, item in enumerate(furniture)}


def cells_of(furniture: Iterable[Furniture], splits: dict[str, str]) -> dict[str, Cell]:
    """Label -> (split, split_catalogue)."""
    return {item.label: (splits[item.label], item.split_catalogue) for item in furniture}


def base_views() -> tuple[str, ...]:
    """The views of every object, in manifest order."""
    studio = [f"studio-{number:02d}" for number in range(N_STUDIO)]
    return ("icon", *studio, *(f"wild-{number:02d}" for number in range(N_WILD)))


def extra_views(count: int) -> tuple[str, ...]:
    """Names of further wild views; numbered on from the ordinary ones."""
    return tuple(f"wild-{N_WILD + number:02d}" for number in range(count))


def view_path(label: str, view: str) -> str:
    """Path relative to the manifest. Wild views stay the JPEG they became; the rest is WebP."""
    return f"images/{label}/{view}.{'jpg' if view.startswith('wild') else 'webp'}"


@functools.lru_cache(maxsize=512)
def _picture(texture: Texture) -> Image.Image:
    return read_picture(texture)


def render_object(task: Task) -> int:
    """Make an object's missing views; their number. Runs in a worker process."""
    missing = [
        view
        for view in task.views
        if not is_complete(task.folder / view_path(task.item.label, view))
    ]
    for view, content in _make_views(task, missing):
        write_atomic(task.folder / view_path(task.item.label, view), content, durable=False)
    return len(missing)


def _make_views(task: Task, views: list[str]) -> Iterator[tuple[str, bytes]]:
    if "icon" in views:
        yield "icon", encode(icon_image(task.item, task.size_px), "WEBP", STUDIO_QUALITY)
    rendered = [view for view in views if view != "icon"]
    if not rendered:
        return
    from benchmarks.data.renderer import Drawing  # opens OpenGL: only in workers that draw

    def open_background(rng: np.random.Generator) -> Image.Image:
        return _picture(pick(rng, task.behind, task.banned))

    mesh = read_mesh(task.item)
    with Drawing(mesh, read_textures(task.item, mesh)) as drawing:
        for view in rendered:
            rng = view_rng(SEED, task.item.label, view)
            if view.startswith("studio"):
                yield view, studio_view(drawing, rng, int(view[-2:]), task.size_px)
            else:
                made = wild_view(drawing, rng, task.size_px, open_background)
                yield view, made


def run_tasks(tasks: list[Task], jobs: int, title: str) -> int:
    """Render all tasks in ``jobs`` processes; the number of pictures newly made."""
    made = 0
    spawn = multiprocessing.get_context("spawn")
    console = Console(stderr=True)
    with (
        ProcessPoolExecutor(jobs, mp_context=spawn) as pool,
        Progress(console=console) as progress,
    ):
        bar = progress.add_task(title, total=len(tasks))
        for done in as_completed([pool.submit(render_object, task) for task in tasks]):
            made += done.result()
            progress.advance(bar)
    return made


def rows_of(
    furniture: Iterable[Furniture], views: tuple[str, ...], splits: dict[str, str]
) -> Iterator[dict[str, str]]:
    """Manifest rows of the given views, by label, then view."""
    for item in furniture:
        for view in views:
            yield {
                "path": view_path(item.label, view),
                "label": item.label,
                "split": splits[item.label],
                "role": "query" if view.startswith("wild") else "gallery",
                "view": view,
                "library": item.library,
                "category": item.category,
                "split_catalogue": item.split_catalogue,
                "creator": item.creator,
            }


def by_catalogue(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The same rows, split by library instead of by object."""
    return [{**row, "split": row["split_catalogue"]} for row in rows]


def build(size_px: int, n_extra_wild: int, jobs: int) -> Path:
    """Render whatever is missing and write the manifests; the set's folder."""
    folder = cache_folder() / "objects820" / f"{size_px}px"
    claim_folder(folder, {"recipe": RECIPE, "seed": SEED})
    furniture = read_furniture()
    splits = split_furniture(furniture)
    cells = cells_of(furniture, splits)
    dealt = deal_textures(read_backgrounds(furniture), cells)
    banned = near_copies(dealt)

    def tasks(items: list[Furniture], views: tuple[str, ...]) -> list[Task]:
        return [
            Task(
                item=item,
                behind=tuple(choices(dealt, item.label, cells[item.label])),
                banned=banned,
                views=views,
                folder=folder,
                size_px=size_px,
            )
            for item in items
        ]

    made = run_tasks(tasks(furniture, base_views()), jobs, "Objects-820")
    rows = list(rows_of(furniture, base_views(), splits))
    write_manifest(folder / "manifest.csv", rows, OBJECT_COLUMNS)
    counted = Counter((row["split"], row["role"]) for row in rows)
    print(f"{folder / 'manifest.csv'}: {len(rows)} images ({made} new), {dict(counted)}")
    catalogue = by_catalogue(rows)
    if n_extra_wild:
        trained = [item for item in furniture if splits[item.label] == "train"]
        made = run_tasks(tasks(trained, extra_views(n_extra_wild)), jobs, "extra wild views")
        extra = list(rows_of(trained, extra_views(n_extra_wild), splits))
        n_rows = write_manifest(folder / "extra.csv", extra, OBJECT_COLUMNS)
        write_manifest(folder / "full.csv", [*rows, *extra], OBJECT_COLUMNS)
        print(f"{folder / 'extra.csv'}: {n_rows} images ({made} new) of train objects")
        catalogue += [row for row in by_catalogue(extra) if row["split"] == "train"]
    write_manifest(folder / "catalogue.csv", catalogue, OBJECT_COLUMNS)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, pixels")
    parser.add_argument("--extra-wild", type=int, default=0, help="more wild views a train object")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    given = parser.parse_args()
    build(given.size, given.extra_wild, given.jobs)


if __name__ == "__main__":
    main()
