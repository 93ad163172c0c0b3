"""Two real releases of one space, from networks that are trained already: small cloud, large cloud.

1.0.0: its gallery is made by the pattern table's ``raml`` network (2.4 M MACs, trained into the
demo's space). 2.0.0: by the demo's cloud model (125 M MACs). Both list the query models edge-m and
``ours``; the gate, asked for 80% of the paragon's hit_rate@10 and not for the compatibility rule
(a small cloud model is no better than a large member), keeps ``ours`` out of 2.0.0.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.under_load import Searcher
from compat.dataset import Dataset, LabelledImage, read_dataset
from compat.files import read_bounded, write_atomic
from compat.policy import Policy
from compat.report import MAX_REPORT_BYTES, Report, Timing
from compat.space import EmbeddingSpace
from compat.verification import verify
from registry.candidate import CandidateFolder
from registry.gallery_build import build_from_dataset, embed_images
from registry.judging import candidate_of, embedder_of, held_out, subjects_of
from registry.keys import KeyFolder
from registry.publish import publish
from registry.repository import Repository
from registry.storage.files import FileStore
from registry.workspace import Workspace
from server_models.config import FamilyConfig, read_family
from server_models.member_config import MemberConfig

HERE = Path(__file__).parent
PATTERN, DEMO = HERE / "recipes" / "pattern-demo.toml", HERE.parent / "registry" / "demo.toml"
FAMILY = "furniture"
OLD_CLOUD, NEW_CLOUD = "raml", "cloud"
QUERY_MODELS = ("edge-m", "ours")
POLICY = Policy(min_cross_to_paragon=0.8, require_compatibility_rule=False)
OBJECTS = 80  # of the held-out ones: 320 queries, 240 gallery images


def prepare(run: Path, made: Workspace) -> tuple[Searcher, ...]:
    """Export, verify and publish, each once; build the gallery of 1.0.0 anew.

    The registry's stable release is 2.0.0 then. Returns what searches: the query models.
    """
    trained = Workspace(run)
    dataset = read_dataset(_data(made.root))
    for name in (OLD_CLOUD, NEW_CLOUD, *QUERY_MODELS):
        made.once(f"export-{name}", {"run": str(run), "name": name},
                  partial(_export, name, trained, made, dataset))  # fmt: skip
    space = read_family(DEMO).space
    for version, cloud in (("1.0.0", OLD_CLOUD), ("2.0.0", NEW_CLOUD)):
        inputs = {"data": dataset.digest, "policy": str(POLICY)}
        made.once(
            f"verify-{version}", inputs, partial(verify_release, version, cloud, made, dataset)
        )
        made.once(f"publish-{version}", inputs,
                  partial(_publish, version, cloud, space, made, dataset))  # fmt: skip
    old = CandidateFolder(made.artifacts / OLD_CLOUD)
    [artifact] = old.read().artifacts
    build_from_dataset(
        made.gallery,
        dataset,
        embedder_of(old, old.read(), artifact, space),
        space=space,
        model_digest=artifact.digest,
    )
    return tuple(_searcher(name, made, dataset, space) for name in QUERY_MODELS)


def _data(out: Path) -> Path:
    """The images of the first held-out objects of the demo, with a manifest of their own."""
    source = read_dataset(read_family(DEMO).data.path)
    images = [*source.of("test", "query"), *source.of("test", "gallery")]
    labels = sorted({image.label for image in images})[:OBJECTS]
    kept = [image for image in images if image.label in labels]
    folder = out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,label,split,role"]
    for image in kept:
        shutil.copyfile(image.path, folder / image.path.name)
        lines.append(f"{image.path.name},{image.label},test,{image.role}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder / "manifest.csv"


def _export(name: str, trained: Workspace, made: Workspace, dataset: Dataset) -> None:
    from benchmarks.evaluate import HeldOut  # loads torch: only when something is to be exported
    from registry.stages import family_of
    from server_models.export import count_macs, count_params, export_onnx_fp32
    from server_models.gallery_model import TrainedGallery

    config = read_family(DEMO if name in ("cloud", "edge-m") else PATTERN)
    family = family_of(config, trained)
    if name == NEW_CLOUD:
        assert isinstance(family.gallery_model, TrainedGallery)
        net, recipe = family.gallery_model.net, family.gallery_model.preprocess
    else:
        member = _member(config, name)
        net, recipe = family.member(member), member.preprocess
    folder = CandidateFolder(made.artifacts / name)
    folder.write(
        name=name,
        preprocess=recipe,
        macs=count_macs(net, recipe.size_px),
        params=count_params(net),
        exported={("onnxruntime", "fp32"): export_onnx_fp32(net, recipe.size_px)},
    )
    every = HeldOut(family)
    sides = every.cloud if name == NEW_CLOUD else every.member(_member(config, name))
    place = {image.path.name: row for row, image in enumerate(every.queries)}
    folder.write_reference(sides.queries[[place[i.path.name] for i in dataset.of("test", "query")]])


def _member(config: FamilyConfig, name: str) -> MemberConfig:
    return next(each for each in config.members if each.name == name)


def verify_release(version: str, cloud: str, made: Workspace, dataset: Dataset) -> None:
    """Measure what is exported; the report of each release is kept."""
    space = read_family(DEMO).space
    folders = [CandidateFolder(made.artifacts / name) for name in (cloud, *QUERY_MODELS)]
    subjects = [each for folder in folders for each in subjects_of(folder, space)]
    report: Report = verify(
        held_out(dataset),
        subjects[0],
        members=subjects[1:],
        space=space,
        policy=POLICY,
        timing=Timing(machine="not measured", artifacts=()),
    )
    write_atomic(made.root / f"report-{version}.json", report.to_bytes())


def _publish(
    version: str, cloud: str, space: EmbeddingSpace, made: Workspace, dataset: Dataset
) -> None:
    kept = made.root / f"report-{version}.json"
    write_atomic(made.report_json, read_bounded(kept, MAX_REPORT_BYTES))
    repository = Repository(FileStore(made.registry), KeyFolder(made.keys))
    repository.create()
    repository.add_family(space.family)
    candidate = candidate_of(
        made, dataset, version=version, space=space, cloud=cloud, members=QUERY_MODELS
    )
    publish(repository, candidate)


def _searcher(name: str, made: Workspace, dataset: Dataset, space: EmbeddingSpace) -> Searcher:
    folder = CandidateFolder(made.artifacts / name)
    [artifact] = folder.read().artifacts
    embedder = embedder_of(folder, folder.read(), artifact, space)
    queries: tuple[LabelledImage, ...] = dataset.of("test", "query")
    embeddings = embed_images(embedder, [image.path for image in queries])
    labels = tuple(image.label for image in queries)
    return Searcher(name, artifact.digest, np.asarray(embeddings), labels)
