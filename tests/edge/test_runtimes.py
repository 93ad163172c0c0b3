"""One suite for every runtime, with torch as the reference; then the attacks on each."""

import importlib.metadata
import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from compat.embedding import cosine_rows
from compat.errors import (
    CorruptError,
    ImageError,
    MissingExtraError,
    UntrustedError,
    UsageError,
)
from compat.preprocess import Preprocess
from edge.embedder import RuntimeEmbedder, open_embedder
from edge.runtimes import litert, open_runtime
from server_models import export

SIZE_PX, DIM = 32, 16
RECIPE = Preprocess(size_px=SIZE_PX)
LABELS = ("onnxruntime/fp32", "onnxruntime/int8", "litert/fp32", "litert/fp16", "litert/int8")
EXACT = ("onnxruntime/fp32", "litert/fp32", "torch")


class TorchRuntime:
    """The training framework behind the same port."""

    def __init__(self, net):
        self.net, self.size_px, self.dim = net, SIZE_PX, DIM
        self.version, self.provider = torch.__version__, "torch"

    def run(self, tensors):
        with torch.no_grad():
            return self.net(torch.from_numpy(tensors).permute(0, 3, 1, 2)).numpy()


def png(seed):
    """An encoded picture of soft blobs, oblong, 40 x 56."""
    rough = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(rough).resize((56, 40), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def tensors():
    return np.stack([RECIPE.tensor(png(seed)) for seed in range(20)])  # (20, S, S, 3)


@pytest.fixture(scope="module")
def net(tensors):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU6(),
        nn.Conv2d(12, 12, 3, 2, 1, groups=12, bias=False),
        nn.BatchNorm2d(12),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, DIM),
    )
    with torch.no_grad():
        for _ in range(60):
            net(torch.from_numpy(tensors).permute(0, 3, 1, 2))
    return net.eval()


