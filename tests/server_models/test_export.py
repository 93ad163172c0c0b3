"""Export: parity with torch, the traps of both toolchains, and what must not be in a file.

One small network is exported once; everything below looks at those five files.
"""

import contextlib
import copy
import logging
import os
import re
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping, quantizer
from torch import nn

from compat.embedding import cosine_rows
from compat.errors import UsageError
from server_models import export
from server_models.export.quiet import quiet

SIZE_PX, DIM = 32, 24
LABELS = ("onnxruntime/fp32", "onnxruntime/int8", "litert/fp32", "litert/fp16", "litert/int8")


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * n_in
        self.body = nn.Sequential(
            nn.Conv2d(n_in, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, n_out, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        self.is_residual = stride == 1 and n_in == n_out

    def forward(self, x):
        return x + self.body(x) if self.is_residual else self.body(x)


def images(n, seed, contrast=1.0):
    """(n, S, S, 3) float32 in [-1, 1]: waves and discs, as smooth and as varied as photographs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIZE_PX, 0:SIZE_PX] / SIZE_PX
    made = np.zeros((n, SIZE_PX, SIZE_PX, 3))
    for image in made:
        for fy, fx, phase in rng.normal(size=(5, 3)) * (8, 8, 3):
            image += np.sin(fy * y + fx * x + phase)[..., None] * rng.normal(size=3)
        cy, cx, radius = rng.uniform(0.1, 0.9, 3)
        image[(y - cy) ** 2 + (x - cx) ** 2 < (radius / 2) ** 2] += rng.normal(size=3) * 2
    return (np.tanh(made) * contrast).astype(np.float32)


def torch_embeddings(net, tensors):
    with torch.no_grad():
        return net(torch.from_numpy(tensors).permute(0, 3, 1, 2)).numpy()


@pytest.fixture(scope="module")
def net():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        Block(8, 32, 2),
        Block(32, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, DIM),
    )
    with torch.no_grad():  # statistics of images, as after training
        for seed in range(30):
            net(torch.from_numpy(images(16, seed)).permute(0, 3, 1, 2))
    return net.eval()


@pytest.fixture(scope="module")
def calibration():
    return images(192, seed=1000)


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def files(net, calibration, told):
    made = export.export_artifacts(
        net, SIZE_PX, calibration, progress=lambda *step: told.append(step)
    )
    return {file.label: file.blob for file in made}


def run_file(label, blob, tensors):
    if label.startswith("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(blob, providers=["CPUExecutionProvider"])
        return session.run(["embedding"], {"image": tensors})[0]
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=blob, num_threads=1).get_signature_runner("embed")
    return np.concatenate([runner(image=tensor[None])["embedding"] for tensor in tensors])


def test_every_file_is_announced(files, told):
    assert tuple(files) == LABELS
    assert told == [(label, done, 5) for done, label in enumerate((*LABELS, ""))]


@pytest.mark.parametrize(
    ("label", "worst", "mean"),
    [
        ("onnxruntime/fp32", 0.999999, 0.999999),
        ("onnxruntime/int8", 0.98, 0.999),
        ("litert/fp32", 0.999999, 0.999999),
        ("litert/fp16", 0.99999, 0.99999),
        ("litert/int8", 0.98, 0.999),
    ],
)
def test_a_file_computes_what_torch_computes(label, worst, mean, net, files):
    tensors = images(48, seed=2000)
    found, expected = run_file(label, files[label], tensors), torch_embeddings(net, tensors)
    assert found.dtype == np.float32
    cosines = cosine_rows(found, expected)
    assert cosines.min() >= worst
    assert cosines.mean() >= mean
    centred = cosine_rows(found - found.mean(0), expected - expected.mean(0))
    assert centred.mean() >= mean - 0.01  # a narrow cone of embeddings would hide a broken file


def test_embeddings_are_raw(net, files):
    """The L2 norm is outside the graph: lengths are the network's own."""
    tensors = images(8, seed=2001)
    for label in ("onnxruntime/fp32", "litert/fp32"):
        np.testing.assert_allclose(
            run_file(label, files[label], tensors), torch_embeddings(net, tensors), atol=1e-5
        )


def test_precision_pays_in_bytes(files):
    size = {label: len(blob) for label, blob in files.items()}
    assert size["litert/fp16"] < 0.75 * size["litert/fp32"]
    assert size["onnxruntime/int8"] < size["onnxruntime/fp32"]
    assert size["litert/int8"] < size["litert/fp16"]


@pytest.mark.parametrize("label", LABELS)
def test_nothing_of_the_building_machine_is_in_a_file(label, files):
    words = b"\n".join(re.findall(rb"[\x20-\x7e]{5,}", files[label]))
    secrets = [b"site-packages", b".py", b'File "', b"test_export", b"Block", b"BatchNorm"]
    secrets += [str(Path.cwd()).encode(), str(Path(__file__).parent).encode()]
    assert [secret for secret in secrets if secret in words] == []


@pytest.mark.parametrize("label", LABELS[:2])
def test_an_onnx_file_is_whole_lean_and_silent(label, files):
    proto = onnx.load_model_from_string(files[label])
    assert not any(weight.external_data for weight in proto.graph.initializer)
    assert not proto.metadata_props
    assert not proto.graph.value_info
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    operators = {node.op_type for node in proto.graph.node}
    assert operators <= {
        *("Transpose", "Conv", "Clip", "Add", "ReduceMean", "Reshape", "Gemm"),
        *("QuantizeLinear", "DequantizeLinear"),
    }


def test_exporting_again_gives_equal_bytes_and_leaves_everything_as_it_was(net, calibration, files):
    """Also from training mode, whose batch norms and running statistics must not move."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    model = copy.deepcopy(net).train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    environment, handlers = dict(os.environ), logging.root.handlers[:]
    try:
        again = export.export_artifacts(model, SIZE_PX, calibration)
        assert logging.root.handlers == handlers
    finally:
        logging.root.removeHandler(handler)
    assert {file.label: file.blob for file in again} == files
    assert dict(os.environ) == environment
    assert logging.root.manager.disable == logging.NOTSET
    assert model.training
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_quiet_puts_the_log_and_the_filters_back_after_a_failure():
    filters, environment = warnings.filters[:], dict(os.environ)
    with contextlib.suppress(KeyError), quiet():
        logging.basicConfig(force=True)
        raise KeyError
    assert warnings.filters == filters
    assert dict(os.environ) == environment
    assert logging.root.manager.disable == logging.NOTSET


def moving_average_int8(fp32, calibration):
    """What ai-edge-quantizer makes by its own default: ranges averaged over the images."""
    with quiet():
        recipe = quantizer.Quantizer(fp32)
        recipe.add_static_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, 8, 8)
        for rim in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            recipe.update_quantization_recipe(
                ".*", rim, algorithm_key=quantizer.AlgorithmName.NO_QUANTIZE
            )
        ranges = recipe.calibrate(
            {"embed": [{"image": image[None]} for image in calibration]}, num_threads=1
        )
        return bytes(recipe.quantize(ranges, enable_progress_report=False).quantized_model)


def test_outliers_among_the_calibration_images_are_not_clipped(net, files):
    """Attack: a few bright images among many dull ones. An average of ranges forgets them."""
    calibration = np.concatenate([images(56, 3000, contrast=0.2), images(8, 3001)])
    bright = images(32, seed=3002)
    expected = torch_embeddings(net, bright)

    def worst(label, blob):
        return cosine_rows(run_file(label, blob, bright), expected).min()

    ours = export.export_tflite_int8(files["litert/fp32"], calibration)
    onnx_int8 = export.export_onnx_int8(files["onnxruntime/fp32"], calibration)
    assert worst("litert/int8", ours) >= 0.99
    assert worst("onnxruntime/int8", onnx_int8) >= 0.99
    assert worst("litert/int8", moving_average_int8(files["litert/fp32"], calibration)) < 0.97


EXPORTERS = (export.export_onnx_fp32, export.export_tflite_fp32)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("name", "value"), [("3.body.4.running_var", float("nan")), ("7.weight", float("inf"))]
)
def test_a_diverged_weight_is_refused_by_name(exporter, name, value, net):
    model = copy.deepcopy(net)
    model.state_dict()[name].view(-1)[3] = value
    with pytest.raises(UsageError, match=f"weight {re.escape(name)} holds NaN or infinity"):
        exporter(model, SIZE_PX)


class Widened(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)).double()


class Paired(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)), x


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(3, 4, 3).half(), "weight weight is torch.float16"),
        (nn.Conv2d(4, 4, 3), r"does not take \(N, 3, 32, 32\)"),
        (nn.Conv2d(3, 4, 3), r"must give \(N, D\), for 2 images it gave \(2, 4, 30, 30\)"),
        (Widened(), "must give float32, it gave torch.float64"),
        (Paired(), "it gave tuple"),
    ],
)
def test_a_model_that_is_no_embedder_is_refused(exporter, model, message):
    with pytest.raises(UsageError, match=message):
        exporter(model, SIZE_PX)


class Exotic(nn.Module):
    def forward(self, x):
        return torch.special.bessel_j0(x.mean((2, 3)))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_an_operator_that_a_format_lacks_is_refused(exporter):
    with pytest.raises(UsageError, match="cannot convert this model"):
        exporter(Exotic(), SIZE_PX)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((0, SIZE_PX, SIZE_PX, 3), np.float32), "N >= 1"),
        (np.zeros((4, 3, SIZE_PX, SIZE_PX), np.float32), r"must be \(N, 32, 32, 3\)"),
        (np.zeros((4, SIZE_PX, SIZE_PX, 3), np.uint8), "normalised float32, got uint8"),
        (np.full((4, SIZE_PX, SIZE_PX, 3), np.nan, np.float32), "NaN"),
        (np.ones((4, SIZE_PX, SIZE_PX, 3), np.float32), "every calibration pixel is 1.0"),
    ],
)
def test_calibration_that_is_no_images_is_refused(bad, message, net, files):
    with pytest.raises(UsageError, match=message):
        export.export_onnx_int8(files["onnxruntime/fp32"], bad)
    with pytest.raises(UsageError, match=message):
        export.export_tflite_int8(files["litert/fp32"], bad)
    with pytest.raises(UsageError, match=message):  # before the first minute is spent
        export.export_artifacts(net, SIZE_PX, bad)


def test_quantisation_takes_only_our_float_files(files, calibration):
    for bad in (b"", b"no model", files["litert/fp32"]):
        with pytest.raises(UsageError, match="not a file of export_onnx_fp32"):
            export.export_onnx_int8(bad, calibration)
    for bad in (b"", b"no model", files["onnxruntime/fp32"]):
        with pytest.raises(UsageError, match="not a file of export_tflite_fp32"):
            export.export_tflite_int8(bad, calibration)
        with pytest.raises(UsageError, match="not a file of export_tflite_fp32"):
            export.export_tflite_fp16(bad)


def test_a_weight_beyond_half_precision_is_refused(files):
    model = flatbuffer_utils.read_model_from_bytearray(files["litert/fp32"])
    weights = max(model.buffers, key=lambda each: 0 if each.data is None else len(each.data))
    loud = np.frombuffer(bytes(weights.data), np.float32) * np.float32(1e9)
    weights.data = np.frombuffer(loud.tobytes(), np.uint8)
    with pytest.raises(UsageError, match="beyond half precision"):
        export.export_tflite_fp16(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
