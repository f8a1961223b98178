"""Records the activations of an ONNX model in onnxruntime: values inside the graph become outputs of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import files, keys, layouts
from .files import Written
from .onnx_graph import Values
from .passes import Passes

if TYPE_CHECKING:
    from onnx import ModelProto

# Where onnxruntime looks for weights beside a model that is given as bytes.
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
CAST = "_as_float32"


def record_onnx(
    model: Any,
    inputs: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    names: Mapping[str, str] | None = None,
    inside: bool = True,
    providers: Sequence[Any] | None = None,
    session_options: Any = None,
) -> Written:
    """Runs a prompt through an ONNX model and writes its activations to `path`.

    `model` is a file, a `ModelProto`, or an `InferenceSession` that was made of a file. `inputs` are those of the
    graph by their names, with `input_ids` [batch, seq] among them. `names` tells the values of keys that are not found,
    or not rightly.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        ValueError: no value is known, or the model does not run with these inputs.
    """
    output = files.check_output(path)
    if "input_ids" not in inputs:
        raise ValueError("the inputs have no input_ids, by which batch and tokens are known")
    proto, folder = loaded(model)
    values = Values(proto.graph)
    there = set(values.made_by) | values.outputs
    for key, name in (names or {}).items():
        if key not in keys.in_order(values.layers):
            raise ValueError(f"{key} is no key of a model with {values.layers} layers")
        if name not in there:
            raise ValueError(f"{name}, which is to be {key}, is no value of the graph")
        values.found[key] = name
    wanted = {key: name for key, name in values.found.items() if inside or "." not in key}
    providers = providers or (model.get_providers() if hasattr(model, "get_providers") else None)
    results = run(with_outputs(proto, wanted.values()), folder, dict(inputs), providers, session_options)
    arrays = arranged({key: results[name] for key, name in wanted.items()}, inputs)
    missing = [key for key in keys.in_order(values.layers) if key in values.missing or key in wanted]
    return files.write(output, arrays, [key for key in missing if key not in arrays and (inside or "." not in key)])


def loaded(model: Any) -> tuple[ModelProto, Path | None]:
    """The graph, without weights that are in files of their own, and the folder that these are in."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"onnx is not installed (pip install onnx onnxruntime): {error}") from error
    if isinstance(model, onnx.ModelProto):
        return model, None
    if hasattr(model, "get_providers"):
        model = getattr(model, "_model_path", None)
        if not model:
            raise ValueError("this InferenceSession was made of bytes: give the model's file or ModelProto instead")
    file = Path(model)
    if not file.is_file():
        raise ValueError(f"{file} not found")
    try:
        return onnx.load(file, load_external_data=False), file.absolute().parent
    except Exception as error:  # protobuf has errors of several kinds
        raise ValueError(f"{file} is not an ONNX model: {error}") from error


def prompt_inputs(file: Path, ids: np.ndarray, mask: np.ndarray | None) -> dict[str, np.ndarray]:
    """The inputs of a file's graph for a prompt [batch, seq] without anything before it.

    Positions count from the first token that is no padding; a cache has a length of 0.

    Raises:
        ValueError: the graph has an input of another kind.
    """
    import onnx

    proto, _ = loaded(file)
    weights = {value.name for value in proto.graph.initializer}
    seen = np.ones_like(ids) if mask is None else mask
    known = {
        "input_ids": ids,
        "attention_mask": seen,
        "position_ids": np.maximum(seen.cumsum(1) - 1, 0),
        "use_cache_branch": np.array([False]),
    }
    result = {}
    for value in proto.graph.input:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if value.name in known:
            result[value.name] = known[value.name].astype(dtype)
        elif value.name.startswith("past_key_values."):
            sizes = [dim.dim_value for dim in kind.shape.dim]
            if len(sizes) != 4 or not (sizes[1] and sizes[3]):
                raise ValueError(f"{file}: {value.name} has not the shape [batch, kv_heads, past, head_dim]")
            result[value.name] = np.zeros((len(ids), sizes[1], 0, sizes[3]), dtype)
        elif value.name not in weights:
            raise ValueError(
                f"{file}: what the input {value.name} is for is not known: call record_onnx with all inputs"
            )
    return result


def with_outputs(model: ModelProto, names: Any) -> ModelProto:
    """A copy of the model that returns these values too; bfloat16, which numpy has not, as float32."""
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}
    for name in dict.fromkeys(names):
        if types.get(name) == onnx.TensorProto.BFLOAT16:
            graph.node.append(onnx.helper.make_node("Cast", [name], [name + CAST], to=onnx.TensorProto.FLOAT))
            graph.output.append(onnx.ValueInfoProto(name=name + CAST))
        elif all(value.name != name for value in graph.output):
            graph.output.append(onnx.ValueInfoProto(name=name))
    return result


def run(
    model: ModelProto, folder: Path | None, inputs: dict[str, Any], providers: Any, options: Any
) -> dict[str, np.ndarray]:
    """All outputs of the model by their names."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"onnxruntime is not installed (pip install onnxruntime): {error}") from error
    options = options or onnxruntime.SessionOptions()
    if folder is not None:
        options.add_session_config_entry(EXTERNAL_FOLDER, str(folder))
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=providers or onnxruntime.get_available_providers()
        )
        outputs = [value.name for value in session.get_outputs() if "bfloat16" not in value.type]
        found = session.run(outputs, inputs)
    except Exception as error:  # onnxruntime has one kind for each of its codes
        raise ValueError(f"onnxruntime does not run the model: {error}") from error
    return {name.removesuffix(CAST): array for name, array in zip(outputs, found, strict=True)}


def arranged(found: dict[str, np.ndarray], inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The content of the file; what has not the layout of its key is left out."""
    ids = np.asarray(inputs["input_ids"], np.int64)
    batch, length = ids.shape
    mask = inputs.get("attention_mask")
    mask = None if mask is None else np.asarray(mask, np.int64)
    now = Passes(0)
    one = now.begin(batch, length, None, ids, mask)
    for key, array in with_experts(found).items():
        if array.dtype != np.float64:
            array = array.astype(np.float32)
        if key == keys.LOGITS:
            one.keep_logits(array.reshape(batch, -1, array.shape[-1]))
        elif key.endswith(keys.HEADS_FIRST):
            if array.ndim == 4 and array.shape[::2] == (batch, length):
                one.keep(key, array)
        else:
            arrange = layouts.head_rows if key.endswith(keys.BY_HEAD) else layouts.token_rows
            rows = arrange(array, batch, length, mask)
            if rows is not None:
                one.keep(key, rows)
    return now.arrays()


def with_experts(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Indices and weights of the chosen experts as [tokens, num_experts]; without both, neither."""
    result = dict(found)
    for key in found:
        layer, _, name = key.partition(".")
        if name != keys.CHOSEN_EXPERTS:
            continue
        weights_key, logits_key = f"{layer}.{keys.EXPERT_WEIGHTS}", f"{layer}.{keys.ROUTER_LOGITS}"
        experts, weights = result.pop(key), result.pop(weights_key, None)
        if weights is None or logits_key not in found:
            continue
        count = found[logits_key].shape[-1]
        experts = experts.reshape(-1, experts.shape[-1])
        weights = weights.reshape(experts.shape)
        result[key] = layouts.dense(np.ones_like(weights), experts, count)
        result[weights_key] = layouts.dense(weights, experts, count)
    return result
