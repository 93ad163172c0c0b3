"""Decide where in the chain a difference enters, and which hypothesis explains it. No files here.

Stages in order: decode -> resize -> tensor -> embedding of each artifact -> index. Pixels and
tensors differ by levels of 255. Embeddings differ by half the squared L2 distance, which for unit
rows is the cosine distance 1 - cos, and which also sees rows that are not of unit length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from compat.diagnosis_section import Cause, DiagnosisSection, Measure, QuantisedLayers
from compat.diagnosis_section import StageDifference as Stage
from compat.embedding import unit_rows
from compat.errors import UsageError
from compat.hypotheses import Hypothesis, hypotheses, recipe_pixels, recipe_tensor
from compat.preprocess import Floats, Preprocess

LEVELS_TOLERANCE = 0.25  # of 255, mean over an image: decoders' rounding, no resize kernel's
EXPLAINED = 0.1  # of the difference may remain
ROUNDING: dict[Measure, float] = {"levels": 0.01, "cosine distance": 1e-6}  # below: equal
Differ = Callable[[Floats, Floats], Floats]  # suspect, reference -> (N,)


@dataclass(frozen=True)
class Link:
    """One stage's embeddings in a chain of artifacts, and the link that it should repeat."""

    name: str
    against: str | None  # None: the root
    embeddings: Floats  # (N, D)
    tolerance: float = 0.0  # mean cosine distance


@dataclass(frozen=True)
class Suspect:
    """What another app computed for the reference images."""

    kind: str  # "pixels", "tensor" or "embedding"
    rows: Floats  # (N, S, S, 3) or (N, D)
    tolerance: float  # mean levels or mean cosine distance


def levels(suspect: Floats, reference: Floats, std: Sequence[float] = (1 / 255,) * 3) -> Floats:
    """Mean absolute difference of images, in levels of 255: (N, S, S, 3) twice -> (N,)."""
    steps = np.abs(suspect.astype(np.float64) - reference) * (255 * np.asarray(std))
    found: Floats = steps.mean(axis=(1, 2, 3))
    return found


def embedding_distances(suspect: Floats, reference: Floats) -> Floats:
    """Half the squared L2 distance of corresponding rows: (N, D), (N, D) -> (N,), 0 = equal."""
    found: Floats = np.square(suspect.astype(np.float64) - reference).sum(axis=1) / 2
    return found


def compare_links(links: Sequence[Link]) -> tuple[Stage, ...]:
    """How much each link adds, root first; ``share`` is of the sum along its own chain.

    Raises:
        UsageError: two links hold embeddings of different shapes.
    """
    by_name = {link.name: link for link in links}
    added: dict[str, Floats] = {}
    for link in links:
        if link.against is not None:
            base = by_name[link.against].embeddings
            if base.shape != link.embeddings.shape:
                raise UsageError(
                    f"{link.name} holds {link.embeddings.shape}, {link.against} {base.shape}: "
                    "run both on the same images"
                )
            added[link.name] = embedding_distances(link.embeddings, base)
    stages = []
    for link in links:
        if link.against is not None:
            total, at = 0.0, link
            while at.against is not None:
                total += float(added[at.name].mean())
                at = by_name[at.against]
            own = added[link.name]
            share = float(own.mean()) / total if total else 0.0
            stages.append(
                _stage(link.name, link.against, own, "cosine distance", link.tolerance, share)
            )
    return tuple(stages)


def conclude(
    images: int,
    stages: tuple[Stage, ...],
    causes: tuple[Cause, ...] = (),
    layers: tuple[QuantisedLayers, ...] = (),
    *,
    entered: str | None = None,
) -> DiagnosisSection:
    """The section; the first stage is ``entered`` when a cause names one nearer the source."""
    over = next((stage.stage for stage in stages if stage.exceeds), None)
    best = next((cause for cause in causes if cause.explains), None)
    first = entered or over
    if best is not None:
        words = f"{best.name}: {best.cure}"
    elif first is None:
        words = "every stage is within its tolerance"
    elif causes:
        words = f"{first} differs and no known mistake explains it: compare its input by --suspect"
    else:
        noisy = next((each for each in layers if each.artifact == first), None)
        words = noisy.suggestion if noisy else f"look at {first}: the stages before it agree"
    return DiagnosisSection(
        images=images, stages=stages, first=first, causes=causes, layers=layers, suggestion=words
    )


