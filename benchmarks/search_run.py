"""The searches that the tables judge: a recipe and a workspace a set."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from benchmarks.data.cache import cache_folder
from benchmarks.evaluate import VIEWS, HeldOut
from registry.stages import cloud_inputs, family_of
from registry.workspace import Workspace
from server_models.config import read_family
from server_models.search import Search

RECIPES = Path(__file__).parent / "recipes"
SETS = ("emoji", "objects820")  # those with a recipe for a search


@dataclass(frozen=True)
class SearchRun:
    """One set's search, with its cloud model and supernet trained."""

    set: str
    search: Search

    @property
    def held_out(self) -> HeldOut:
        """What no search looks at: the unseen classes of the split ``test``."""
        return HeldOut(self.search.family, gallery_view=VIEWS[self.set])


def chosen_search(doc: str | None) -> SearchRun:
    """The set named on the command line; what is not trained yet is trained now."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("set", choices=SETS)
    name = parser.parse_args().set
    config = read_family(RECIPES / f"search-{name}.toml")
    workspace = Workspace(cache_folder() / "runs" / f"search-{name}")
    family = family_of(config, workspace)
    search = Search(family)
    workspace.once(f"train-{config.cloud.name}", cloud_inputs(family), family.train_cloud)
    search.train()
    return SearchRun(name, search)