@pytest.fixture(scope="module")
def paths(net, tensors, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    made = {}
    for file in export.export_artifacts(net, SIZE_PX, tensors):
        made[file.label] = folder / file.label.replace("/", ".")
        made[file.label].write_bytes(file.blob)
    return made


@pytest.fixture(scope="module", params=(*LABELS, "torch"))
def embedder(request, net, paths):
    if request.param == "torch":
        return RuntimeEmbedder(TorchRuntime(net), RECIPE)
    return open_embedder(paths[request.param], request.param.split("/")[0], RECIPE, DIM)


@pytest.fixture(scope="module", params=LABELS)
def label(request):
    return request.param


def opened(label, paths, **how):
    return open_embedder(paths[label], label.split("/")[0], RECIPE, DIM, **how)


def test_embeddings_are_unit_rows_whatever_the_precision(embedder, tensors):
    rows = embedder.embed(tensors)
    assert rows.shape == (len(tensors), DIM)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


def test_raw_int8_embeddings_are_not_unit_rows(paths, tensors):
    """Were they, the test above would prove nothing."""
    for label in ("onnxruntime/int8", "litert/int8"):
        runtime = open_runtime(paths[label].read_bytes(), label.split("/")[0])
        assert np.abs(np.linalg.norm(runtime.run(tensors), axis=1) - 1).max() > 0.1


def test_every_runtime_agrees_with_torch(embedder, request, net, tensors):
    cosines = cosine_rows(embedder.embed(tensors), TorchRuntime(net).run(tensors))
    is_int8 = "int8" in request.node.callspec.params["embedder"]
    assert cosines.min() >= (0.97 if is_int8 else 0.9999)


def test_an_image_embeds_alike_alone_and_in_any_batch(embedder, tensors):
    together = embedder.embed(tensors)  # 20: more than one slice of ONNX Runtime's
    alone = np.concatenate([embedder.embed(tensor[None]) for tensor in tensors])
    np.testing.assert_allclose(together, alone, atol=2e-6)


def test_it_says_who_computes(label, paths):
    """The provider is asked of the loaded file, not written down; versions are the packages'."""
    found = opened(label, paths)
    package, providers = {
        "onnxruntime": ("onnxruntime", {"CPUExecutionProvider"}),
        "litert": ("ai-edge-litert", {"XNNPACK"}),
    }[label.split("/")[0]]
    assert found.runtime_version == importlib.metadata.version(package)
    assert found.provider in providers


def test_without_its_delegate_litert_says_so(paths):
    """Were the name constant, this would say XNNPACK too."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = Interpreter(
        model_content=paths["litert/fp32"].read_bytes(),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    plain.allocate_tensors()
    assert litert._provider(plain) == "built-in kernels"


def test_no_images_give_no_embeddings(embedder, tensors):
    assert embedder.embed(tensors[:0]).shape == (0, DIM)
    assert embedder.embed_images([]).shape == (0, DIM)


def test_embedding_changes_nothing_and_repeats(embedder, tensors):
    kept = tensors.copy()
    first = embedder.embed(tensors)
    np.testing.assert_array_equal(embedder.embed(tensors), first)
    np.testing.assert_array_equal(tensors, kept)


def test_a_view_with_strange_strides_embeds_as_its_copy(embedder, tensors):
    mirrored = tensors[:, :, ::-1]
    np.testing.assert_array_equal(embedder.embed(mirrored), embedder.embed(mirrored.copy()))


def test_encoded_images_embed_as_their_tensors(embedder, tensors):
    blobs = [png(seed) for seed in range(len(tensors))] * 2  # 40: more than one batch of decoding
    rows = embedder.embed_images(blobs)
    np.testing.assert_allclose(rows, embedder.embed(np.concatenate([tensors] * 2)), atol=2e-6)


def test_a_bad_image_is_named_by_its_place(embedder):
    with pytest.raises(ImageError, match="image 1 is not an image"):
        embedder.embed_images([png(0), b"no image"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x[0], r"must be \(N, 32, 32, 3\), got \(32, 32, 3\)"),
        (lambda x: x.transpose(0, 3, 1, 2), r"got \(20, 3, 32, 32\)"),
        (lambda x: x[:, :16], r"got \(20, 16, 32, 3\)"),
        (lambda x: x.astype(np.float64), "float32, got float64"),
        (lambda x: (x * 127).astype(np.uint8), "float32, got uint8: normalise them"),
        (lambda x: np.where(x > 0.9, np.nan, x), "NaN or infinity"),
    ],
)
def test_tensors_of_another_kind_are_refused(embedder, spoil, message, tensors):
    with pytest.raises(UsageError, match=message):
        embedder.embed(spoil(tensors))


def test_two_threads_share_an_embedder_and_get_their_own_embeddings(embedder, tensors):
    expected = [embedder.embed(tensor[None]) for tensor in tensors]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda i: embedder.embed(tensors[i % 20][None]), range(400)))
    for i, rows in enumerate(found):
        np.testing.assert_array_equal(rows, expected[i % 20])


def test_more_threads_compute_the_same(label, paths, tensors):
    found = opened(label, paths, threads=2).embed(tensors)
    assert cosine_rows(found, opened(label, paths).embed(tensors)).min() > 0.999999
    with pytest.raises(UsageError, match="threads must be at least 1, got 0"):
        opened(label, paths, threads=0)


def test_an_artifact_that_contradicts_its_manifest_is_untrusted(label, paths):
    runtime = label.split("/")[0]
    with pytest.raises(UntrustedError, match="takes images of 32 px, its manifest says 64"):
        open_embedder(paths[label], runtime, Preprocess(size_px=64), DIM)
    with pytest.raises(UntrustedError, match="gives 16 dimensions, its manifest says 17"):
        open_embedder(paths[label], runtime, RECIPE, 17)


def test_a_missing_file_is_the_callers_mistake(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        open_embedder(tmp_path / "none.onnx", "onnxruntime", RECIPE, DIM)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_attack_truncated_file(label, share, paths, tmp_path):
    blob = paths[label].read_bytes()
    short = tmp_path / "short"
    short.write_bytes(blob[: int(len(blob) * share)])
    with pytest.raises(CorruptError, match="cannot load the artifact"):
        open_embedder(short, label.split("/")[0], RECIPE, DIM)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_attack_a_file_of_the_other_runtime(runtime, paths):
    other = {"onnxruntime": "litert/fp32", "litert": "onnxruntime/fp32"}[runtime]
    with pytest.raises(CorruptError, match="cannot load the artifact"):
        open_embedder(paths[other], runtime, RECIPE, DIM)


def onnx_file(
    *, weight=None, rows=3, dtype=TensorProto.FLOAT, outputs=1, shape=("n", SIZE_PX, SIZE_PX, 3)
):
    """A tiny ONNX graph, mean over the image then a product: ours unless told otherwise."""
    if weight is None:
        weight = numpy_helper.from_array(np.eye(rows, DIM, dtype=np.float32), "weight")
    axes = numpy_helper.from_array(np.array([1, 2]), "axes")
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["embedding0"]),
        helper.make_node("Identity", ["embedding0"], ["embedding1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [
            helper.make_tensor_value_info(f"embedding{i}", TensorProto.FLOAT, ["n", DIM])
            for i in range(outputs)
        ],
        [axes, weight],
    )
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()


def test_a_hand_made_graph_of_our_form_is_taken():
    runtime = open_runtime(onnx_file(), "onnxruntime")
    assert (runtime.size_px, runtime.dim) == (SIZE_PX, DIM)


@pytest.mark.parametrize(
    "strange",
    [
        {"dtype": TensorProto.UINT8},
        {"outputs": 2},
        {"shape": ("n", 3, 3, SIZE_PX), "rows": SIZE_PX},
        {"shape": ("n", SIZE_PX, 16, 3)},
        {"shape": ("n", "h", "w", 3)},
    ],
)
def test_attack_a_graph_of_another_form(strange):
    with pytest.raises(UntrustedError, match=r"is not \(N, S, S, 3\) -> \(N, D\) float32"):
        open_runtime(onnx_file(**strange), "onnxruntime")


@pytest.mark.parametrize("n", [1, 2])
def test_attack_a_graph_that_gives_another_shape_than_it_declares(n):
    """As wide as the batch is long: a single column would spread over the row unnoticed."""
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("Shape", ["image"], ["length"], end=1),
        helper.make_node("Slice", ["mean", "zero", "length", "one"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", SIZE_PX, SIZE_PX, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM])],
        [
            numpy_helper.from_array(np.array(value), name)
            for name, value in (("axes", [1, 2]), ("zero", [0]), ("one", [1]))
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runtime = open_runtime(model.SerializeToString(), "onnxruntime")
    with pytest.raises(UntrustedError, match="declares 16 dimensions and gave"):
        RuntimeEmbedder(runtime, RECIPE).embed(np.ones((n, SIZE_PX, SIZE_PX, 3), np.float32))


@pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "absolute"])
def test_attack_weights_in_a_file_of_the_device(location, tmp_path, monkeypatch):
    """A graph that names a second file must not read it, wherever the process stands."""
    folder = tmp_path / "here"
    folder.mkdir()
    secret = folder / location if location != "absolute" else folder / "secret.bin"
    secret.write_bytes(np.ones((3, DIM), np.float32).tobytes())
    weight = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[3, DIM])
    weight.data_location = TensorProto.EXTERNAL
    where = str(secret) if location == "absolute" else location
    weight.external_data.append(onnx.StringStringEntryProto(key="location", value=where))
    (folder / "model.onnx").write_bytes(onnx_file(weight=weight))
    monkeypatch.chdir(folder)
    with pytest.raises(CorruptError, match="cannot load the artifact"):
        open_embedder(folder / "model.onnx", "onnxruntime", RECIPE, DIM)


@pytest.mark.parametrize(
    ("runtime", "module", "package"),
    [
        ("onnxruntime", "onnxruntime", "onnxruntime"),
        ("litert", "ai_edge_litert.interpreter", "ai-edge-litert"),
    ],
)
def test_a_missing_runtime_says_what_to_install(runtime, module, package, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"needs {package}: pip install 'kinspace\[dev"):
        open_embedder(paths[f"{runtime}/fp32"], runtime, RECIPE, DIM)
