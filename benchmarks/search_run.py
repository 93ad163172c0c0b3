"""The search that the tables judge: one recipe, one workspace."""

from pathlib import Path

from benchmarks.data.cache import cache_folder
from registry.stages import cloud_inputs, family_of
from registry.workspace import Workspace
from server_models.config import read_family
from server_models.search import Search

RECIPE = Path(__file__).parent / "recipes" / "search-objects820.toml"
RUNS = "search-objects820"  # of the cache; what `kinspace search-arch --out` is given, too


def trained_search() -> Search:
    """With its cloud model and supernet, trained now where they are not."""
    config = read_family(RECIPE)
    workspace = Workspace(cache_folder() / "runs" / RUNS)
    family = family_of(config, workspace)
    search = Search(family)
    workspace.once(f"train-{config.cloud.name}", cloud_inputs(family), family.train_cloud)
    search.train()
    return search
