"""What a query model is pulled on: the terms of `compat.losses` by the names of a TOML.

A term sees the batch's query embeddings and what the frozen gallery model says of the same images.
Those in `NEEDS_HEAD` read the gallery model's own classifier: a model that is only a file or a
table of vectors has none, and then a head is synthesised from the class means of its vectors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from compat.losses.aml import aml_loss
from compat.losses.boundary import boundary_loss, class_radii
from compat.losses.csd import csd_loss
from compat.losses.d3still import d3still_loss
from compat.losses.focal import (
    EVERYWHERE,
    WHERE_RIGHT,
    focal_weights,
    logit_matching,
    softened_divergence,
)
from compat.losses.influence import influence_loss
from compat.losses.logit_kd import logit_kd_loss
from compat.losses.margin import margin_loss
from compat.losses.raml import raml_loss
from compat.losses.regression import regression_loss
from compat.losses.rkd import rkd_loss
from compat.losses.synthesised import synthesised_head
from server_models.loss_config import LossTerm, TermName
from server_models.member_config import MemberConfig

OWN_HEAD: frozenset[TermName] = frozenset(
    ("classification", "logit_kd", "focal", "fd_lm", "fd_kl", "reweighted")
)  # these train the query model's own classifier, which is then kept beside its weights
NEEDS_HEAD: frozenset[TermName] = frozenset(
    ("influence", "influence_kd", "distilled", "logit_kd", "focal")
)
NEEDS_LABEL: frozenset[TermName] = frozenset(
    (
        "influence",
        "influence_kd",
        "synthesised",
        "aml",
        "boundary",
        "classification",
        "focal",
        "fd_lm",
        "fd_kl",
        "reweighted",
    )
)


@dataclass(frozen=True)
class Gallery:
    """What the frozen gallery model says of the training images."""

    embeddings: Tensor  # (M, D)
    labels: Tensor  # (M,) int64
    head: Tensor  # (C, D) its classifier; rows that it lacks are synthesised from its embeddings
    known: Tensor  # (C,) bool: which rows it was trained with
    centres: Tensor  # (C, D) mean direction of each class
    radii: Tensor  # (C,) 1 - cos of the outermost embedding of each class
    scale: float  # of the cosines in a softmax

    @classmethod
    def of(
        cls,
        embeddings: Tensor,
        labels: Tensor,
        head: Tensor | None,
        scale: float,
        known: Tensor | None = None,
    ) -> "Gallery":
        """``known`` (C,) bool: the rows of ``head`` that stand; all when left out."""
        classes = int(labels.max()) + 1 if head is None else len(head)
        centres = synthesised_head(embeddings, labels, classes=classes)
        radii = class_radii(embeddings, labels, centres)
        used = centres if head is None else head
        if known is None:
            known = torch.ones(classes, dtype=torch.bool)
        used = torch.where(known[:, None], used, centres)
        return cls(embeddings, labels, used, known, centres, radii, scale)


@dataclass(frozen=True)
class Before:
    """What the previous query model says of a batch: it is agreed with more where it is right."""

    query: Tensor  # (B, D) L2 = 1
    found: Tensor  # (B,) bool: it has a gallery image of the class at rank 1
    logits: Tensor  # (B, K) over the K classes that it and the new head both know
    known: Tensor  # (K,) int64, those classes in the new head's order
    places: Tensor  # (C,) int64, where a class of the new head stands in `known`, or -1

    def of(self, rows: Tensor) -> "Before":
        """Only the images that ``rows`` (B,) bool marks."""
        query, found, logits = (each[rows] for each in (self.query, self.found, self.logits))
        return Before(query, found, logits, self.known, self.places)


@dataclass(frozen=True)
class Batch:
    """One step: query embeddings with grad, and where they should land."""

    query: Tensor  # (B, D)
    aims: Tensor  # (B, D)
    seen: Tensor  # (B, D) what the gallery model says of the same images
    labels: Tensor  # (B,) int64, -1 = none
    own_head: Tensor  # (C, D) of the query model, trained beside it
    before: Before | None = None  # needed by the terms in `loss_config.CONGRUENT`

    def of(self, rows: Tensor) -> "Batch":
        """Only the images that ``rows`` (B,) bool marks."""
        if rows.all():
            return self
        query, aims, seen, labels = self.query, self.aims, self.seen, self.labels
        before = self.before and self.before.of(rows)
        return Batch(query[rows], aims[rows], seen[rows], labels[rows], self.own_head, before)


def _logits(embeddings: Tensor, head: Tensor, scale: float) -> Tensor:
    """(B, D), (C, D) -> (B, C)."""
    return scale * F.linear(F.normalize(embeddings), F.normalize(head))


def _focal(batch: Batch, gallery: Gallery) -> Tensor:
    old = _logits(batch.seen, gallery.head, gallery.scale)
    new = _logits(batch.query, batch.own_head, gallery.scale)
    return focal_weights(old, batch.labels) * logit_matching(new, old)


def _distilled(batch: Batch, gallery: Gallery) -> Tensor:
    """Read by the rows that the head was trained with as the gallery's own embedding is."""
    rows = gallery.head[gallery.known]
    return logit_kd_loss(
        _logits(batch.query, rows, gallery.scale), _logits(batch.seen, rows, gallery.scale)
    )