def diagnose_suspect(
    suspect: Suspect,
    blobs: Sequence[bytes],
    recipe: Preprocess,
    embed: Callable[[Floats], Floats],
) -> DiagnosisSection:
    """Compare what an app computed with the recipe and the model, and try every hypothesis.

    Args:
        suspect: N rows, for ``blobs`` in their order.
        blobs: N encoded images.
        recipe: what the app should have done.
        embed: (N, S, S, 3) normalised -> (N, D): what the app should have run.

    Raises:
        UsageError: rows that are not finite, or of another number or shape than the reference.
    """
    pixels = np.stack([recipe_pixels(blob, recipe) for blob in blobs])  # (N, S, S, 3)
    run, differ, measure = _view(suspect.kind, recipe, embed)
    reference = run(recipe_tensor(pixels, recipe)) if suspect.kind != "pixels" else pixels
    rows = suspect.rows
    if rows.shape != reference.shape:
        raise UsageError(
            f"the suspect is {rows.shape}, {len(blobs)} images give {reference.shape}: hand over "
            "one row an image, in the order of the held-out queries, channels last"
        )
    if not np.isfinite(rows).all():
        raise UsageError("the suspect holds NaN or infinity: mend the app's model or its input")
    own = differ(rows, reference)
    stage = _stage(suspect.kind, "reference", own, measure, suspect.tolerance, None)
    if own.mean() <= min(ROUNDING[measure], suspect.tolerance):
        return conclude(len(blobs), (stage,))
    # int8 is allowed so much that a wrong kernel hides in it: there, nine tenths must be explained
    allowed = suspect.tolerance if stage.exceeds else 0.0
    causes = []
    if suspect.kind == "embedding":
        causes.append(_unit_cause(rows, reference, float(own.mean()), allowed))
    if suspect.kind == "tensor":
        causes += _fitted_cause(rows, pixels, recipe, float(own.mean()), allowed)
    places = {cause.name: suspect.kind for cause in causes}
    for chosen, after in _tried(suspect, blobs, recipe, run, differ):
        cause = _chosen_cause(chosen, float(own.mean()), after, allowed)
        causes.append(cause)
        places[cause.name] = chosen[0].stage
    causes.sort(key=lambda cause: (not cause.explains, cause.unexplained_after))
    entered = places[causes[0].name] if causes and causes[0].explains else None
    shown = causes[:5] if stage.exceeds or entered else []
    return conclude(len(blobs), (stage,), tuple(shown), entered=entered)


def _chosen_cause(
    chosen: tuple[Hypothesis, ...], before: float, after: float, allowed: float
) -> Cause:
    name = " and ".join(each.name for each in chosen)
    return _cause(name, "; ".join(each.cure for each in chosen), before, after, allowed)


