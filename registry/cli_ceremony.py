"""``kinspace keys new|found|rotate|sign|assemble|status``: keys that several people hold.

Nothing private travels: public keys go to the office, drafts of a root go to the holders, signed
copies come back, and ``assemble`` counts them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry.cli_errors import exits
from registry.cli_publish import Json, KeysDir, Registry, keys_app, keys_folder

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root

    from registry.keys import KeyFolder

__all__ = ["keys_app"]

Draft = Annotated[Path, typer.Option("--draft", help="where the root to be signed is written")]
OwnKeys = Annotated[Path, typer.Option("--keys", help="your own folder of private keys")]


def _say(made: Mapping[str, object], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(made))
        return
    for name, value in made.items():
        words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
        typer.echo(f"{name:<11}  {words}")


@keys_app.command("new")
@exits
def new(
    name: Annotated[str, typer.Argument(help="who holds it; the name of its file")],
    keys: OwnKeys,
    as_json: Json = False,
) -> None:
    """Make a key that one person holds, encrypted; its .pub.json is what others are given."""
    from compat.files import write_atomic
    from registry.keys import KeyFolder, check_key_name, public_file

    key = KeyFolder(keys).create_encrypted(check_key_name(name))
    public = keys / f"{name}.pub.json"
    write_atomic(public, public_file(key))
    _say({"key": key.keyid, "public": str(public)}, as_json)


@keys_app.command("found")
@exits
def found(
    registry: Registry,
    root_key: Annotated[list[Path], typer.Option(help=".pub.json of a holder; repeat for each")],
    draft: Draft,
    threshold: Annotated[int, typer.Option(help="how many holders must sign a root")] = 2,
    targets_key: Annotated[
        Path | None, typer.Option(help=".pub.json of who lets families in; default: made here")
    ] = None,
    keys: KeysDir = None,
    as_json: Json = False,
) -> None:
    """Draft the first root of a registry whose root key nobody holds alone.

    The keys of snapshot and timestamp are made here, where a machine signs with them.
    """
    from compat.files import write_atomic
    from registry.ceremony import founding_draft
    from registry.keys import KeyFolder, read_public
    from registry.repository import utc_now

    folder = KeyFolder(keys_folder(registry, keys))
    made = {role: folder.create(role) for role in ("snapshot", "timestamp")}
    others = {"targets": read_public(targets_key) if targets_key else folder.create("targets")}
    holders = [read_public(path) for path in root_key]
    root = founding_draft(holders, {**others, **made}, threshold=threshold, now=utc_now())
    write_atomic(draft, root.to_bytes())
    _say(_standing(root, folder) | {"draft": str(draft)}, as_json)


@keys_app.command("rotate")
@exits
def rotate(
    registry: Registry,
    role: Annotated[str, typer.Argument(help="root, targets, snapshot, timestamp or a family")],
    draft: Annotated[
        Path | None, typer.Option(help="where a root that others must sign is written")
    ] = None,
    add: Annotated[
        list[Path] | None, typer.Option(help=".pub.json of a new key; default: made here")
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="signer URI of the added key: a KMS, an HSM, a file")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="key id that goes; default: all of the role")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="signatures of the role; default: as before")
    ] = None,
    keys: KeysDir = None,
    as_json: Json = False,
) -> None:
    """Replace a key that is lost, stolen or old. Holders sign the draft, unless all are here.

    Of root the keys change only by --add and --remove; without both its draft renews it.
    """
    from registry.ceremony import rotation_draft
    from registry.keys import KeyFolder, read_public
    from registry.repository import Repository, utc_now
    from registry.roles import TOP_ROLES, keys_of
    from registry.storage.address import open_store

    folder = KeyFolder(keys_folder(registry, keys))
    repository = Repository(open_store(registry), folder)
    if role not in TOP_ROLES:
        repository.rotate_family(role)
        _say({"rotated": role, "installed": True}, as_json)
        return
    trusted = repository.root.signed
    added = [read_public(path) for path in add or ()]
    gone = list(remove or ())
    if role != "root":
        added = added or [folder.create_next(role)]
        gone = gone or [key.keyid for key in keys_of(trusted, role)]
    for key in added if uri else ():
        folder.adopt(key, uri or "")
    root = rotation_draft(trusted, role, add=added, remove=gone, threshold=threshold, now=utc_now())
    _offer(root, registry, folder, draft, as_json)


@keys_app.command("sign")
@exits
def sign(
    draft: Annotated[Path, typer.Argument(help="the root to be signed; signed in place")],
    keys: OwnKeys,
    as_json: Json = False,
) -> None:
    """Sign a draft with the keys you hold; look at what it says before."""
    from compat.errors import UsageError
    from compat.files import read_bounded, write_atomic
    from registry.ceremony import MAX_DRAFT_BYTES, read_draft, signed_draft
    from registry.keys import KeyFolder

    root = read_draft(read_bounded(draft, MAX_DRAFT_BYTES))
    signers = KeyFolder(keys).signers(root.signed.keys.values())
    if not signers:
        raise UsageError(f"{keys} holds no key that this root names: ask for --add of yours")
    write_atomic(draft, signed_draft(root, signers).to_bytes())
    made = {"signed": [each.public_key.keyid for each in signers], "draft": str(draft)}
    _say(made, as_json)


@keys_app.command("assemble")
@exits
def assemble(
    registry: Registry,
    drafts: Annotated[list[Path], typer.Argument(help="signed copies of one draft")],
    keys: KeysDir = None,
    as_json: Json = False,
) -> None:
    """Bring the signed copies together, and install the root when they are enough."""
    from compat.files import digest_of, read_bounded
    from registry.ceremony import MAX_DRAFT_BYTES, combined, read_draft
    from registry.keys import KeyFolder
    from registry.repository import Repository
    from registry.storage.address import open_store

    folder = KeyFolder(keys_folder(registry, keys))
    root = combined([read_draft(read_bounded(path, MAX_DRAFT_BYTES)) for path in drafts])
    repository = Repository(open_store(registry), folder)
    repository.install_root(root)
    made = {"root": str(folder.folder / "root.json"), "version": root.signed.version}
    _say(made | {"root_digest": digest_of(repository.trusted_root)}, as_json)


@keys_app.command("status")
@exits
def status(registry: Registry, keys: KeysDir = None, as_json: Json = False) -> None:
    """Who signs for what, how many must, which of the keys are here, and until when it holds."""
    from registry.keys import KeyFolder
    from registry.repository import Repository
    from registry.roles import keys_of
    from registry.storage.address import open_store

    folder = KeyFolder(keys_folder(registry, keys))
    state = Repository(open_store(registry), folder).state
    rows = []
    for role, expires in state.expires().items():
        delegator = state.delegator(role)
        held = {key.keyid: folder.holds(key.keyid) for key in keys_of(delegator, role)}
        rows.append((role, delegator.get_delegated_role(role).threshold, held, expires))
    if as_json:
        made = {
            role: {"threshold": threshold, "keys": held, "expires": expires.isoformat()}
            for role, threshold, held, expires in rows
        }
        typer.echo(json.dumps(made))
        return
    for role, threshold, held, expires in rows:
        typer.echo(f"{role}: {threshold} must sign; until {expires:%Y-%m-%d %H:%M} UTC")
        for keyid, here in held.items():
            typer.echo(f"  {keyid}  {'here' if here else 'elsewhere'}")


def _offer(
    root: "Metadata[Root]", registry: str, folder: "KeyFolder", draft: Path | None, as_json: bool
) -> None:
    """Install what the keys at hand can sign; else write it for others to sign."""
    from compat.errors import UsageError
    from compat.files import write_atomic
    from registry.ceremony import signed_draft
    from registry.repository import Repository
    from registry.storage.address import open_store

    repository = Repository(open_store(registry), folder)
    old = repository.root.signed
    signers = {
        each.public_key.keyid: each
        for each in folder.signers([*old.keys.values(), *root.signed.keys.values()])
        if each.public_key.keyid in {*old.roles["root"].keyids, *root.signed.roles["root"].keyids}
    }
    root = signed_draft(root, list(signers.values()))
    standing = _standing(root, folder)
    if standing["missing"] == 0:
        repository.install_root(root)
        _say(standing | {"installed": True}, as_json)
        return
    if draft is None:
        raise UsageError(
            f"root {root.signed.version} misses {standing['missing']} signatures of people who are "
            "not here: name a --draft to send them"
        )
    write_atomic(draft, root.to_bytes())
    _say(standing | {"installed": False, "draft": str(draft)}, as_json)


def _standing(root: "Metadata[Root]", folder: "KeyFolder") -> dict[str, object]:
    from registry.ceremony import missing_signatures
    from registry.roles import verified_root

    trusted = verified_root(folder.root).signed if folder.root is not None else None
    return {"version": root.signed.version, "missing": missing_signatures(root, trusted)}
