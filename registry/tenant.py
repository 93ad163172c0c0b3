"""A tenant's images: what a member is adapted to, and which of them it is to forget."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compat.dataset import LabelledImage, read_dataset
from compat.errors import DataError, UsageError
from compat.files import digest_of
from compat.images import read_image
from server_models.lqf.adaptation import Example


@dataclass(frozen=True)
class Tenant:
    """The images to adapt to: queries are learned, gallery images say where their class lies."""

    images: tuple[LabelledImage, ...]
    digests: tuple[str, ...]  # of their bytes

    @classmethod
    def read(cls, data: Path) -> "Tenant":
        """The split ``train`` of a manifest, or every class of a folder per class."""
        dataset = read_dataset(data)
        is_folder = data.is_dir() and not (data / "manifest.csv").is_file()
        images = dataset.images if is_folder else dataset.of("train")
        return cls(images, tuple(digest_of(read_image(image.path)) for image in images))

    def without(self, digests: frozenset[str]) -> "Tenant":
        kept = [row for row, digest in enumerate(self.digests) if digest not in digests]
        return Tenant(
            tuple(self.images[row] for row in kept), tuple(self.digests[row] for row in kept)
        )

    def examples(self, names: Sequence[str] = (), classes: Sequence[str] = ()) -> list[Example]:
        """Those of the given names and classes. Raises UsageError for one that is not there."""
        there = {image.name for image in self.images}
        labels = {image.label for image in self.images}
        for given, known, what in ((names, there, "image"), (classes, labels, "class")):
            if unknown := sorted(set(given) - known):
                some = ", ".join(sorted(known)[:3])
                raise UsageError(f"no {what} {unknown} in the tenant's data, which has {some} ...")
        return [
            self.example(row)
            for row, image in enumerate(self.images)
            if image.name in names or image.label in classes
        ]

    def example(self, row: int) -> Example:
        image = self.images[row]
        return Example(name=image.name, label=image.label, digest=self.digests[row])

    @property
    def learned(self) -> list[int]:
        """Rows of the queries. Raises DataError when there are none."""
        rows = [row for row, image in enumerate(self.images) if image.role == "query"]
        if not rows:
            raise DataError("no image of role 'query' is left to adapt to: give some that role")
        return rows
