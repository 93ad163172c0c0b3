"""Query models of earlier runs, frozen: what a new one agrees with, more where they were right.

A run's folder has its resolved config (run.json), its weights and, where it trained a classifier of
its own, that classifier with the names of its classes (head.safetensors). Several folders are one
ensemble, whose logits and embeddings are averaged (arXiv:2011.09161, section 3.3).
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from compat.errors import ConfigError, CorruptError
from compat.files import digest_of, read_bounded
from compat.preprocess import Preprocess
from server_models.checkpoint import (
    MAX_CHECKPOINT_BYTES,
    load_weights,
    read_weights,
    save_weights,
)
from server_models.config import MAX_CONFIG_BYTES
from server_models.heads import NormalisedHead
from server_models.lesson import Lesson
from server_models.loop import Rows
from server_models.loss_config import TermName
from server_models.member_config import MemberConfig
from server_models.pixels import Decoded, decode_all
from server_models.query_net import build
from server_models.run_folder import RunFolder
from server_models.small_update import inputs_of
from server_models.terms import Before

BY_CLASS: frozenset[TermName] = frozenset(("fd_lm", "fd_kl", "reweighted"))
BY_SEARCH: frozenset[TermName] = frozenset(("fd_regression", "fd_csd"))


@dataclass(frozen=True)
class Head:
    """A query model's own classifier."""

    weight: Tensor  # (C, D)
    classes: tuple[str, ...]


@dataclass(frozen=True)
class PreviousModel:
    """One earlier query model, frozen; ``head`` is None where it was never taught its classes."""

    net: nn.Module
    recipe: Preprocess
    dim: int
    head: Head | None


@dataclass(frozen=True)
class Previous:
    """One earlier query model, or an ensemble of them, over the training images of a new one."""

    models: tuple[PreviousModel, ...]
    recipe: Preprocess  # of the new member
    decoded: tuple[Decoded, ...]  # the images by each model's own recipe
    classes: tuple[str, ...]  # of the new head
    dim: int

    @classmethod
    def of(cls, member: MemberConfig, decoded: Decoded, *, dim: int) -> "Previous":
        """What ``member.previous`` names, checked against what its losses ask of it.

        Raises:
            ConfigError: a folder holds no such run. Remedy: the message's.
        """
        models = tuple(map(read_previous, member.previous))
        asked = {each.term for each in member.losses}
        for model, folder in zip(models, member.previous, strict=True):
            if model.head is None and (named := sorted(BY_CLASS & asked)):
                raise ConfigError(
                    f"{named} read the classifier of {folder}, and it has none: train that run "
                    'with the term "classification"'
                )
            if model.dim != dim and (named := sorted(BY_SEARCH & asked)):
                raise ConfigError(
                    f"{named} compare embeddings: {folder} has {model.dim} dimensions, not {dim}"
                )
        fitted = tuple(
            decoded
            if model.recipe == member.preprocess
            else decode_all(decoded.images, model.recipe, title="decode for the previous model")
            for model in models
        )
        found = cls(models, member.preprocess, fitted, decoded.classes, dim)
        if BY_CLASS & asked and not len(found.known):
            raise ConfigError(
                f"none of the {len(decoded.classes)} classes is one that {member.previous[0]} was "
                "taught: it cannot be agreed with"
            )
        return found

    @cached_property
    def known(self) -> Tensor:
        """Classes of the new head that every model was taught: (K,) int64."""
        taught = [set(model.head.classes) for model in self.models if model.head]
        shared = set.intersection(*taught) if len(taught) == len(self.models) else set()
        rows = [row for row, name in enumerate(self.classes) if name in shared]
        return torch.tensor(rows, dtype=torch.int64)

    @cached_property
    def _places(self) -> Tensor:
        places = torch.full((len(self.classes),), -1)
        places[self.known] = torch.arange(len(self.known))
        return places

    @cached_property
    def _heads(self) -> list[Tensor]:
        """Each model's rows of the `known` classes, in their order: (K, D), L2 = 1."""
        names = [self.classes[row] for row in self.known.tolist()]
        return [
            F.normalize(model.head.weight[[model.head.classes.index(name) for name in names]])
            for model in self.models
            if model.head
        ]

    def said(self, lesson: Lesson, step: int, rows: Rows, images: Tensor) -> Before:
        """What they say of the very images that the new model sees at ``step``: (B, 3, S, S).

        A model of another recipe sees the same changes of light and place at its own resolution.
        """
        with torch.no_grad():
            queries = [
                F.normalize(
                    model.net(
                        images
                        if model.recipe == self.recipe
                        else lesson.images_at(step, rows, decoded, model.recipe)
                    )
                )
                for model, decoded in zip(self.models, self.decoded, strict=True)
            ]
            query = torch.zeros(len(rows), self.dim)
            if all(each.shape[1] == self.dim for each in queries):
                query = F.normalize(torch.stack(queries).mean(0))
            logits = torch.zeros(len(rows), 0)
            if len(self.known):
                cosines = [q @ head.T for q, head in zip(queries, self._heads, strict=True)]
                logits = lesson.gallery.scale * torch.stack(cosines).mean(0)  # (B, K)
            return Before(query, lesson.found(query, rows), logits, self.known, self._places)


