"""Make the probe networks that ship in ``edge/probes``: ``python -m benchmarks.probes``.

A small network of the operators that edge models are made of, with weights of a seed: it is run,
never trained. About 9 M MACs in some tens of KB: enough work that starting a runtime does not drown
it, small enough to ship. Other bytes are another probe, and older releases are then no longer
predicted on newer devices: run this again only when the old probes no longer load.
"""

import numpy as np
import torch

from compat.files import write_atomic
from edge.probes import DIM, PROBES, RECIPE
from server_models.architecture import Architecture, Layer
from server_models.edge_net import EdgeNet
from server_models.export import count_macs, count_params, export_artifacts

SPEC = Architecture(
    stem=24,
    layers=(
        Layer(expand=2, channels=24),
        Layer(expand=3, channels=32, stride=2),
        Layer(expand=3, channels=32),
        Layer(expand=3, channels=40, stride=2),
        Layer(expand=3, channels=40),
    ),
    features=64,
    size_px=RECIPE.size_px,
)


def main() -> None:
    torch.manual_seed(0)
    net = EdgeNet(SPEC, DIM).eval()
    images = np.random.default_rng(0).integers(0, 256, (64, RECIPE.size_px, RECIPE.size_px, 3))
    files = export_artifacts(net, RECIPE.size_px, RECIPE.normalised(images.astype(np.uint8)))
    blobs = {(each.runtime, each.precision): each.blob for each in files}
    for probe in PROBES:
        blob = blobs[probe.runtime, probe.precision]
        write_atomic(probe.path, blob)
        print(f"{probe.path.name:<24} {len(blob):>8} bytes  {probe.digest}")
    macs, params = count_macs(net, RECIPE.size_px), count_params(net)
    print(f"{macs / 1e6:.1f} M MACs, {params} parameters")


if __name__ == "__main__":
    main()
