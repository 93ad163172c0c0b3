"""``kinspace device attest`` on a real runtime: numbers, key, and what must not be attested."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from securesystemslib.signer import CryptoSigner
from typer.testing import CliRunner

from compat.embedding import unit_rows
from compat.errors import AdmissionError, CorruptError, UsageError
from compat.files import digest_of
from compat.golden import GoldenCheck, GoldenSet
from compat.manifest import Artifact, Blob, Member, Model, ReleaseManifest
from compat.preprocess import Preprocess
from compat.space import EmbeddingSpace
from compat.wire import canonical_json
from edge import attest as module
from edge.attest import attest
from edge.envelope import open_envelope
from edge.hardware import class_of, hardware
from edge.records import DeviceConfig
from edge.slots import Slot, Slots, SlotState
from registry.cli import device_app

RUN = CliRunner()
RECIPE, RNG = Preprocess(size_px=8), np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(192, 4)).astype(np.float32)


def linear_onnx() -> bytes:
    """(N, 8, 8, 3) -> flattened @ WEIGHTS."""
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        ],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 8, 8, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def photos(folder: Path, n: int = 3) -> list[bytes]:
    made = []
    for i in range(n):
        Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        made.append((folder / f"{i}.png").read_bytes())
    return made


def install(home: Path, images: list[bytes], pixels: np.ndarray, rows: np.ndarray) -> None:
    """A device home as an update leaves it, with this golden set."""
    slots, blob = Slots(home), linear_onnx()
    golden = slots.put(GoldenSet(tuple(images), pixels, {digest_of(blob): rows}).to_bytes())
    artifact = Artifact(
        **dict(slots.put(blob)), runtime="onnxruntime", precision="fp32", admission_cosine=0.999
    )
    fields = {"preprocess": RECIPE, "macs": 1, "params": 1, "artifacts": (artifact,)}
    manifest = ReleaseManifest(
        family="furniture",
        version="1.0.0",
        space=EmbeddingSpace(family="furniture", generation=1, dim=4),
        cloud=Model(name="cloud", **fields),
        members=(Member(name="phone", golden=golden, **fields),),
        report=Blob(digest="0" * 64, size_bytes=0),
    )
    slot = Slot(
        version="1.0.0",
        manifest=slots.put(manifest.to_bytes()),
        member="phone",
        artifact=artifact,
        golden=golden,
        check=GoldenCheck(len(images), 0, 1.0, 1.0),
    )
    slots.switch(SlotState(current=slot))
    config = DeviceConfig(registry="/nowhere", family="furniture")
    (home / "device.json").write_bytes(canonical_json(config.model_dump(mode="json")))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    images = photos(tmp_path)
    pixels = np.stack([RECIPE.pixels(image) for image in images])
    rows = unit_rows(RECIPE.normalised(pixels).reshape(3, -1) @ WEIGHTS, "golden")
    install(tmp_path / "home", images, pixels, rows)
    return tmp_path / "home"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMED_RUNS", 3)


@pytest.mark.usefixtures("quick")
def test_it_says_what_this_device_computes_and_who_signed(home):
    made = attest(home)
    found = open_envelope(made.envelope, "x")
    assert found.attestation == made.attestation
    assert made.failure is None
    said, golden = made.attestation, made.attestation.golden
    assert (said.family, said.release, said.member) == ("furniture", "1.0.0", "phone")
    assert said.artifact == digest_of(linear_onnx())
    assert said.provider == "CPUExecutionProvider"
    assert said.runtime_version.count(".") == 2
    assert (golden.images, golden.refused, golden.pixels_max_error) == (3, 0, 0)
    assert golden.cosine_min == pytest.approx(1, abs=1e-6)
    assert (said.one_thread.threads, said.one_thread.runs) == (1, 3)
    assert said.all_cores.threads == said.hardware.cores
    assert said.device_class == class_of(hardware())


@pytest.mark.usefixtures("quick")
def test_the_key_is_made_once_and_only_its_owner_reads_it(home, tmp_path):
    first, again = (open_envelope(attest(home).envelope, "x") for _ in range(2))
    assert first.key_id == again.key_id
    assert (home / "attest_key").stat().st_mode & 0o777 == 0o600
    shutil.copytree(home, tmp_path / "twin", ignore=shutil.ignore_patterns("attest_key*"))
    assert open_envelope(attest(tmp_path / "twin").envelope, "x").key_id != first.key_id


@pytest.mark.usefixtures("quick")
def test_a_device_that_computes_something_else_says_so_signed(home, tmp_path):
    """One image of another model's embedding, one that this device cannot decode."""
    images = photos(tmp_path)
    pixels = np.stack([RECIPE.pixels(image) for image in images])
    rows = unit_rows(RECIPE.normalised(pixels).reshape(3, -1) @ WEIGHTS, "golden")
    rows[1] = -rows[1]
    install(home, images, pixels, rows)
    made = attest(home)
    assert made.attestation.golden.cosine_min == pytest.approx(-1, abs=1e-6)
    assert made.attestation.golden.cosine_mean == pytest.approx(1 / 3, abs=1e-6)
    assert "cosine -1.0000, 0.9990 is needed" in (made.failure or "")
    assert open_envelope(made.envelope, "x").attestation == made.attestation

    images[1] = b"an image format of the future"
    install(home, images, pixels, rows)
    made = attest(home)
    assert (made.attestation.golden.refused, made.attestation.golden.images) == (1, 3)
    assert made.attestation.golden.cosine_min == pytest.approx(1, abs=1e-6)
    assert "1 of 3 golden images" in (made.failure or "")

    found = RUN.invoke(device_app, ["attest", "--home", str(home)])
    assert found.exit_code == AdmissionError.exit_code
    assert "1 of 3 golden images" in found.stderr
    open_envelope((home / "attestation.json").read_bytes(), "x")  # written all the same


