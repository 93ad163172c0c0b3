"""``kinspace search-arch``: run a search stage by stage and write down what it found.

``search/front.json`` and ``front.svg`` are the candidates that no other beats; ``search/best.toml``
holds the best ones as members to paste into a family; ``search/retrained.json`` says what they
reach when they are trained from scratch.
"""

from functools import partial
from typing import NamedTuple

from compat.files import write_atomic
from compat.wire import canonical_json
from registry.member_toml import member_toml
from registry.stages import cloud_inputs, family_of, train_cloud
from registry.workspace import Workspace
from server_models.config import FamilyConfig
from server_models.edge_net import EdgeNet
from server_models.export import count_macs
from server_models.member_config import MemberConfig
from server_models.previous import decides
from server_models.search import Judged, Search, found
from server_models.search_plot import front_plot


class Retrained(NamedTuple):
    """One of the best candidates, trained from scratch."""

    member: MemberConfig
    macs: int
    judged: Judged  # on classes of the split ``val``


def search_architecture(config: FamilyConfig, workspace: Workspace) -> tuple[Retrained, ...]:
    """Train the cloud model and the supernet, evolve, retrain the best; resumable everywhere.

    Raises:
        ConfigError: the family has no ``[search]`` section.
        DataError: the data has no classes to judge candidates on.
    """
    family = family_of(config, workspace)
    search = Search(family)
    train_cloud(family, workspace)
    search.train()
    trials = search.evolve()
    folder = workspace.root / "search"
    write_atomic(folder / "front.json", canonical_json({"front": found(search, trials)}))
    write_atomic(folder / "front.svg", front_plot(trials, search.config).encode())
    best = search.best(trials)
    toml = "\n".join(member_toml(member) for member in best)
    write_atomic(folder / "best.toml", toml.encode())
    retrained = []
    for member in best:
        inputs = {"cloud": cloud_inputs(family), "member": decides(member)}
        workspace.once(f"train-{member.name}", inputs, partial(family.train_member, member))
        net = family.member(member)
        assert isinstance(net, EdgeNet)
        size_px = member.preprocess.size_px
        retrained.append(Retrained(member, count_macs(net, size_px), search.judge(net, size_px)))
    rows = [
        {"name": each.member.name, "macs": each.macs, "self_map": each.judged.self_map,
         "cross_map": each.judged.cross_map}
        for each in retrained
    ]  # fmt: skip
    write_atomic(folder / "retrained.json", canonical_json({"rows": rows}))
    return tuple(retrained)
