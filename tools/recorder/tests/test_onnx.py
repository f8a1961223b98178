"""ONNX files of both exporters, in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import exported
import numpy as np
import pytest
import support
from test_prompt import all_keys

from qwen3_recorder import onnx_run, record_onnx

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """An exported checkpoint, made once."""
    made: dict[tuple[str, bool], Path] = {}

    def export(name: str, newer: bool) -> Path:
        if (name, newer) not in made:
            made[name, newer] = exported.onnx(name, newer, tmp_path_factory.mktemp("onnx") / f"{name}.onnx")
        return made[name, newer]

    return export


def inputs(expected: support.Arrays) -> support.Arrays:
    """What the exported graphs take."""
    ids = expected["input_ids"]
    return {"input_ids": ids, "attention_mask": expected.get("attention_mask", np.ones_like(ids))}


@pytest.mark.parametrize(
    ("name", "newer"), [("gqa-tied", False), ("gqa-tied", True), ("bias-tied", False), ("experts", False)]
)
def test_every_key_is_that_of_the_oracle(name: str, newer: bool, file, tapped, out: Path) -> None:
    expected = tapped(name)
    written = record_onnx(file(name, newer), inputs(expected), out)
    found, names = support.read(out), all_keys(name, 3)
    assert written.missing == []
    assert set(found) == {"input_ids", "attention_mask", *names} == set(written.keys)
    ratio, where = support.worst(found, expected, names)
    assert ratio <= 1, where


def test_left_padding(file, out: Path) -> None:
    expected = support.reference("gqa-tied", "left-padded")
    record_onnx(file("gqa-tied", False), inputs(expected), out, inside=False)
    found = support.read(out)
    assert not any("." in key for key in found)
    # Positions are no input of this graph: they count from the first column, which only turns all heads alike.
    seen = expected["attention_mask"] != 0
    limit = 8 * expected["noise_floor.f32.logits"][0] + 1e-5
    assert np.abs(found["logits"] - expected["logits"])[seen].max() <= limit


def test_a_model_in_memory_and_a_session(file, out: Path) -> None:
    expected, path = support.reference("gqa-tied"), file("gqa-tied", False)
    record_onnx(path, inputs(expected), out)
    right = support.read(out)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for model in (onnx.load(path), session):
        record_onnx(model, inputs(expected), out)
        found = support.read(out)
        assert all(np.array_equal(found[key], right[key]) for key in right)
    of_bytes = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="made of bytes"):
        record_onnx(of_bytes, inputs(expected), out)


def test_weights_in_files_of_their_own(file, tmp_path: Path, out: Path) -> None:
    expected = support.reference("gqa-tied")
    beside = tmp_path / "beside"
    beside.mkdir()
    path = beside / "model.onnx"
    onnx.save(onnx.load(file("gqa-tied", False)), path, save_as_external_data=True, size_threshold=0)
    before = len(list(beside.iterdir()))
    assert before > 1
    record_onnx(path, inputs(expected), out)
    ratio, where = support.worst(support.read(out), expected, support.outputs(3, "logits"))
    assert ratio <= 1, where
    assert path in beside.iterdir()
    assert len(list(beside.iterdir())) == before


def test_names_may_be_given(file, out: Path) -> None:
    expected, path = support.reference("gqa-tied"), file("gqa-tied", False)
    plain = onnx.load(path)
    # As files of other tools: nothing but layers tells where a value is from.
    for node in plain.graph.node:
        node.name = node.name.replace("/input_layernorm/", "/norm_one/")
    written = record_onnx(plain, inputs(expected), out)
    assert "layer_01.input_layernorm" in written.missing
    name = "/model/layers.1/input_layernorm/Mul_1_output_0"
    written = record_onnx(plain, inputs(expected), out, names={"layer_01.input_layernorm": name})
    assert "layer_01.input_layernorm" in written.keys
    assert "layer_00.input_layernorm" in written.missing
    with pytest.raises(ValueError, match="is no value of the graph"):
        record_onnx(plain, inputs(expected), out, names={"layer_01.input_layernorm": "nowhere"})
    with pytest.raises(ValueError, match="is no key"):
        record_onnx(plain, inputs(expected), out, names={"layer_03.input_layernorm": name})


def test_graphs_without_names_are_told(file, out: Path) -> None:
    plain = onnx.load(file("gqa-tied", False))
    for number, node in enumerate(plain.graph.node):
        node.name = f"node_{number}"
    with pytest.raises(ValueError, match="no node is in a decoder layer.*node_0"):
        record_onnx(plain, inputs(support.reference("gqa-tied")), out)
    assert not out.exists()


def test_what_is_no_model_is_told(tmp_path: Path, out: Path) -> None:
    given = inputs(support.reference("gqa-tied"))
    with pytest.raises(ValueError, match="not found"):
        record_onnx(tmp_path / "nowhere.onnx", given, out)
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ValueError, match=r"text\.onnx"):
        record_onnx(tmp_path / "text.onnx", given, out)


def graph(**given: tuple[int, list[int | str]]) -> onnx.ModelProto:
    """A model that takes these inputs, and gives `x` in bfloat16."""
    make = onnx.helper.make_tensor_value_info
    takes = [make(name, *value) for name, value in given.items()]
    node = onnx.helper.make_node("Cast", ["input_ids"], ["x"], to=onnx.TensorProto.BFLOAT16)
    gives = [make("x", onnx.TensorProto.BFLOAT16, ["batch", "seq"])]
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", takes, gives), ir_version=10)


def test_inputs_of_a_graph_with_a_cache(tmp_path: Path) -> None:
    whole, half = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT16
    tokens = (whole, ["batch", "seq"])
    cache = {"past_key_values.0.key": (half, ["batch", 2, "past", 16])}
    onnx.save(graph(input_ids=tokens, position_ids=tokens, **cache), tmp_path / "model.onnx")
    mask = np.array([[0, 0, 1, 1, 1]])
    made = onnx_run.prompt_inputs(tmp_path / "model.onnx", np.arange(5)[None], mask)
    assert set(made) == {"input_ids", "position_ids", "past_key_values.0.key"}
    assert made["position_ids"].tolist() == [[0, 0, 0, 1, 2]]
    assert made["past_key_values.0.key"].shape == (1, 2, 0, 16)
    assert made["past_key_values.0.key"].dtype == np.float16
    onnx.save(graph(input_ids=tokens, speaker=tokens), tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="the input speaker"):
        onnx_run.prompt_inputs(tmp_path / "model.onnx", np.arange(5)[None], None)


def test_bfloat16_is_returned_as_float32() -> None:
    model = graph(input_ids=(onnx.TensorProto.INT64, ["batch", "seq"]))
    found = onnx_run.run(onnx_run.with_outputs(model, ["x"]), None, {"input_ids": np.array([[1, 257]])}, None, None)
    assert found["x"].dtype == np.float32
    assert found["x"].tolist() == [[1, 256]]
