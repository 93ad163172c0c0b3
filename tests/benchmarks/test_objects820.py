"""Objects-820's two splits: by object, and by the library that an object comes from."""

from benchmarks.data.objects820 import by_catalogue


def test_the_catalogue_split_takes_the_place_of_the_other() -> None:
    rows = [
        {"label": "a", "split": "train", "split_catalogue": "test"},
        {"label": "b", "split": "test", "split_catalogue": "train"},
    ]
    assert [row["split"] for row in by_catalogue(rows)] == ["test", "train"]
    assert [row["split"] for row in rows] == ["train", "test"]  # the given ones stay