def test_a_home_that_cannot_attest_gets_neither_key_nor_file(home, tmp_path):
    before = {each.name for each in home.iterdir()}
    with pytest.raises(UsageError, match="no device yet"):
        attest(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UsageError, match="1 to 120 printable characters"):
        attest(home, device_class="pixel\n8")
    artifact = home / "blobs" / digest_of(linear_onnx())
    artifact.write_bytes(b"spoilt")
    with pytest.raises(CorruptError, match="device update"):
        attest(home)
    found = RUN.invoke(device_app, ["attest", "--home", str(home), "--json"])
    assert (found.exit_code, found.stdout) == (CorruptError.exit_code, "")
    assert {each.name for each in home.iterdir()} == before | {".attest.lock"}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda key: key.chmod(0o644), "others may read"),
        (lambda key: key.write_bytes(b"spoilt"), "is damaged: remove it"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_key_that_must_not_be_used_is_not_and_is_not_replaced(home, spoil, words):
    attest(home)
    spoil(home / "attest_key")
    before = (home / "attest_key").read_bytes()
    with pytest.raises(UsageError, match=words):
        attest(home)
    assert (home / "attest_key").read_bytes() == before


@pytest.mark.usefixtures("quick")
def test_a_fleets_key_by_uri(home, tmp_path):
    fleet, other = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    (tmp_path / "fleet.pem").write_bytes(fleet.private_bytes)
    for name, key in (("fleet", fleet), ("other", other)):
        (tmp_path / f"{name}.pub").write_bytes(pem_of(key))
    words = ["attest", "--home", str(home), "--key", f"file2:{tmp_path}/fleet.pem", "--json"]
    found = RUN.invoke(device_app, [*words, "--public-key", str(tmp_path / "fleet.pub")])
    assert found.exit_code == 0, found.output
    assert open_envelope(found.stdout.encode(), "x").key_id == fleet.public_key.keyid
    assert json.loads(found.stdout) == json.loads((home / "attestation.json").read_bytes())
    assert not (home / "attest_key").exists()  # the device has no second identity

    before = (home / "attestation.json").read_bytes()
    for more in (["--public-key", str(tmp_path / "other.pub")], []):
        found = RUN.invoke(device_app, [*words, *more])
        assert found.exit_code == UsageError.exit_code, found.output
    assert (home / "attestation.json").read_bytes() == before


def pem_of(signer: CryptoSigner) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    public = load_pem_private_key(signer.private_bytes, None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
