"""``kinspace new``: a folder of images becomes a family's TOML."""

import os
from pathlib import Path
from typing import Annotated

import typer

from registry.cli_errors import exits


@exits
def new(
    images: Annotated[Path, typer.Argument(help="a folder per class, or a manifest")],
    name: Annotated[str, typer.Option("--name", help="of the family; lower case")],
    out: Annotated[Path | None, typer.Option(help="default NAME.toml")] = None,
) -> None:
    """Write a family's TOML for these images, with settings that need no tuning.

    Images that cannot be decoded are left out and listed. An existing file is never overwritten.
    """
    import re

    from compat.dataset import read_dataset
    from compat.errors import UsageError
    from compat.files import write_atomic
    from compat.space import NAME_PATTERN
    from registry.new_family import Counted, family_toml
    from server_models.pixels import without_bad

    if not re.match(NAME_PATTERN, name):
        raise UsageError(f"{name!r} cannot name a family: lower-case letters, digits, . _ and -")
    file = out or Path(f"{name}.toml")
    if file.exists():
        raise UsageError(f"{file} exists: give another --out, or remove it first")
    dataset, refused = without_bad(read_dataset(images))
    counted = Counted.of(dataset)
    path = Path(os.path.relpath(images.resolve(), file.parent.resolve())).as_posix()
    write_atomic(file, family_toml(name, path, counted, skip_bad=bool(refused)).encode())
    for why in refused:
        typer.echo(f"left out: {why}", err=True)
    typer.echo(f"{file}: {counted.training_images} training images of {counted.classes} classes")
    typer.echo(f"next: kinspace train {file}")
