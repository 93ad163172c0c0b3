"""The whole story on packaged images: train, export, verify, publish, update a device, search.

Every stage is done once, so a killed demo goes on from where it was, and a second one is quick.
What the gate decides is what the demo shows.
"""

import importlib.resources
from pathlib import Path

import numpy as np
from rich.console import Console

from compat.contact_sheet import SheetHit, SheetRow, contact_sheet
from compat.dataset import Dataset, LabelledImage
from compat.files import write_atomic
from compat.images import read_image
from compat.manifest import ReleaseManifest
from compat.wire import canonical_json
from edge.device import Device
from edge.search import search
from registry.candidate import CandidateFolder
from registry.demo_summary import summary_of, summary_table
from registry.gallery_build import build_from_dataset
from registry.judging import embedder_of
from registry.keys import KeyFolder
from registry.pipeline import publish_family, report_digest, verify_family
from registry.repository import Repository
from registry.search_server import running_server
from registry.stages import export, family_of, train
from registry.storage.files import FileStore
from registry.workspace import Workspace
from server_models.config import read_family

SHEET_QUERIES = 6
SHEET_HITS = 5


def run_demo(out: Path, console: Console) -> dict[str, object]:
    """Do what is not done yet in ``out``; return what summary.json says.

    Raises:
        RefusedError: the gate admits nothing; the report and the table say why.
        KinspaceError: see the stages.
    """
    with importlib.resources.as_file(importlib.resources.files("registry")) as package:
        config = read_family(package / "demo.toml")
        workspace = Workspace(out)
        dataset = family_of(config, workspace).dataset
        console.rule("[bold]train: a cloud model, then edge models in its space")
        train(config, workspace)
        console.rule("[bold]export: ONNX and TFLite")
        export(config, workspace)
        console.rule("[bold]verify: unseen objects, by the embedders that ship")
        report = verify_family(config, workspace)
        console.print(summary_table(report))
        console.rule("[bold]publish: signed static files")
        release = publish_family(
            config, workspace, registry=FileStore(workspace.registry), keys=workspace.keys
        )
        console.print(f"{release.family} {release.version} of space {release.space.id}")
        verified = report_digest(workspace)
        console.rule("[bold]gallery: embedded by the cloud model")
        workspace.once("gallery", verified, lambda: _fill_gallery(workspace, dataset, release))
        console.rule("[bold]device: update, embed, search over HTTP")
        images = config.data.path
        workspace.once("device", verified, lambda: _use_device(workspace, dataset, release, images))
    found = summary_of(
        report,
        release=release,
        seconds=sum(workspace.stage_seconds().values()),
        report_html=workspace.report_html,
        contact_sheet=workspace.contact_sheet,
    )
    write_atomic(workspace.root / "summary.json", canonical_json(found))
    return found


def _fill_gallery(workspace: Workspace, dataset: Dataset, release: ReleaseManifest) -> None:
    cloud = release.cloud
    folder = CandidateFolder(workspace.artifacts / cloud.name)
    [artifact] = cloud.artifacts
    build_from_dataset(
        workspace.gallery,
        dataset,
        embedder_of(folder, cloud, artifact, release.space),
        space=release.space,
        model_digest=artifact.digest,
    )


def _use_device(
    workspace: Workspace, dataset: Dataset, release: ReleaseManifest, images: Path
) -> None:
    """A device takes the release over HTTP and searches for objects that nobody trained on."""
    device = Device(workspace.device)
    root = Repository(workspace.registry, KeyFolder(workspace.keys)).trusted_root
    with running_server(workspace.registry, workspace.gallery, release.family, images) as url:
        device.init(f"{url}/registry/", root, release.family)
        device.update()
        active, embedder = device.active(), device.embedder()
        rows = []
        for query in _sheet_queries(dataset):
            photo = read_image(query.path)
            tensor = embedder.preprocess.tensor(photo, query.name)  # (S, S, 3)
            hits = search(
                url,
                embedder.embed(tensor[None])[0],
                space_id=active.manifest.space.id,
                artifact_digest=active.artifact.digest,
                galleries=device.galleries(),
                k=SHEET_HITS,
            )
            shown = [
                SheetHit(
                    read_image(images / hit.path), hit.label, hit.score, hit.label == query.label
                )
                for hit in hits
            ]
            rows.append(SheetRow(photo, query.label, shown))
    title = (
        f"{active.member.name} {active.artifact.label} on the device, "
        f"{release.cloud.name} in the gallery"
    )
    write_atomic(workspace.contact_sheet, contact_sheet(rows, title))


def _sheet_queries(dataset: Dataset) -> list[LabelledImage]:
    """The first query of objects spread evenly over the held-out ones: nobody chose them."""
    first = {query.label: query for query in reversed(dataset.of("test", "query"))}
    labels = sorted(first)
    rows = np.linspace(0, len(labels) - 1, SHEET_QUERIES).astype(int)
    return [first[labels[row]] for row in rows]