def _tried(
    suspect: Suspect,
    blobs: Sequence[bytes],
    recipe: Preprocess,
    run: Callable[[Floats], Floats],
    differ: Differ,
) -> list[tuple[tuple[Hypothesis, ...], float]]:
    """Mean difference left by each hypothesis; by pairs of pixels and tensor if none suffices."""
    rows = suspect.rows
    if suspect.kind == "embedding" and np.linalg.norm(rows, axis=1).min() > 0:
        rows = unit_rows(rows, "suspect")
    known = [each for each in hypotheses(recipe) if suspect.kind != "pixels" or not each.tensor]
    seen: dict[str, Floats] = {}

    def left(*chosen: Hypothesis) -> float:
        to_pixels = next((each for each in chosen if each.pixels), None)
        make = to_pixels.pixels if to_pixels and to_pixels.pixels else recipe_pixels
        name = to_pixels.name if to_pixels else ""
        if name not in seen:
            seen[name] = np.stack([make(blob, recipe) for blob in blobs])
        if suspect.kind == "pixels":
            return float(differ(rows, seen[name]).mean())
        to_tensor = next((each.tensor for each in chosen if each.tensor), recipe_tensor)
        try:
            tried = run(to_tensor(seen[name], recipe).astype(np.float32))
        except UsageError:  # the model gives such a tensor no direction: it explains nothing
            return float("inf")
        return float(differ(rows, tried).mean())

    found = [((each,), left(each)) for each in known]
    best = min(after for _, after in found)
    tried: list[tuple[tuple[Hypothesis, ...], float]] = [*found]
    if suspect.kind != "pixels" and best > suspect.tolerance:
        pairs = product([k for k in known if k.pixels], [k for k in known if k.tensor])
        both = [(pair, left(*pair)) for pair in pairs]
        # two mistakes must explain far more than one: the simpler story wins otherwise
        tried += [each for each in both if each[1] < best / 2]
    return [each for each in tried if np.isfinite(each[1])]


def _view(
    kind: str, recipe: Preprocess, embed: Callable[[Floats], Floats]
) -> tuple[Callable[[Floats], Floats], Differ, Measure]:
    """From a tensor to what the suspect shows, and how to compare it."""
    if kind == "embedding":
        return embed, embedding_distances, "cosine distance"
    if kind == "tensor":
        return lambda tensor: tensor, lambda a, b: levels(a, b, recipe.std), "levels"
    if kind == "pixels":
        return lambda tensor: tensor, levels, "levels"
    raise UsageError(f"no stage {kind!r}: one of pixels, tensor, embedding")


def _unit_cause(rows: Floats, reference: Floats, before: float, tolerance: float) -> Cause:
    """Was the embedding only left unnormalised?"""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
    after = float(embedding_distances(unit, reference).mean())
    if np.allclose(norms, 1, atol=1e-2):
        after = before
    cure = "divide each embedding by its L2 norm before it is compared"
    return _cause("embedding not normalised", cure, before, after, tolerance)


def _fitted_cause(
    rows: Floats, pixels: Floats, recipe: Preprocess, before: float, tolerance: float
) -> list[Cause]:
    """Another mean and std, found by a straight line a channel through (pixel, tensor)."""
    fitted, means, stds = np.empty_like(rows), [], []
    for channel in range(3):
        x, y = pixels[..., channel].ravel(), rows[..., channel].ravel()
        if x.min() == x.max():
            return []
        slope, shift = np.polyfit(x.astype(np.float64), y.astype(np.float64), 1)
        if not slope > 0:
            return []
        fitted[..., channel] = slope * pixels[..., channel] + shift
        means.append(round(float(-shift / (255 * slope)), 3))
        stds.append(round(float(1 / (255 * slope)), 3))
    after = float((levels(rows, fitted, recipe.std)).mean())
    name = f"another normalisation: mean {tuple(means)}, std {tuple(stds)}"
    cure = f"normalise as (p / 255 - mean) / std, mean {recipe.mean}, std {recipe.std}"
    # a line always fits a little: exact, or it explains nothing
    exact = after <= 0.01 * before
    return [_cause(name, cure, before, after, tolerance)] if exact else []


def _cause(name: str, cure: str, before: float, after: float, tolerance: float) -> Cause:
    return Cause(
        name=name,
        cure=cure,
        unexplained_before=before,
        unexplained_after=after,
        explains=after < before and (after <= tolerance or after < EXPLAINED * before),
    )


def _stage(
    name: str, against: str, own: Floats, measure: Measure, tolerance: float, share: float | None
) -> Stage:
    return Stage(
        stage=name,
        against=against,
        measure=measure,
        difference=float(own.mean()),
        worst=float(own.max()),
        tolerance=tolerance,
        share=share,
    )
