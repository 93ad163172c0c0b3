"""A member that agrees with an earlier run, more where it was right."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from compat.errors import ConfigError, CorruptError
from registry.stages import member_inputs
from server_models.config import FamilyConfig, read_family
from server_models.family import Family
from server_models.loss_config import LossTerm, TermName
from server_models.member_config import MemberConfig
from server_models.previous import (
    Previous,
    begin_previous,
    decides,
    read_head,
    read_previous,
)
from server_models.query_net import build
from server_models.terms import TERMS, Batch, Before, Gallery

TAGGER = (LossTerm(term="classification", weight=1.0),)


@pytest.fixture(scope="module")
def old(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A family whose one member was also taught its classes."""
    config = read_family(shapes / "shapes.toml")
    member = config.members[0].model_copy(update={"losses": TAGGER})
    family = Family(
        config.model_copy(update={"members": (member,)}), tmp_path_factory.mktemp("old") / "models"
    )
    family.train_cloud()
    family.train_member(member)
    return family


def successor(old: Family, *terms: TermName, weight: float = 1.0) -> MemberConfig:
    losses = (*TAGGER, *(LossTerm(term=term, weight=weight) for term in terms))
    fields = old.config.members[0].model_dump(exclude={"losses", "previous"})
    folder = old.folder("edge").path
    return MemberConfig.model_validate(
        {**fields, "name": "next", "losses": losses, "previous": (folder,)}
    )


def trained(old: Family, member: MemberConfig, runs: Path) -> Family:
    family = Family(old.config.model_copy(update={"members": (member,)}), runs)
    shutil.copytree(old.folder("cloud").path, family.folder("cloud").path)
    family.train_member(member)
    return family


def test_a_member_may_begin_with_the_earlier_weights(old: Family) -> None:
    fields = old.config.members[0].model_dump(exclude={"start", "previous"})
    folder = old.folder("edge").path
    member = MemberConfig(**fields, start="previous", previous=(folder,))
    net = build(member, old.config.dim)
    begin_previous(net, member)
    for name, weight in read_previous(folder).net.state_dict().items():
        torch.testing.assert_close(net.state_dict()[name], weight)
    with pytest.raises(ConfigError, match="its backbone or dim is another one"):
        begin_previous(build(member, old.config.dim + 1), member)


def test_to_begin_with_an_earlier_run_it_must_be_named(old: Family) -> None:
    fields = old.config.members[0].model_dump(exclude={"start", "previous"})
    with pytest.raises(ValueError, match="name it in `previous`"):
        MemberConfig(**fields, start="previous")


def apart(old: Family, new: Family) -> float:
    """How far two members' class logits are from each other on drawn images."""
    torch.manual_seed(0)
    images = torch.randn(32, 3, 32, 32)
    logits = []
    for folder in (old.folder("edge").path, new.folder("next").path):
        model = read_previous(folder)
        assert model.head is not None
        with torch.no_grad():
            logits.append(F.normalize(model.net(images)) @ F.normalize(model.head.weight).T)
    return float((logits[0] - logits[1]).square().mean())


@pytest.mark.parametrize("term", ["fd_lm", "fd_kl", "fd_regression", "fd_csd", "reweighted"])
def test_every_term_trains_and_is_logged(old: Family, term: TermName, tmp_path: Path) -> None:
    new = trained(old, successor(old, term), tmp_path)
    lines = (new.folder("next").path / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)[term] >= 0 for line in lines)


@pytest.mark.parametrize("term", ["fd_lm", "fd_kl"])
def test_a_heavy_distillation_ends_nearer_to_the_old_answers(
    old: Family, term: TermName, tmp_path: Path
) -> None:
    schedule = old.config.members[0].schedule.model_copy(update={"steps": 40})
    light = successor(old, term, weight=1e-9).model_copy(update={"schedule": schedule})
    heavy = successor(old, term, weight=10.0).model_copy(update={"schedule": schedule})
    far = apart(old, trained(old, light, tmp_path / "light"))
    assert apart(old, trained(old, heavy, tmp_path / "heavy")) < 0.5 * far


def test_a_trained_classifier_is_kept_with_the_names_of_its_classes(old: Family) -> None:
    head = read_head(old.folder("edge"))
    assert head is not None
    assert head.classes == tuple(f"c{label}" for label in range(8))
    assert head.weight.shape == (8, 16)


def test_an_earlier_run_is_known_by_its_weights_and_not_by_its_place(
    old: Family, tmp_path: Path
) -> None:
    member = successor(old, "fd_lm")
    moved = Path(shutil.copytree(old.folder("edge").path, tmp_path / "elsewhere"))
    there = member.model_copy(update={"previous": (moved,)})
    assert decides(there) == decides(member)
    (moved / "weights.safetensors").write_bytes(b"others")
    assert decides(there) != decides(member)


def test_a_member_without_an_earlier_run_is_digested_as_it_always_was(
    family: FamilyConfig, tmp_path: Path
) -> None:
    [member] = family.members
    assert "previous" not in decides(member)
    assert "previous" not in str(member_inputs(Family(family, tmp_path), member))


