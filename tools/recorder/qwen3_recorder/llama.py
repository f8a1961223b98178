"""Records the activations of llama.cpp through the callback that it calls for each node of its graph."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from . import files, keys
from .files import Written
from .llama_graph import OUTPUT, Watch
from .passes import Passes

ARCHITECTURES = ("qwen3", "qwen3moe")
# In ggml.h.
CACHE_TYPES = {"f32": 0, "f16": 1, "bf16": 30}
ERROR = 4
# `general.file_type` of files that are not quantised, in llama.h.
FILE_TYPES = {"0": "f32", "1": "f16", "32": "bf16"}


def record_llama_cpp(
    model: str | os.PathLike[str],
    ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
    path: str | os.PathLike[str],
    *,
    attention_mask: np.ndarray | None = None,
    steps: int = 0,
    inside: bool = True,
    kv_cache: str | None = None,
    threads: int | None = None,
    **params: Any,
) -> Written:
    """Records a prompt, and `steps` greedy decode passes behind it, of a GGUF file; writes them to `path`.

    `ids` are one prompt or rows of equal length, with 0 in `attention_mask` where a row is padded on the left. Each row
    is run alone. `kv_cache` is f32, f16 or bf16; f32 turns flash attention off, which rounds keys and values to f16
    whatever the cache holds. `params` are fields of `llama_context_params` or `llama_model_params`; what is not given
    is llama.cpp's own default.

    Raises:
        ImportError: llama-cpp-python is not installed, or gives no access to the graph.
        ValueError: llama.cpp does not run this file with these tokens and parameters.
    """
    api = library()
    output = files.check_output(path)
    rows = np.atleast_2d(np.asarray(ids, np.int64))
    mask = np.ones_like(rows) if attention_mask is None else np.atleast_2d(np.asarray(attention_mask, np.int64))
    check_rows(rows, mask)
    if kv_cache is not None:
        if kv_cache not in CACHE_TYPES:
            raise ValueError(f"a KV cache of {kv_cache!r} is none of {', '.join(CACHE_TYPES)}")
        params = {"type_k": CACHE_TYPES[kv_cache], "type_v": CACHE_TYPES[kv_cache]} | params
        if kv_cache == "f32":
            params = {"flash_attn_type": api.LLAMA_FLASH_ATTN_TYPE_DISABLED} | params
    if threads is not None:
        params |= {"n_threads": threads, "n_threads_batch": threads}
    with Engine(api, Path(model), rows.shape[1], steps, params) as engine:
        engine.check_ids(rows)
        parts = [engine.run(row[seen != 0], steps, inside) for row, seen in zip(rows, mask, strict=True)]
        layers, dtype = engine.layers, engine.dtype()
    arrays = joined(parts, rows.shape[1])
    check_seen(arrays, layers)
    arrays[keys.INPUT_IDS] = rows
    if attention_mask is not None:
        arrays[keys.ATTENTION_MASK] = mask
    if keys.GENERATED_IDS in arrays:
        arrays[keys.GENERATED_IDS][:, : rows.shape[1]] = rows
    return files.write(output, arrays, missing(arrays, layers, inside), dtype)


def library() -> Any:
    """The module `llama_cpp`."""
    try:
        import llama_cpp
    except ImportError as error:
        raise ImportError(f"llama_cpp is not installed (pip install llama-cpp-python): {error}") from error
    fields = {name for name, *_ in llama_cpp.llama_context_params._fields_}
    if not {"cb_eval", "cb_eval_user_data"} <= fields or not hasattr(llama_cpp, "ggml_backend_sched_eval_callback"):
        raise ImportError(f"llama-cpp-python {llama_cpp.__version__} gives no evaluation callback: take a newer one")
    return llama_cpp


def check_rows(rows: np.ndarray, mask: np.ndarray) -> None:
    """Raises unless these are prompts, padded on the left at most."""
    if rows.ndim != 2 or not rows.size:
        raise ValueError(f"the ids have the shape {list(rows.shape)}: a prompt, or rows of prompts, are wanted")
    if rows.shape != mask.shape:
        raise ValueError(f"attention_mask {list(mask.shape)} has not the shape of the ids {list(rows.shape)}")
    seen = mask != 0
    if not seen[:, -1].all() or (seen[:, :-1] & ~seen[:, 1:]).any():
        raise ValueError("attention_mask is not left padding")


class Engine:
    """A model and its context, freed at the end of a `with` block."""

    def __init__(self, api: Any, model: Path, length: int, steps: int, params: dict[str, Any]) -> None:
        from .ggml import Ggml

        if not model.is_file():
            raise ValueError(f"{model} not found")
        if steps < 0:
            raise ValueError(f"{steps} decode passes")
        self.api = api
        self.file = model
        self.ggml = Ggml()
        self.watch: Watch | None = None
        self.failed: Exception | None = None
        # llama.cpp keeps addresses of these.
        self.callback = api.ggml_backend_sched_eval_callback(self.evaluated)
        self.errors: list[str] = []
        self.log = api.llama_log_callback(self.logged)
        self.model_params = api.llama_model_default_params()
        self.params = api.llama_context_default_params()
        # One call is one graph.
        self.params.n_ctx = length + steps
        self.params.n_batch = max(self.params.n_batch, length)
        self.params.n_ubatch = max(self.params.n_ubatch, length)
        self.set(params)
        self.params.cb_eval = self.callback

    def set(self, params: dict[str, Any]) -> None:
        """Sets parameters by their names in llama.cpp."""
        for name, value in params.items():
            owner = next((owner for owner in (self.params, self.model_params) if hasattr(owner, name)), None)
            if owner is None:
                raise ValueError(f"{name} is no parameter of llama.cpp's contexts or models")
            setattr(owner, name, value)

    def __enter__(self) -> Self:
        """Loads the model."""
        api = self.api
        api.llama_log_set(self.log, ctypes.c_void_p())
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(str(self.file).encode(), self.model_params)
        if not self.model:
            raise ValueError(self.why(f"llama.cpp does not load {self.file}"))
        architecture = self.metadata("general.architecture")
        if architecture not in ARCHITECTURES:
            api.llama_model_free(self.model)
            raise ValueError(f"{self.file} has the architecture {architecture!r}, none of {', '.join(ARCHITECTURES)}")
        self.context = api.llama_init_from_model(self.model, self.params)
        if not self.context:
            api.llama_model_free(self.model)
            raise ValueError(self.why(f"llama.cpp makes no context of {self.params.n_ctx} tokens"))
        self.layers = api.llama_model_n_layer(self.model)
        return self

    def metadata(self, key: str) -> str:
        """A value of the file's metadata, or nothing."""
        buffer = ctypes.create_string_buffer(64)
        self.api.llama_model_meta_val_str(self.model, key.encode(), buffer, len(buffer))
        return buffer.value.decode(errors="replace")

    def dtype(self) -> str | None:
        """The coarsest of the weights' dtype, the cache's and attention's; None where one is quantised."""
        cache = {number: name for name, number in CACHE_TYPES.items()}
        used = [FILE_TYPES.get(self.metadata("general.file_type"))]
        used += [cache.get(kind) for kind in (self.params.type_k, self.params.type_v)]
        # Flash attention is on, or llama.cpp decides.
        used += ["f16"] if self.params.flash_attn_type != self.api.LLAMA_FLASH_ATTN_TYPE_DISABLED else []
        return None if None in used else max(used, key=("f32", "f16", "bf16").index)

    def __exit__(self, *_: object) -> None:
        """Frees everything."""
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)
        self.api.llama_log_set(ctypes.cast(None, self.api.llama_log_callback), ctypes.c_void_p())

    def logged(self, level: int, text: bytes, _data: object) -> None:
        """Keeps what llama.cpp calls an error, and drops the rest of its log."""
        if level == ERROR:
            self.errors.append(text.decode(errors="replace"))

    def why(self, what: str) -> str:
        """What failed, and what llama.cpp said to it."""
        return f"{what}: {' '.join(''.join(self.errors).split())}" if self.errors else what

    def evaluated(self, address: int, ask: bool, _data: object) -> bool:
        """What llama.cpp calls: with `ask` before a node is computed, and behind those that were asked for."""
        if self.failed or self.watch is None:
            return not ask
        try:
            node = self.ggml.node(address)
            if ask:
                return self.watch.wants(node)
            self.watch.copy(node)
        except Exception as error:  # noqa: BLE001 - none may pass through C
            self.failed = error
        return not ask

    def check_ids(self, rows: np.ndarray) -> None:
        """Raises where a token is none of the model's."""
        count = self.api.llama_vocab_n_tokens(self.api.llama_model_get_vocab(self.model))
        wrong = rows[(rows < 0) | (rows >= count)]
        if wrong.size:
            raise ValueError(f"token {wrong[0]} is none of {self.file}, whose vocabulary has {count}")

    def decode(self, ids: np.ndarray, past: int, inside: bool) -> dict[str, np.ndarray]:
        """Runs tokens behind `past` others; every one of them gives logits."""
        with batch_of(self.api, ids, past) as batch:
            self.watch = Watch(self.ggml, inside)
            code = self.api.llama_decode(self.context, batch)
            self.api.llama_synchronize(self.context)
        if self.failed:
            raise self.failed
        if code:
            raise ValueError(self.why(f"llama_decode of {len(ids)} tokens gives {code}"))
        return self.watch.tensors(len(ids))

    def run(self, ids: np.ndarray, steps: int, inside: bool) -> dict[str, np.ndarray]:
        """The activations of one prompt and its decode passes."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        passes, new = Passes(steps, len(ids)), ids
        for step in range(1 + steps):
            past = passes.seen()
            now = passes.begin(1, len(new), past if step else None, new[None], None)
            for key, tensor in self.decode(new, past, inside).items():
                if key == keys.LOGITS:
                    now.keep_logits(tensor)
                else:
                    now.keep(key, tensor)
            if now.last_logits is None:
                raise ValueError("llama.cpp's graph has no result_output")
            new = now.last_logits.argmax(-1)
        return passes.arrays()


@contextmanager
def batch_of(api: Any, ids: np.ndarray, past: int) -> Iterator[Any]:
    """A batch of one sequence, whose tokens all give logits."""
    batch = api.llama_batch_init(len(ids), 0, 1)
    try:
        for index, token in enumerate(ids):
            batch.token[index] = int(token)
            batch.pos[index] = past + index
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = 0
            batch.logits[index] = True
        batch.n_tokens = len(ids)
        yield batch
    finally:
        api.llama_batch_free(batch)


def joined(parts: list[dict[str, np.ndarray]], length: int) -> dict[str, np.ndarray]:
    """Rows as one batch: prompts are padded on the left, with 0."""
    result = {}
    for key in parts[0]:
        axis, rows = keys.sequence_axis(key), [part[key] for part in parts]
        target = length
        if key.startswith("step_"):
            target = rows[0].shape[axis]
        elif key == keys.GENERATED_IDS:
            target += parts[0][keys.STEP_LOGITS].shape[1]
        padded = []
        for row in rows:
            widths = [(0, 0)] * row.ndim
            widths[axis] = (target - row.shape[axis], 0)
            padded.append(np.pad(row, widths))
        result[key] = np.concatenate(padded)
    return result


def check_seen(arrays: dict[str, np.ndarray], layers: int) -> None:
    """Raises unless the outputs of all layers were seen."""
    unseen = [f"{OUTPUT}-{layer}" for layer in range(layers) if keys.layer_output(layer) not in arrays]
    if unseen:
        raise ValueError(f"llama.cpp's graph has no tensors named {', '.join(unseen)}: this version is not known")


def missing(arrays: dict[str, np.ndarray], layers: int, inside: bool) -> list[str]:
    """The keys of what was looked for and not seen; experts where a layer has some."""
    expected = [key for key in keys.in_order(layers) if inside or "." not in key]
    sparse = {layer for layer in range(layers) if keys.inside(layer, keys.ROUTER_LOGITS) in arrays}
    router = {keys.inside(layer, name) for layer in range(layers) if layer not in sparse for name in keys.ROUTER}
    return [key for key in expected if key not in arrays and key not in router]
