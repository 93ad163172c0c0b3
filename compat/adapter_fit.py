"""Fit an adapter on images that both models embedded: closed forms, no training loop.

- *orthogonal*: the rotation that brings the sources nearest to the targets (Procrustes, Schoenemann
  1966). Keeps every angle, so it can only help where the two spaces differ by a rotation.
- *affine*: ridge regression, its strength chosen on the last fifth of the pairs.
- *residual*: the affine map, and a ridge regression of what it leaves on random ReLU features
  (Rahimi & Recht, NeurIPS 2007): a small non-linear correction, in the spirit of the
  forward-compatible maps of FCT (arXiv:2112.02805).

Each also learns how far off it will be for a row (FastFill, arXiv:2303.04766): a ridge regression
of the logarithm of 1 - cosine, measured on pairs that the map did not see.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from compat.adapter import Adapter, AdapterHeader, Kind, mapped_rows
from compat.embedding import check_embeddings, unit_rows
from compat.errors import DataError, UsageError
from compat.preprocess import Floats
from compat.space import EmbeddingSpace

HIDDEN = 512
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the ridge, for unit rows
FOLDS = 5
MIN_PAIRS = 16
_SMALLEST = 1e-4  # of 1 - cosine: below it the logarithm would be of rounding

Doubles = npt.NDArray[np.float64]
Tensors = dict[str, Floats]


def fit_adapter(
    kind: Kind,
    source_rows: Floats,
    target_rows: Floats,
    *,
    source: EmbeddingSpace,
    source_digests: Sequence[str],
    target: EmbeddingSpace,
    target_digest: str,
) -> Adapter:
    """The map of ``kind`` that brings each source row near the target row of the same image.

    Args:
        source_rows, target_rows: (N, source dim), (N, target dim), corresponding. Keep the images
            of a class together: choices are made on the last fifth, which then has other classes.
        source_digests: artifacts whose embeddings it will be given.
        target_digest: the artifact that gave the target rows.

    Raises:
        DataError: fewer than `MIN_PAIRS` pairs. Remedy: more images that both models embed.
        UsageError: rows do not correspond, or have no direction.
    """
    if len(source_rows) != len(target_rows):
        raise UsageError(f"{len(source_rows)} source rows for {len(target_rows)} target rows")
    if len(source_rows) < MIN_PAIRS:
        raise DataError(f"{len(source_rows)} pairs fit no adapter: give at least {MIN_PAIRS}")
    check_embeddings(source=source_rows)
    check_embeddings(target=target_rows)
    x = unit_rows(source_rows, "source").astype(np.float64)
    y = unit_rows(target_rows, "target").astype(np.float64)
    header = AdapterHeader(
        kind=kind,
        source=source,
        source_digests=tuple(source_digests),
        target=target,
        target_digest=target_digest,
        pairs=len(x),
    )
    weight, bias = _doubt(x, held_out_errors(kind, x, y))
    return Adapter(header, {**_map(kind, x, y), "doubt_weight": weight, "doubt_bias": bias})


def best_kind(source_rows: Floats, target_rows: Floats) -> Kind:
    """The kind that errs least on pairs that it did not see; see `fit_adapter` for the rows."""
    kinds: tuple[Kind, ...] = ("orthogonal", "affine", "residual")
    x, y = source_rows.astype(np.float64), target_rows.astype(np.float64)
    return min(kinds, key=lambda kind: float(held_out_errors(kind, x, y).mean()))


def _map(kind: Kind, x: Doubles, y: Doubles) -> Tensors:
    if kind == "orthogonal":
        u, _, vt = np.linalg.svd(x.T @ y, full_matrices=False)
        return {"weight": _single(u @ vt), "bias": np.zeros(y.shape[1], np.float32)}
    weight = _ridge(_with_one(x), y)
    linear = {"weight": _single(weight[:-1]), "bias": _single(weight[-1])}
    if kind == "affine":
        return linear
    rng = np.random.default_rng(x.shape[1])
    hidden_weight = rng.normal(size=(x.shape[1], HIDDEN))
    hidden_bias = rng.normal(size=HIDDEN) * 0.5
    features = np.maximum(x @ hidden_weight + hidden_bias, 0)
    scale = 1 / np.sqrt(np.mean(np.square(features)) * HIDDEN)
    left = y - _with_one(x) @ weight
    return {
        **linear,
        "hidden_weight": _single(hidden_weight * scale),
        "hidden_bias": _single(hidden_bias * scale),
        "output_weight": _single(_ridge(features * scale, left)),
    }


def held_out_errors(kind: Kind, x: Doubles, y: Doubles) -> Doubles:
    """1 - cosine of each pair under a map that was fitted without its fold: (N,)."""
    errors: Doubles = np.empty(len(x), dtype=np.float64)
    for fold in np.array_split(np.arange(len(x)), FOLDS):
        rest = np.setdiff1d(np.arange(len(x)), fold)
        mapped = mapped_rows(_map(kind, x[rest], y[rest]), x[fold].astype(np.float32))
        errors[fold] = 1 - np.einsum("nd,nd->n", mapped, y[fold])
    return errors


def _doubt(x: Doubles, errors: Doubles) -> tuple[Floats, Floats]:
    """Weights (D, 1) and bias (1,) of the logarithm of the expected error."""
    logs = np.log(np.maximum(errors, _SMALLEST))
    middle = float(logs.mean())
    weight = _ridge(x, (logs - middle)[:, None])
    return _single(weight), np.array([middle], np.float32)


def _ridge(x: Doubles, y: Doubles) -> Doubles:
    """(N, D), (N, K) -> (D, K); strength chosen on the last fifth, then fitted on all."""
    cut = len(x) - len(x) // FOLDS
    off = [
        float(np.mean(np.square(x[cut:] @ _solve(x[:cut], y[:cut], strength) - y[cut:])))
        for strength in STRENGTHS
    ]
    return _solve(x, y, STRENGTHS[int(np.argmin(off))])


def _solve(x: Doubles, y: Doubles, strength: float) -> Doubles:
    solved: Doubles = np.asarray(
        np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y), dtype=np.float64
    )
    return solved


def _with_one(x: Doubles) -> Doubles:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _single(values: Doubles) -> Floats:
    single: Floats = np.ascontiguousarray(values, dtype=np.float32)
    return single
