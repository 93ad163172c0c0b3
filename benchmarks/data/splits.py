"""Which classes are for training, validation and test: seeded, fixed, and twins kept together."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TWIN_RMS = 0.012  # grey-level root mean square; 3 pairs of catalogue icons lie below, then a gap


def near_twins(icons: npt.NDArray[np.float32], threshold: float = TWIN_RMS) -> list[list[int]]:
    """Groups of near-identical pictures: (N, H, W) in [0, 1] -> lists of indices, each sorted.

    Two pictures are twins when their root mean square difference is below ``threshold``; groups are
    the connected parts. Most groups hold one picture.
    """
    flat = icons.reshape(len(icons), -1).astype(np.float64)  # (N, P)
    parent = list(range(len(flat)))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for one in range(len(flat) - 1):
        rms = np.sqrt(((flat[one + 1 :] - flat[one]) ** 2).mean(axis=1))
        for other in np.flatnonzero(rms < threshold) + one + 1:
            low, high = sorted((root(one), root(int(other))))
            parent[high] = low
    groups: dict[int, list[int]] = {}
    for node in range(len(flat)):
        groups.setdefault(root(node), []).append(node)
    return list(groups.values())


def split_groups(
    groups: Sequence[Sequence[int]], sizes: dict[str, int], seed: int
) -> dict[int, str]:
    """Deal whole groups out to splits of exactly the wanted sizes, at random but repeatably.

    Raises ValueError when the sizes do not add up or the groups cannot be dealt out so.
    """
    if sum(sizes.values()) != sum(len(group) for group in groups):
        raise ValueError(f"split sizes {sizes} do not add up to the number of items")
    order = np.random.default_rng(seed).permutation(len(groups))
    shuffled = sorted((groups[n] for n in order), key=len, reverse=True)  # stable: large first
    names = [name for name, size in sizes.items() for _ in range(size)]
    room, side = dict(sizes), {}
    turns = np.random.default_rng([seed, 1]).permutation(len(names))
    for group, turn in zip(shuffled, turns, strict=False):
        wish = names[turn]
        fits = [name for name in (wish, *sizes) if room[name] >= len(group)]
        if not fits:
            raise ValueError(f"no split has room for a group of {len(group)}")
        room[fits[0]] -= len(group)
        side.update(dict.fromkeys(group, fits[0]))
    return side
