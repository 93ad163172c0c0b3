"""``kinspace adapt``: fit a member to a tenant's images, add to them, forget some of them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from registry.cli_errors import exits
from registry.cli_family import AsJson, FamilyFile, Out, open_family


@exits
def adapt(
    family: FamilyFile,
    member: Annotated[str, typer.Option(help="which member to adapt")],
    data: Annotated[Path, typer.Option(help="the tenant's images: folder per class or manifest")],
    name: Annotated[
        str | None, typer.Option(help="of the adapted member; default MEMBER-adapted")
    ] = None,
    forget: Annotated[
        list[str] | None, typer.Option(help="unlearn this image, by its path in DATA; repeatable")
    ] = None,
    forget_class: Annotated[
        list[str] | None, typer.Option(help="unlearn every image of this class; repeatable")
    ] = None,
    influence: Annotated[
        bool, typer.Option("--influence", help="list the images that moved the member most")
    ] = False,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a member to a tenant's images; it stays in the space and is judged as any member.

    Paste the section it writes into the family, then run export and verify.
    """
    config, workspace = open_family(family, out)
    from registry.adapting import adapt_member

    found = adapt_member(
        config,
        workspace,
        member=member,
        data=data,
        name=name or f"{member}-adapted",
        forget=forget or (),
        forget_classes=forget_class or (),
        influence=influence,
    )
    record = found.record
    said: dict[str, object] = {
        "member": found.member.name,
        "section": str(found.section),
        "images": len(record.examples),
        "forgotten": len(record.forgotten),
        "steps": record.steps,
        **{name: round(value, 4) for name, value in record.fitted.model_dump().items()},
    }
    if record.unlearning_ratio is not None:
        said["unlearning_ratio"] = record.unlearning_ratio
    moved = [
        {"image": example.name, "label": example.label, "share": round(share, 4)}
        for example, share in found.influential
    ]
    if as_json:
        typer.echo(json.dumps({**said, **({"influence": moved} if influence else {})}))
        return
    for key, value in said.items():
        typer.echo(f"{key}: {value}")
    for each in moved:
        typer.echo(f"{each['share']:.4f}  {each['label']}  {each['image']}")
