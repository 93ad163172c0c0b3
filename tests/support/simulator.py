"""A TUF repository in memory, changed at will and served over loopback HTTP, to attack with."""

import contextlib
import copy
import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

TOP = ("root", "targets", "snapshot", "timestamp")


class Simulator:
    """Published versions of every role; `publish` bumps, signs and makes them visible."""

    def __init__(self) -> None:
        self.expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.published: dict[str, list[bytes]] = {}
        self.artifacts: dict[str, bytes] = {}
        self.asked: list[str] = []
        kinds = {"root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp}
        self.roles = {name: Metadata(kinds[name](expires=self.expires)) for name in TOP}
        for name in TOP:
            self.new_key(name)
        self.publish("targets", "snapshot", "timestamp", "root", bump=False)

    def signed(self, name: str):
        return self.roles[name].signed

    def new_key(self, name: str, delegator: str = "root") -> CryptoSigner:
        signer = CryptoSigner.generate_ed25519()
        self.signed(delegator).add_key(signer.public_key, name)
        self.signers.setdefault(name, []).append(signer)
        return signer

    def rotate(self, name: str) -> list[CryptoSigner]:
        """New keys for a role of the root; the old signers."""
        old = self.signers.pop(name)
        for signer in old:
            self.signed("root").revoke_key(signer.public_key.keyid, name)
        self.new_key(name)
        return old

    def delegate(self, name: str, paths: list[str], *, terminating: bool = False, by="targets"):
        delegator = self.signed(by)
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, roles={})
        delegator.delegations.roles[name] = DelegatedRole(name, [], 1, terminating, paths)
        self.roles[name] = Metadata(Targets(expires=self.expires))
        self.new_key(name, by)
        self.publish(name, bump=False)

    def add(self, name: str, content: bytes, role: str = "targets") -> None:
        self.signed(role).targets[name] = TargetFile.from_data(name, content, ["sha256"])
        self.artifacts[name] = content

    def publish(self, *names: str, bump: bool = True) -> None:
        for name in names:
            metadata = self.roles[name]
            if bump:
                metadata.signed.version += 1
            metadata.signatures.clear()
            for signer in self.signers[name]:
                metadata.sign(signer, append=True)
            self.published.setdefault(name, []).append(metadata.to_bytes(JSONSerializer()))
            if name not in ("root", "snapshot", "timestamp"):
                self.signed("snapshot").meta[f"{name}.json"] = MetaFile(metadata.signed.version)
            if name == "snapshot":
                self.signed("timestamp").snapshot_meta = MetaFile(metadata.signed.version)

    def publish_all(self, *names: str) -> None:
        """Roles, then snapshot and timestamp."""
        self.publish(*names, "snapshot", "timestamp")

    def serve_again(self, name: str, place: int) -> None:
        """The thief's move: an old version stands as the newest."""
        self.published[name].append(self.published[name][place])

    def answer(self, path: str) -> bytes | None:
        kind, _, name = path.partition("/")
        if kind == "targets":
            folder, slash, file = name.rpartition("/")
            _, _, plain = file.partition(".")
            target = f"{folder}{slash}{plain}"
            return self.artifacts.get(target)
        role = name.removesuffix(".json")
        if role == "timestamp":
            return self.published["timestamp"][-1]
        version, _, role = role.partition(".")
        role = unquote(role)
        for blob in reversed(self.published.get(role, [])):
            if Metadata.from_bytes(blob).signed.version == int(version):
                return blob
        return None

    def copy_of(self, name: str) -> Metadata:
        return copy.deepcopy(self.roles[name])


@contextlib.contextmanager
def served(simulator: Simulator) -> Iterator[str]:
    """Base URL of a server that answers for ``simulator``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            simulator.asked.append(path)
            try:
                blob = simulator.answer(path)
            except ValueError:
                blob = None
            if blob is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(blob)))
            self.end_headers()
            self.wfile.write(blob)

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