def test_focal_terms_weigh_six_to_one_by_the_old_answer() -> None:
    torch.manual_seed(0)
    classes, dim, rows = 4, 6, 3
    head, query = torch.randn(classes, dim), F.normalize(torch.randn(rows, dim))
    labels = torch.tensor([0, 1, 3])  # the old model never heard of class 3
    known, places = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2, -1])
    old_logits = torch.tensor([[9.0, 0, 0], [9.0, 0, 0], [0, 0, 9.0]])  # right, wrong, unheard of
    found = torch.tensor([True, False, True])
    before = Before(F.normalize(torch.randn(rows, dim)), found, old_logits, known, places)
    gallery = Gallery.of(torch.randn(9, dim), torch.arange(9) % classes, None, scale=5.0)
    batch = Batch(query, query, query, labels, head, before)

    logits = 5.0 * query @ F.normalize(head).T
    wanted = 0.5 * (logits[:, :3] - old_logits).square().sum(1) * torch.tensor([6.0, 1, 1])
    torch.testing.assert_close(TERMS["fd_lm"](batch, gallery), wanted)
    wanted = (1 - (query * before.query).sum(1)) * torch.tensor([6.0, 1, 6])
    torch.testing.assert_close(TERMS["fd_regression"](batch, gallery), wanted)
    plain = TERMS["classification"](batch, gallery)
    wanted = plain * torch.tensor([6.0, 1, 1])
    torch.testing.assert_close(TERMS["reweighted"](batch, gallery), wanted)


def test_an_ensemble_says_the_mean_and_another_order_of_classes_is_the_same(
    old: Family, tmp_path: Path
) -> None:
    """The classifier's rows are found by name: in another order they say the same."""
    from safetensors.torch import save_file

    from server_models.lesson import Lesson
    from server_models.pixels import decode_all

    member = successor(old, "fd_lm")
    head = read_head(old.folder("edge"))
    assert head is not None
    turned = Path(shutil.copytree(old.folder("edge").path, tmp_path / "turned"))
    save_file(
        {"weight": head.weight.flip(0).contiguous()},
        turned / "head.safetensors",
        {"classes": json.dumps(head.classes[::-1])},
    )
    images = old.dataset.of("train")
    decoded = decode_all(images, member.preprocess, title="decode")
    lesson = Lesson.of(old.config, member, decoded, old.gallery_model.head, old.anchors())
    rows = lesson.rows_at(0, 8)
    seen = lesson.images_at(0, rows, decoded, member.preprocess)
    both = member.model_copy(update={"previous": (*member.previous, turned)})
    alone, ensemble = (
        Previous.of(each, decoded, dim=16).said(lesson, 0, rows, seen) for each in (member, both)
    )
    torch.testing.assert_close(ensemble.logits, alone.logits)
    torch.testing.assert_close(ensemble.query, alone.query)
    gallery = [row for row, image in enumerate(images) if image.role == "gallery"]
    scores = alone.query @ lesson.gallery.embeddings[gallery].T
    best = [images[gallery[row]].label for row in scores.argmax(1).tolist()]
    right = [name == images[row].label for name, row in zip(best, rows, strict=True)]
    assert alone.found.tolist() == right


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ('losses = [{ term = "fd_lm", weight = 1 }]', "name its folder in `previous`"),
        ('previous = ["old"]', "no loss looks at `previous`"),
        (
            'previous = ["old"]\nlosses = [{ term = "fd_csd", weight = 1 }]\n[search]\n'
            'max_macs = 9\nmember = "edge"\nschedule = { steps = 4, learning_rate = 1e-3 }',
            "name a member that does not",
        ),
    ],
)
def test_one_without_the_other_is_a_mistake(
    shapes: Path, tmp_path: Path, more: str, why: str
) -> None:
    text = (shapes / "shapes.toml").read_text()
    (tmp_path / "bad.toml").write_text(f"{text}{more}\n")
    with pytest.raises(ConfigError, match=why):
        read_family(tmp_path / "bad.toml")


def test_a_folder_is_relative_to_the_family(shapes: Path, tmp_path: Path) -> None:
    text = (shapes / "shapes.toml").read_text()
    more = 'previous = ["v1/models/edge"]\nlosses = [{ term = "fd_csd", weight = 1 }]\n'
    (tmp_path / "next.toml").write_text(f"{text}{more}")
    [member] = read_family(tmp_path / "next.toml").members
    assert member.previous == (tmp_path / "v1" / "models" / "edge",)


def test_what_cannot_be_agreed_with_is_named_with_its_cure(old: Family, tmp_path: Path) -> None:
    member = successor(old, "fd_lm")
    nowhere = member.model_copy(update={"previous": (tmp_path,)})
    with pytest.raises(ConfigError, match="holds no trained member: name RUN/models/MEMBER"):
        trained(old, nowhere, tmp_path / "a")
    headless = Path(shutil.copytree(old.folder("edge").path, tmp_path / "headless"))
    (headless / "head.safetensors").unlink()
    blind = member.model_copy(update={"previous": (headless,)})
    with pytest.raises(ConfigError, match='train that run with the term "classification"'):
        trained(old, blind, tmp_path / "b")
    (headless / "head.safetensors").write_bytes(b"no classifier")
    with pytest.raises(CorruptError, match="not a safetensors file"):
        trained(old, blind, tmp_path / "c")
    (headless / "run.json").write_text('{"config": {}}')
    with pytest.raises(CorruptError, match="not the record of a member's run"):
        trained(old, blind, tmp_path / "d")
    assert not list(tmp_path.glob("?/next/weights.safetensors"))
