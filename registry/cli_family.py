"""``kinspace train | export | verify | publish | demo``: thin verbs over the pipeline."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compat.errors import RefusedError
from registry.cli_errors import exits

if TYPE_CHECKING:
    from registry.workspace import Workspace
    from server_models.config import FamilyConfig

FamilyFile = Annotated[Path, typer.Argument(help="the family's TOML", metavar="FAMILY.toml")]
Out = Annotated[Path | None, typer.Option("--out", help="workspace; default runs/FAMILY")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for machines")]


def open_family(file: Path, out: Path | None) -> "tuple[FamilyConfig, Workspace]":
    """The family's config, and the workspace where its verbs work."""
    from registry.workspace import Workspace
    from server_models.config import read_family

    config = read_family(file)
    return config, Workspace(out or Path("runs") / config.family)


@exits
def train(family: FamilyFile, out: Out = None, as_json: AsJson = False) -> None:
    """Train the cloud model and every member; goes on from where it was stopped."""
    config, workspace = open_family(family, out)
    from registry.stages import train as run

    run(config, workspace)
    names = [config.cloud.name, *(member.name for member in config.members)]
    _say({"trained": names}, as_json)


@exits
def search_arch(family: FamilyFile, out: Out = None, as_json: AsJson = False) -> None:
    """Search edge networks for the family's cloud model; goes on from where it was stopped."""
    config, workspace = open_family(family, out)
    from registry.searching import search_architecture

    best = search_architecture(config, workspace)
    rows = [
        {
            "name": each.member.name,
            "macs": each.macs,
            "self_map": round(each.judged.self_map, 4),
            "cross_map": round(each.judged.cross_map, 4),
        }
        for each in best
    ]
    folder = str(workspace.root / "search")
    _say({"search": folder, "retrained": rows}, as_json)


@exits
def export(family: FamilyFile, out: Out = None, as_json: AsJson = False) -> None:
    """Export the trained models to ONNX and TFLite, in every precision."""
    config, workspace = open_family(family, out)
    from registry.stages import export as run

    run(config, workspace)
    _say({"artifacts": str(workspace.artifacts)}, as_json)


@exits
def verify(
    family: FamilyFile,
    policy: Annotated[
        Path | None, typer.Option(help="rules instead of the family's own, see docs/policy.md")
    ] = None,
    stress: Annotated[
        bool, typer.Option("--stress", help="also corruptions, strange inputs, determinism")
    ] = False,
    gallery: Annotated[
        Path | None, typer.Option(help="also a gallery: were its rows embedded by this cloud model")
    ] = None,
    previous: Annotated[
        str | None,
        typer.Option(
            help="also against what devices run now: its workspace, or the registry it is in"
        ),
    ] = None,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Measure every artifact on the held-out split and judge it by the policy.

    Exit 5 when the gate admits none, when a rule of ``--policy`` does not hold, or when the gallery
    holds rows of another model; exit 2 when the held-out split was trained on.
    """
    config, workspace = open_family(family, out)
    if policy:
        from compat.policy import read_policy

        config = config.model_copy(update={"policy": read_policy(policy)})
    from compat.report_words import refusal_in_words, update_lines
    from registry.demo_summary import summary_table, wide_console
    from registry.pipeline import verify_family, verify_gallery
    from registry.previous_release import open_previous

    if previous:
        with open_previous(previous, config.family) as release:
            report = verify_family(config, workspace, previous=release)
    else:
        report = verify_family(config, workspace)
    if gallery:
        compared = verify_gallery(config, workspace, gallery)
        typer.echo(f"gallery: {compared} rows embedded again are the same", err=True)
    if stress:
        from registry.stages import family_of
        from registry.stressing import stress_report

        report = stress_report(workspace, family_of(config, workspace).dataset)
    if as_json:
        typer.echo(workspace.report_json.read_text(), nl=False)
    else:
        wide_console().print(summary_table(report))
        for line in update_lines(report):
            typer.echo(line)
        typer.echo(f"report: {workspace.report_html}")
    if not report.admitted or (policy and report.refused):
        raise RefusedError(refusal_in_words(report))


@exits
def publish(
    family: FamilyFile,
    registry: Annotated[
        str, typer.Option(help="folder or s3://bucket/prefix; the registry is made when missing")
    ],
    keys: Annotated[Path, typer.Option(help="folder of private keys, apart from the registry")],
    channel: Annotated[str, typer.Option(help="stable, canary or a name of yours")] = "stable",
    percent: Annotated[
        float, typer.Option(min=0, max=100, help="share of its devices, see kinspace promote")
    ] = 100,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Sign what the report admits as a release; exit 5 without a passing report."""
    config, workspace = open_family(family, out)
    from registry.pipeline import publish_family
    from registry.storage.address import open_store

    release = publish_family(
        config,
        workspace,
        registry=open_store(registry),
        keys=keys,
        channel=channel,
        percent=percent,
    )
    members = {
        member.name: [artifact.label for artifact in member.artifacts] for member in release.members
    }
    _say({"family": release.family, "version": release.version, "members": members}, as_json)


@exits
def demo(
    out: Annotated[Path, typer.Option(help="workspace")] = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """The whole story on packaged images: train to search, in minutes, on a CPU."""
    from registry.demo import run_demo
    from registry.demo_summary import wide_console

    found = run_demo(out, wide_console(stderr=as_json))
    if as_json:
        typer.echo(json.dumps(found))


def _say(found: dict[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    for name, value in found.items():
        typer.echo(f"{name}: {value}")
