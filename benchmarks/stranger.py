"""A stranger's folder becomes a family, with default settings and no tuning.

    python -m benchmarks.stranger

Writes a folder per class as people have them: 120 drawings by several houses (Emoji, the classes
that no recipe here trains on), in odd sizes, formats and colour modes, some turned by EXIF, a few
files broken. Then runs what a user would: kinspace new, train, export, verify. Resumable.
"""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.cache import cache_folder, write_atomic
from benchmarks.data.manifest import read_manifest

CLASSES, SEED = 120, 0
FORMS = (("RGB", "JPEG", ".jpg"), ("RGBA", "PNG", ".png"), ("RGB", "WEBP", ".webp"),
         ("P", "GIF", ".gif"), ("RGB", "BMP", ".bmp"), ("RGB", "TIFF", ".tif"),
         ("CMYK", "JPEG", ".jpeg"))  # fmt: skip
SIDEWAYS = 6  # EXIF orientation: turn by 270 degrees to show


def odd(picture: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """The picture as somebody's file: bytes and suffix."""
    mode, form, suffix = FORMS[rng.integers(len(FORMS))]
    size = (int(rng.integers(40, 300)), int(rng.integers(40, 300)))
    exif = Image.Exif()
    shown = picture.convert("RGBA").resize(size)
    if form == "JPEG" and rng.random() < 0.5:
        shown, exif[0x0112] = shown.rotate(90, expand=True), SIDEWAYS
    ground = Image.new("RGBA", shown.size, "white")
    ground.alpha_composite(shown)
    file = io.BytesIO()
    (shown if mode == "RGBA" else ground.convert("RGB")).convert(mode).save(file, form, exif=exif)
    return file.getvalue(), suffix


def make_folder(root: Path) -> None:
    """Folder per class below ``root``; what is there stays."""
    manifest = cache_folder() / "emoji/64px/manifest.csv"
    rows = [row for row in read_manifest(manifest) if row["split"] == "test"]
    chosen = sorted({row["label"] for row in rows})[:CLASSES]
    for number, row in enumerate(row for row in rows if row["label"] in chosen):
        rng = np.random.default_rng((SEED, number))
        blob, suffix = odd(Image.open(manifest.parent / row["path"]), rng)
        file = root / row["label"] / f"{number}{suffix}"
        if not file.exists():
            write_atomic(file, blob, durable=False)
    for number, blob in enumerate((b"", b"no picture", b"\x89PNG\r\n\x1a\n cut")):
        write_atomic(root / chosen[number] / f"broken-{number}.png", blob, durable=False)


def main() -> None:
    home = cache_folder() / "runs/stranger"
    make_folder(home / "photos")
    toml = home / "shop.toml"
    verbs = [["train", str(toml)], ["export", str(toml)], ["verify", str(toml)]]
    if not toml.exists():
        verbs.insert(0, ["new", str(home / "photos"), "--name", "shop", "--out", str(toml)])
    for verb in verbs:
        out = [] if verb[0] == "new" else ["--out", str(home / "workspace")]
        done = subprocess.run([sys.executable, "-m", "registry.cli", *verb, *out], check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
