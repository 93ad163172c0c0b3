"""The command ``kinspace``: thin verbs over the pipeline, the registry and the device.

Results on stdout, logs and progress on stderr, ``--json`` for machines. Exit codes: 0 ok, 2 usage,
3 offline, 4 untrusted, 5 gate refused. A device-only install has every verb; those that need more
say which extra to install.
"""

import typer

from registry import cli_family
from registry.cli_adapt import adapt
from registry.cli_attest import attest
from registry.cli_ceremony import keys_app
from registry.cli_channels import demote, log, pause, promote, resume, rollout_app
from registry.cli_deltas import deltas
from registry.cli_device import device_app
from registry.cli_diagnose import diagnose
from registry.cli_gallery import gallery_app
from registry.cli_ladder import ladder_app
from registry.cli_matrix import matrix_app
from registry.cli_new import new
from registry.cli_profile import profile
from registry.cli_registry import registry_app
from registry.cli_report import report_app
from registry.cli_search import search
from registry.cli_serve import serve
from registry.cli_token import token_app
from registry.cli_upgrade import upgrade

app = typer.Typer(
    name="kinspace",
    help="Publish families of visual search models that share one embedding space.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("demo")(cli_family.demo)
app.command("new")(new)
app.command("train")(cli_family.train)
app.command("search-arch")(cli_family.search_arch)
app.command("adapt")(adapt)
app.command("upgrade")(upgrade)
app.command("export")(cli_family.export)
app.command("verify")(cli_family.verify)
app.command("diagnose")(diagnose)
app.command("publish")(cli_family.publish)
app.command("promote")(promote)
app.command("pause")(pause)
app.command("resume")(resume)
app.command("demote")(demote)
app.command("log")(log)
app.add_typer(rollout_app, name="rollout")
app.command("deltas")(deltas)
app.command("serve")(serve)
app.add_typer(gallery_app, name="gallery")
device_app.command("search")(search)
device_app.command("attest")(attest)
device_app.command("profile")(profile)
app.add_typer(device_app, name="device")
app.add_typer(ladder_app, name="ladder")
app.add_typer(keys_app, name="keys")
app.add_typer(matrix_app, name="matrix")
app.add_typer(report_app, name="report")
app.add_typer(token_app, name="token")
app.add_typer(registry_app, name="registry")


def main() -> None:
    app()


if __name__ == "__main__":
    main()
