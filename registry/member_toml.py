"""A member as a section of a family's TOML, to paste into it."""

import json

from server_models.architecture import Architecture
from server_models.member_config import MemberConfig


def member_toml(member: MemberConfig) -> str:
    """``[[members]]`` with everything that decides the member."""
    losses = ", ".join(_inline(term.model_dump()) for term in member.losses)
    previous = (
        f"previous = {json.dumps(list(map(str, member.previous)))}\n" if member.previous else ""
    )
    return f"""[[members]]
name = "{member.name}"
start = "{member.start}"
aim = "{member.aim}"
losses = [{losses}]
{previous}preprocess = {_inline(member.preprocess.model_dump())}
schedule = {_inline(member.schedule.model_dump())}
optimizer = "{member.optimizer}"
{_backbone(member)}"""


def _backbone(member: MemberConfig) -> str:
    if not isinstance(member.backbone, Architecture):
        return f'backbone = "{member.backbone}"\n'
    backbone = member.backbone.model_dump()
    layers = ",\n".join(f"  {_inline(layer)}" for layer in backbone.pop("layers"))
    head = "\n".join(f"{key} = {_value(value)}" for key, value in backbone.items())
    return f"[members.backbone]\n{head}\nlayers = [\n{layers},\n]\n"


def _inline(values: dict[str, object]) -> str:
    parts = (f"{key} = {_value(value)}" for key, value in values.items())
    return "{ " + ", ".join(parts) + " }"


def _value(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(list(value)) if isinstance(value, tuple) else str(value)
