"""``kinspace adapt``: a member becomes a tenant's, and stays in the family's space.

The adapted member lies in the workspace as a trained one does, with ``adaptation.json`` beside its
weights and a section to paste into the family in ``adapted/NAME.toml``; export, verify and the gate
treat it as any member. Called again it goes on from there: images that came are added, images that
went or are to be forgotten leave.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from compat.errors import DataError, UsageError
from compat.files import digest_of, read_bounded, write_atomic
from compat.images import read_image
from compat.space import NAME_PATTERN
from registry.member_toml import member_toml
from registry.stages import family_of
from registry.tenant import Tenant
from registry.workspace import Workspace
from server_models.checkpoint import MAX_CHECKPOINT_BYTES, save_weights
from server_models.config import FamilyConfig
from server_models.family import Family
from server_models.lesson import pulled_to_gallery
from server_models.lqf.adaptation import (
    Adaptation,
    Example,
    Problem,
    read_adaptation,
    unlearning_ratio,
    write_adaptation,
)
from server_models.lqf.fit import Fit
from server_models.member_config import MemberConfig
from server_models.pixels import decode_all, targets_of
from server_models.run_folder import RunFolder

INFLUENTIAL = 10


@dataclass(frozen=True)
class Adapted:
    """The adapted member, and which images moved it most."""

    member: MemberConfig
    section: Path
    record: Adaptation
    influential: tuple[tuple[Example, float], ...]  # share of the whole move, largest first


def adapt_member(
    config: FamilyConfig,
    workspace: Workspace,
    *,
    member: str,
    data: Path,
    name: str,
    forget: Sequence[str] = (),
    forget_classes: Sequence[str] = (),
    influence: bool = False,
) -> Adapted:
    """Adapt ``member`` to the images of ``data``; the result is the member ``name``.

    Raises:
        UsageError: there is no such member, image or class, or the member is not trained yet.
        DataError: nothing is left to learn, or an image is one that the family is judged on.
    """
    family = family_of(config, workspace)
    base = _member(config, member)
    adapted = _renamed(family, base, name)
    tenant = Tenant.read(data)
    _check_unseen(family, tenant)
    weights_digest = digest_of(read_bounded(family.folder(member).weights, MAX_CHECKPOINT_BYTES))
    kept = _kept(family, name, weights_digest)
    asked = tenant.examples(forget, forget_classes)
    before = {each.digest: each for each in kept[0].forgotten} if kept else {}
    forgotten = before | {each.digest: each for each in asked}
    left = tenant.without(frozenset(forgotten))
    examples = [left.example(row) for row in left.learned]

    problem = _problem(family, base, left)
    found = problem.solve(_start(kept, examples, config.dim), title=f"adapt {name}")
    ratio = None
    if asked:
        whole = _problem(family, base, tenant.without(frozenset(before)))
        ratio = _unlearned(whole, problem, found, name)
    moved = problem.most_influential(found, INFLUENTIAL) if influence else []
    record = Adaptation(
        member=member,
        weights_digest=weights_digest,
        examples=tuple(examples),
        forgotten=tuple(forgotten.values()),
        steps=found.steps,
        unlearning_ratio=ratio,
        fitted=problem.move(found),
    )
    _store(family.folder(name), problem, record, found)
    section = workspace.root / "adapted" / f"{name}.toml"
    write_atomic(section, member_toml(adapted).encode())
    return Adapted(adapted, section, record, tuple((examples[row], by) for row, by in moved))


def _store(folder: RunFolder, problem: Problem, record: Adaptation, found: Fit) -> None:
    """The weights last: cut off anywhere, none lie beside a record that is not theirs."""
    folder.weights.unlink(missing_ok=True)
    write_adaptation(folder, record, found.duals)
    save_weights(folder.weights, problem.net, {"adapted_from": record.member})


def _member(config: FamilyConfig, member: str) -> MemberConfig:
    known = {each.name: each for each in config.members}
    if member not in known:
        raise UsageError(f"the family has no member {member!r}, only {sorted(known)}")
    return known[member]


def _renamed(family: Family, member: MemberConfig, name: str) -> MemberConfig:
    """The member under a name that no trained model has."""
    if not re.match(NAME_PATTERN, name):
        raise UsageError(f"{name!r} cannot name a member: lower-case letters, digits, . _ and -")
    folder = family.folder(name)
    if name == family.config.cloud.name or (folder.path.exists() and not read_adaptation(folder)):
        raise UsageError(f"{name!r} is a trained model: give the adapted member another --name")
    return member.model_copy(update={"name": name})


def _kept(family: Family, name: str, weights_digest: str) -> tuple[Adaptation, Tensor] | None:
    """What an earlier adaptation of the same weights has left."""
    kept = read_adaptation(family.folder(name))
    return kept if kept and kept[0].weights_digest == weights_digest else None


def _check_unseen(family: Family, tenant: Tenant) -> None:
    """Refuse images that the family is judged on: its numbers would flatter."""
    judged = {digest_of(read_image(image.path)) for image in family.dataset.of("test")}
    seen = zip(tenant.images, tenant.digests, strict=True)
    if both := [image.name for image, digest in seen if digest in judged]:
        raise DataError(
            f"{len(both)} images to adapt to are of the family's test split, on which it is judged "
            f"({', '.join(both[:3])} ...): leave them out"
        )


def _problem(family: Family, member: MemberConfig, tenant: Tenant) -> Problem:
    """What the tenant's images ask of the member, by the frozen gallery model."""
    rows = tenant.learned
    anchors = torch.from_numpy(
        family.gallery_model.embed(tenant.images, title="embed by the gallery model")
    )
    is_gallery = torch.tensor([image.role == "gallery" for image in tenant.images])
    aims = anchors
    if member.aim == "class":
        aims = pulled_to_gallery(anchors, torch.from_numpy(targets_of(tenant.images)), is_gallery)
    recipe = member.preprocess
    learned = decode_all([tenant.images[row] for row in rows], recipe, title="decode for adapt")
    images = torch.from_numpy(recipe.normalised(learned.pixels)).permute(0, 3, 1, 2)
    return Problem(family.member(member), images, aims[rows])


def _start(
    kept: tuple[Adaptation, Tensor] | None, examples: Sequence[Example], dim: int
) -> Tensor | None:
    """Duals of the images that were there before, zero for new ones: (N, D)."""
    if kept is None:
        return None
    record, duals = kept
    held = {each.digest: row for each, row in zip(record.examples, duals, strict=True)}
    return torch.stack([held.get(each.digest, torch.zeros(dim)) for each in examples])


def _unlearned(whole: Problem, problem: Problem, found: Fit, name: str) -> float:
    """How near the unlearned member is to one that is adapted anew without what it forgot."""
    before = whole.solve(title=f"{name} as it was")
    return unlearning_ratio(before, found, problem.solve(title=f"{name} adapted anew"))