def read_previous(folder: Path) -> PreviousModel:
    """The query model that a finished run left in its folder.

    Raises:
        ConfigError: there is none. Remedy: name RUN/models/MEMBER of a run that was trained.
        CorruptError: it is damaged. Remedy: train it again.
    """
    run, record = RunFolder(folder), folder / "run.json"
    if not record.is_file() or not run.weights.is_file():
        raise ConfigError(f"previous: {folder} holds no trained member: name RUN/models/MEMBER")
    try:
        config = json.loads(read_bounded(record, MAX_CONFIG_BYTES))["config"]
        dim = int(config["dim"])
        fields = {key: config[key] for key in config if key in MemberConfig.model_fields}
        member = MemberConfig.model_validate(fields)
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        raise CorruptError(f"{record} is not the record of a member's run: {error}") from error
    net = build(member, dim)
    load_weights(run.weights, net)
    return PreviousModel(net.eval().requires_grad_(False), member.preprocess, dim, read_head(run))


def begin_previous(net: nn.Module, member: MemberConfig) -> None:
    """Fill ``net`` with the weights of the first run that ``member.previous`` names.

    Raises:
        ConfigError: that run is of another network. Remedy: another ``start``.
    """
    folder = member.previous[0]
    try:
        net.load_state_dict(read_previous(folder).net.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"{member.name} cannot begin with the weights of {folder}, its backbone or dim is "
            'another one: set start = "starter"'
        ) from error


def save_head(folder: RunFolder, head: NormalisedHead, classes: tuple[str, ...]) -> None:
    """Keep a query model's classifier: (C, D), and what its rows stand for."""
    save_weights(_head_of(folder), head, {"classes": json.dumps(classes)})


def read_head(folder: RunFolder) -> Head | None:
    """What `save_head` kept; None where there is none. Raises CorruptError."""
    file = _head_of(folder)
    if not file.exists():
        return None
    try:
        weight = read_weights(file)["weight"]
        with safetensors.safe_open(str(file), framework="pt") as opened:
            classes = tuple(json.loads(opened.metadata()["classes"]))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CorruptError(f"{file} is no classifier ({error}): train the run again") from error
    if weight.ndim != 2 or len(weight) != len(classes):
        raise CorruptError(f"{file} has {len(weight)} rows for {len(classes)} classes")
    return Head(weight, classes)


def decides(member: MemberConfig) -> dict[str, object]:
    """All of a member's section that decides it: earlier runs by their weights, not their place."""
    written = inputs_of(member)
    if member.previous:
        written["previous"] = [_digest(folder) for folder in member.previous]
    return written


def _digest(folder: Path) -> str:
    run = RunFolder(folder)
    if not run.weights.is_file():
        raise ConfigError(f"previous: {folder} holds no trained member: name RUN/models/MEMBER")
    parts = [run.weights, *(file for file in [_head_of(run)] if file.exists())]
    return digest_of(
        "".join(digest_of(read_bounded(file, MAX_CHECKPOINT_BYTES)) for file in parts).encode()
    )


def _head_of(folder: RunFolder) -> Path:
    return folder.path / "head.safetensors"
