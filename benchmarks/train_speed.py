"""Images per second of a member's training against a plain loop of the same network.

    make bench-train

The plain loop decodes each batch, asks the gallery model at every step and keeps the default memory
layout. What this project does instead is added one by one: pixels decoded once, the gallery model's
outputs cached (it sees the clean image, so they never move), channels last. All in one run, on the
images that come with the project, with randomly begun networks: ratios, not records. A second table
shows which networks learn faster in bfloat16.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.tables import Row, publish_table
from compat.dataset import read_dataset
from compat.losses.regression import regression_loss
from compat.preprocess import Preprocess
from server_models.augment import augmented, camera
from server_models.edge_net import SPECS, EdgeNet
from server_models.lite_net import LiteNet
from server_models.pixels import decode_all
from server_models.precision import has_bfloat16
from server_models.residual_net import ResidualNet

PACK = Path("registry/demo_pack")
BATCH, STEPS, DIM = 64, 12, 128
TEACHER_PX = 128
RECIPE = Preprocess(size_px=64)


def images_per_second(*, decoded_once: bool, cached: bool, channels_last: bool) -> float:
    """One way to take `STEPS` steps of `BATCH` images; the first step is not counted."""
    torch.manual_seed(0)
    net, teacher = EdgeNet(SPECS["kin-s"], DIM), LiteNet("efficientnet-lite0", DIM).eval()
    recipe, clean = RECIPE, Preprocess(size_px=TEACHER_PX)
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    images = read_dataset(PACK).of("train", "query")[: BATCH * 4]
    pixels = decode_all(images, recipe, title="decode").pixels if decoded_once else None
    targets = torch.randn(len(images), DIM) if cached else None
    augment = camera()

    def said(rows: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Tensor:
        if targets is not None:
            return targets[rows]
        shown = decode_all([images[i] for i in rows], clean, title="").pixels
        with torch.inference_mode():
            seen: Tensor = teacher(torch.from_numpy(clean.normalised(shown)).permute(0, 3, 1, 2))
        return seen.clone()

    def step(number: int) -> None:
        rows = np.arange(number * BATCH, (number + 1) * BATCH) % len(images)
        shown = (
            pixels[rows]
            if pixels is not None
            else decode_all([images[i] for i in rows], recipe, title="").pixels
        )
        batch = augmented(shown, augment, seed=number)
        query = net(torch.from_numpy(recipe.normalised(batch)).permute(0, 3, 1, 2))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(regression_loss(query, said(rows)).mean())
        optimizer.step()

    return BATCH * STEPS / _seconds(step)


def precision_row(name: str, net: nn.Module) -> Row:
    """Steps of the network alone, in float32 and under autocast to bfloat16."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(BATCH, 3, RECIPE.size_px, RECIPE.size_px)
    images = images.to(memory_format=torch.channels_last)
    rates = []
    for is_half in (False, True):

        def step(number: int, is_half: bool = is_half) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                found = net(images)
            torch.autograd.backward(found.float().square().mean())

        rates.append(BATCH * STEPS / _seconds(step))
    ratio = round(rates[1] / rates[0], 2)
    return {
        "network": name,
        "float32": round(rates[0]),
        "bfloat16": round(rates[1]),
        "ratio": ratio,
    }


def _seconds(step: Callable[[int], None]) -> float:
    step(0)
    start = time.perf_counter()
    for number in range(1, STEPS + 1):
        step(number)
    return time.perf_counter() - start


def main() -> None:
    ways = {
        "plain": (False, False, False),
        "+ decoded once": (True, False, False),
        "+ cached outputs of the gallery model": (True, True, False),
        "+ channels last": (True, True, True),
    }
    rows: list[Row] = []
    plain = 0.0
    for name, (once, cached, last) in ways.items():
        rate = images_per_second(decoded_once=once, cached=cached, channels_last=last)
        plain = plain or rate
        rows.append({"loop": name, "images/s": round(rate), "ratio": round(rate / plain, 2)})
    publish_table(
        "train_speed",
        "Training a 2.4 M MACs member against a 125 M MACs gallery model",
        rows,
        notes=[f"batches of {BATCH}, {STEPS} steps, {torch.get_num_threads()} threads"],
    )
    nets = {
        "kin-s": EdgeNet(SPECS["kin-s"], DIM),
        "kin-m": EdgeNet(SPECS["kin-m"], DIM),
        "resnet18-w32": ResidualNet("resnet18-w32", DIM),
    }
    publish_table(
        "train_precision",
        "Images/s in float32 and bfloat16",
        [precision_row(name, net) for name, net in nets.items()],
        notes=[
            f"batches of {BATCH} at {RECIPE.size_px} px, {STEPS} steps, {torch.get_num_threads()} "
            f"threads; the processor has bfloat16: {has_bfloat16()}"
        ],
    )


if __name__ == "__main__":
    main()
