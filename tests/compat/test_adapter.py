"""Adapters: what they recover, what they say of their own error, what is refused."""

import numpy as np
import pytest
from safetensors.numpy import load, save

from compat.adapter import MAX_ADAPTER_BYTES, Adapter
from compat.adapter_fit import best_kind, fit_adapter
from compat.errors import DataError, SpaceError, UntrustedError, UsageError
from compat.space import EmbeddingSpace

OLD = EmbeddingSpace(family="chairs", generation=1, dim=12)
NEW = EmbeddingSpace(family="chairs", generation=2, dim=16)
OURS, THEIRS = "a" * 64, "b" * 64


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def pairs(n=400, seed=0, bend=0.0, noise=0.0):
    """Source rows and what a foreign model makes of the same images."""
    drawn = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    latent = drawn.normal(size=(n, 8))
    into, out = fixed.normal(size=(8, NEW.dim)), fixed.normal(size=(8, OLD.dim))
    bent = latent + bend * np.abs(latent[:, ::-1])
    source = unit(latent @ into)
    target = unit(bent @ out + noise * drawn.normal(size=(n, OLD.dim)))
    return source, target


def fitted(kind="affine", **over):
    named = {"source": NEW, "source_digests": [OURS], "target": OLD, "target_digest": THEIRS}
    return fit_adapter(kind, *pairs(**over), **named)


def error_of(adapter, **over):
    source, target = pairs(seed=5, **over)
    mapped = adapter.apply(source, artifact_digest=OURS)
    return 1 - np.einsum("nd,nd->n", mapped, target)


def test_a_linear_change_is_undone_and_rows_are_unit():
    mapped = fitted().apply(pairs(seed=5)[0], artifact_digest=OURS)
    assert mapped.shape == (400, OLD.dim)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-5)
    assert error_of(fitted()).mean() < 0.02


def test_a_rotation_is_found_exactly():
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))[0]
    source = unit(np.random.default_rng(4).normal(size=(100, 12)))
    named = {"source_digests": [OURS], "target": OLD, "target_digest": THEIRS}
    found = fit_adapter("orthogonal", source, unit(source @ turn), source=OLD, **named)
    np.testing.assert_allclose(found.tensors["weight"], turn, atol=1e-5)


def test_a_bend_needs_the_residual():
    errors = {kind: error_of(fitted(kind, bend=1.5), bend=1.5).mean()
              for kind in ("orthogonal", "affine", "residual")}  # fmt: skip
    assert errors["residual"] < 0.6 * errors["affine"] < errors["affine"] <= errors["orthogonal"]
    assert best_kind(*pairs(bend=1.5)) == "residual"


def test_noise_is_not_mapped():
    """A map that flatters noise is broken: unrelated rows stay unrelated."""
    rng = np.random.default_rng(0)
    source, target = unit(rng.normal(size=(400, 16))), unit(rng.normal(size=(400, 12)))
    named = {"source": NEW, "source_digests": [OURS], "target": OLD, "target_digest": THEIRS}
    found = fit_adapter("affine", source[:300], target[:300], **named)
    cosines = np.einsum("nd,nd->n", found.apply(source[300:], artifact_digest=OURS), target[300:])
    assert abs(cosines.mean()) < 0.1


def test_it_knows_how_far_off_it_is():
    """Half of the images are noisy, and the model can see which: those it doubts."""
    source, target = pairs(n=800)
    noisy = source[:, 0] > 0
    target[noisy] = unit(target[noisy] + np.random.default_rng(1).normal(size=(noisy.sum(), 12)))
    named = {"source": NEW, "source_digests": [OURS], "target": OLD, "target_digest": THEIRS}
    found = fit_adapter("affine", source[:600], target[:600], **named)
    expected = found.expected_error(source[600:])
    mapped = found.apply(source[600:], artifact_digest=OURS)
    true = 1 - np.einsum("nd,nd->n", mapped, target[600:])
    assert np.corrcoef(expected, true)[0, 1] > 0.4
    assert expected[noisy[600:]].mean() > 2 * expected[~noisy[600:]].mean()


@pytest.mark.parametrize("kind", ["orthogonal", "affine", "residual"])
def test_bytes_come_back_and_are_the_same_twice(kind):
    found = fitted(kind)
    blob = found.to_bytes()
    assert blob == fitted(kind).to_bytes()
    again = Adapter.from_bytes(blob)
    assert again.header == found.header
    source = pairs(seed=7)[0]
    np.testing.assert_array_equal(
        again.apply(source, artifact_digest=OURS), found.apply(source, artifact_digest=OURS)
    )


def test_attack_embeddings_of_another_artifact_or_dimension():
    found, source = fitted(), pairs(seed=5)[0]
    found.apply(source, artifact_digest=OURS)
    with pytest.raises(SpaceError, match="these are of cccccccccccc"):
        found.apply(source, artifact_digest="c" * 64)
    with pytest.raises(SpaceError, match=r"takes \(N, 16\)"):
        found.apply(source[:, :12], artifact_digest=OURS)
    with pytest.raises(UsageError, match="zero"):
        found.apply(np.zeros((1, 16)), artifact_digest=OURS)


def test_attack_an_adapter_between_other_spaces():
    found = fitted()
    found.check_between(source=NEW, target=OLD)
    stranger = EmbeddingSpace(family="sofas", generation=1, dim=12)
    with pytest.raises(UntrustedError, match=r"offered for chairs/g2/16/cosine into sofas/g1"):
        found.check_between(source=NEW, target=stranger)


def changed(blob, **over):
    """The file with other tensors; its header as it was."""
    from compat.adapter import _metadata

    tensors = {k: v for k, v in (load(blob) | over).items() if v is not None}
    return save(tensors, metadata=_metadata(blob))


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"weight": np.zeros((16, 8), np.float32)}, r"weight is float32 \(16, 8\)"),
        ({"weight": np.zeros((16, 12))}, "weight is float64"),
        ({"bias": np.full(12, np.nan, np.float32)}, "bias holds NaN"),
        ({"bias": None}, "affine has"),
        ({"output_weight": np.zeros((4, 12), np.float32)}, "affine has"),
    ],
)
def test_attack_tensors_that_belie_the_header(over, words):
    blob = fitted().to_bytes()
    Adapter.from_bytes(blob)
    with pytest.raises(UntrustedError, match=words):
        Adapter.from_bytes(changed(blob, **over))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"not safetensors",
        save({"x": np.zeros(1)}),
        save({"x": np.zeros(1)}, metadata={"adapter": "{}"}),
    ],
)
def test_attack_bytes_that_are_no_adapter(blob):
    with pytest.raises(UntrustedError, match="not an adapter"):
        Adapter.from_bytes(blob)


def test_attack_an_endless_adapter():
    with pytest.raises(UntrustedError, match="at most"):
        Adapter.from_bytes(bytes(MAX_ADAPTER_BYTES + 1))


def test_too_few_pairs_and_pairs_that_do_not_correspond():
    named = {"source": NEW, "source_digests": [OURS], "target": OLD, "target_digest": THEIRS}
    source, target = pairs()
    with pytest.raises(DataError, match="15 pairs"):
        fit_adapter("affine", source[:15], target[:15], **named)
    with pytest.raises(UsageError, match="400 source rows for 399"):
        fit_adapter("affine", source, target[:-1], **named)