def _influence_kd(batch: Batch, gallery: Gallery) -> Tensor:
    """BCT without synthesised rows: arXiv:2003.11942, section 3.4."""
    known = gallery.known[batch.labels]  # (B,)
    number = torch.cumsum(gallery.known, 0) - 1  # (C,) row among the known ones
    labels = torch.where(known, number[batch.labels], 0)
    rows = gallery.head[gallery.known]
    read = influence_loss(batch.query, labels, rows, scale=gallery.scale)
    return torch.where(known, read, _distilled(batch, gallery))


def _before(batch: Batch) -> Before:
    assert batch.before is not None  # `MemberConfig` refuses such a term without `previous`
    return batch.before


def _class_weights(batch: Batch) -> Tensor:
    """Focal, by the previous model's answer among the classes that it knows: (B,)."""
    before = _before(batch)
    return focal_weights(before.logits, before.places[batch.labels])


def _search_weights(batch: Batch) -> Tensor:
    """Focal, by the previous model's answer in the gallery: (B,)."""
    return EVERYWHERE + WHERE_RIGHT * _before(batch).found.to(batch.query.dtype)


def _known_logits(batch: Batch, gallery: Gallery) -> Tensor:
    """(B, K)."""
    return _logits(batch.query, batch.own_head, gallery.scale)[:, _before(batch).known]


def _classification(batch: Batch, gallery: Gallery) -> Tensor:
    return margin_loss(batch.query, batch.labels, batch.own_head, scale=gallery.scale, margin=0.0)


TERMS: Mapping[TermName, Callable[[Batch, Gallery], Tensor]] = {
    "regression": lambda b, g: regression_loss(b.query, b.aims),
    "csd": lambda b, g: csd_loss(b.query, b.aims, g.embeddings),
    "influence": lambda b, g: influence_loss(b.query, b.labels, g.head, scale=g.scale),
    "synthesised": lambda b, g: influence_loss(b.query, b.labels, g.centres, scale=g.scale),
    "distilled": _distilled,
    "influence_kd": _influence_kd,
    "aml": lambda b, g: aml_loss(b.query, g.embeddings, b.labels, g.labels),
    "raml": lambda b, g: raml_loss(b.query, b.aims),
    "d3still": lambda b, g: d3still_loss(b.query, b.aims, g.embeddings),
    "boundary": lambda b, g: boundary_loss(b.query, b.labels, g.centres, g.radii),
    "classification": _classification,
    "logit_kd": lambda b, g: logit_kd_loss(
        _logits(b.query, b.own_head, g.scale), _logits(b.seen, g.head, g.scale)
    ),
    "rkd": lambda b, g: rkd_loss(b.query, b.aims),
    "focal": _focal,
    "fd_lm": lambda b, g: (
        _class_weights(b) * logit_matching(_known_logits(b, g), _before(b).logits)
    ),
    "fd_kl": lambda b, g: (
        _class_weights(b) * softened_divergence(_known_logits(b, g), _before(b).logits)
    ),
    "fd_regression": lambda b, g: _search_weights(b) * regression_loss(b.query, _before(b).query),
    "fd_csd": lambda b, g: _search_weights(b) * csd_loss(b.query, _before(b).query, g.embeddings),
    "reweighted": lambda b, g: _class_weights(b) * _classification(b, g),
}


def terms_without_head(member: MemberConfig) -> tuple[TermName, ...]:
    """The member's terms that read the gallery model's own classifier."""
    return tuple(each.term for each in member.losses if each.term in NEEDS_HEAD)


def weighted(terms: Sequence[LossTerm], batch: Batch, gallery: Gallery) -> dict[str, Tensor]:
    """Name -> weight * mean over the images that have what the term reads, (): what a step sums."""
    labelled = batch.of(batch.labels >= 0)
    return {
        each.term: each.weight
        * TERMS[each.term](labelled if each.term in NEEDS_LABEL else batch, gallery).mean()
        for each in terms
    }
