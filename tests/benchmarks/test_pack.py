"""The demo pack that ships: small, whole, class-disjoint and credited."""

import io
from pathlib import Path

import pytest
from PIL import Image

import benchmarks.data.pack as pack
from benchmarks.data.catalogue import LIBRARIES, Furniture
from benchmarks.data.manifest import OBJECT_COLUMNS, read_manifest, write_manifest
from benchmarks.data.pool import listed_rows, one_side

PACK = Path(__file__).parents[2] / "registry" / "demo_pack"


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return read_manifest(PACK / "manifest.csv")


def test_the_pack_is_small():
    assert sum(path.stat().st_size for path in PACK.rglob("*") if path.is_file()) <= 7_500_000


def test_no_object_is_in_two_splits(rows):
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["label"], set()).add(row["split"])
    assert all(len(found) == 1 for found in sides.values())
    counted = [next(iter(found)) for found in sides.values()]
    assert (counted.count("train"), counted.count("test")) == (340, 160)


def test_every_object_can_be_asked_for_and_found(rows):
    roles: dict[str, set[str]] = {}
    for row in rows:
        roles.setdefault(row["label"], set()).add(row["role"])
    assert all(found == {"query", "gallery"} for found in roles.values())


def test_manifest_and_files_agree(rows):
    assert {row["path"] for row in rows} == {
        f"images/{path.name}" for path in (PACK / "images").iterdir()
    }
    assert tuple(rows[0]) == OBJECT_COLUMNS
    for row in rows[::97]:
        with Image.open(PACK / row["path"]) as image:
            assert (image.format, image.size) == ("WEBP", (128, 128))


def test_every_object_and_its_maker_are_credited(rows):
    page = (PACK / "CREDITS.md").read_text(encoding="utf-8")
    table = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines()}
    for row in rows:
        line = table[row["label"]]
        assert f"| {row['creator']} | {row['library']} | {LIBRARIES[row['library']]} |" in line
        assert "object" in line


def small_set(folder: Path) -> list[dict[str, str]]:
    """A rendered set of 3 train and 2 test objects, 8 px."""
    rows = []
    for number, split in enumerate(["train", "train", "train", "test", "test", "val"]):
        for view in ("studio-01", "studio-04", "studio-05", "wild-00", "wild-01"):
            path = folder / f"images/thing-{number}/{view}.webp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (40 * number, 0, 9)).save(path)
            row = dict.fromkeys(OBJECT_COLUMNS, "")
            role = "query" if view.startswith("wild") else "gallery"
            row |= {"label": f"thing-{number}", "split": split, "view": view, "role": role}
            row |= {"library": "Scopia", "path": str(path.relative_to(folder))}
            rows.append(row)
    write_manifest(folder / "manifest.csv", rows, OBJECT_COLUMNS)
    return rows


def test_a_pack_has_the_same_bytes_again_and_keeps_no_stale_image(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "N_OBJECTS", {"train": 2, "test": 1})
    rows = small_set(tmp_path / "set")
    into = tmp_path / "pack"
    (into / "images").mkdir(parents=True)
    (into / "images/stale.webp").write_bytes(b"stale")
    seen = []
    for _ in range(2):
        pack.write_pack(pack.make_pack(tmp_path / "set", "# Credits\n"), rows, into)
        seen.append({path: path.read_bytes() for path in into.rglob("*") if path.is_file()})
    assert seen[0] == seen[1]
    packed = read_manifest(into / "manifest.csv")
    assert {row["path"] for row in packed} == {
        str(path.relative_to(into)) for path in into.rglob("*.webp")
    }
    assert {row["split"] for row in packed} == {"train", "test"}


def test_training_views_go_first_when_the_budget_is_small(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "N_OBJECTS", {"train": 2, "test": 1})
    small_set(tmp_path / "set")
    full = pack.make_pack(tmp_path / "set", "")
    size = sum(map(len, full.values())) + 200 * (len(full) - 1)
    monkeypatch.setattr(pack, "BUDGET_BYTES", size - 1)
    tight = pack.make_pack(tmp_path / "set", "")
    assert len(full) - len(tight) == 2  # one wild view of either training object
    monkeypatch.setattr(pack, "BUDGET_BYTES", 100)
    with pytest.raises(pack.BudgetError):
        pack.make_pack(tmp_path / "set", "")


def test_credits_name_models_shown_and_textures_behind():
    def made(label: str) -> Furniture:
        return Furniture(
            label, "A | thing", "Scopia", "Office", "A. Maker", "", "", (1, 1, 1), (1,) * 9
        )

    page = pack.credits_page([made("x"), made("y"), made("z")], {"x"}, {"x", "y"})
    assert "| x | A / thing | A. Maker | Scopia | CC-BY-3.0 | object, background |" in page
    assert "| y | A / thing | A. Maker | Scopia | CC-BY-3.0 | background |" in page
    assert "| z |" not in page


def test_the_pretraining_pool_takes_only_training_rows(tmp_path):
    small_set(tmp_path / "set")
    listed = list(listed_rows(tmp_path / "pool", tmp_path / "set/manifest.csv", "objects"))
    assert len(listed) == 15
    assert listed[0]["path"] == "../set/images/thing-0/studio-01.webp"
    assert {row["licence"] for row in listed} == {"CC-BY-3.0"}
    opened = Image.open(io.BytesIO((tmp_path / "pool" / listed[0]["path"]).resolve().read_bytes()))
    assert opened.size == (8, 8)


def test_a_pool_for_unseen_catalogues_shows_none_of_them():
    def row(source, split_catalogue):
        return {"path": f"{source}-{split_catalogue}", "source": source,
                "licence": "CC0", "split_catalogue": split_catalogue}  # fmt: skip

    objects = [row("objects", "train"), row("objects", "test"), row("texture", "test")]
    kept = one_side([*objects, row("emoji", ""), row("mix", "")])
    assert [each["path"] for each in kept] == ["objects-train", "emoji-"]
