"""llama.cpp as an engine, through the C interface that llama-cpp-python gives: contexts have llama.cpp's defaults."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import common
import llama_cpp
import numpy as np

# llama.cpp rounds the length of a context up to this.
PADDING = 256
# In ggml.h; llama-cpp-python has no name for it.
GGML_LOG_LEVEL_ERROR = 4

errors: list[str] = []


@llama_cpp.llama_log_callback
def keep_errors(level: int, text: bytes, _data: object) -> None:
    """Keeps what llama.cpp calls an error, and drops the rest of its log."""
    if level == GGML_LOG_LEVEL_ERROR:
        errors.append(text.decode(errors="replace"))


def why(what: str) -> str:
    """What failed, and what llama.cpp said to it."""
    return f"{what}: {''.join(errors)}" if errors else what


class LlamaCpp:
    """A model and its context, which is made anew for each length and batch."""

    def __init__(self, model: llama_cpp.llama_model_p, threads: int) -> None:
        self.model = model
        self.threads = threads
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self.context = None
        self.version = f"llama-cpp-python {llama_cpp.__version__}, KV cache f16"

    def reserve(self, batch: int, length: int) -> None:
        """A context with a stream of its own for each sequence, so that none computes with another's keys."""
        if self.context is not None:
            llama_cpp.llama_batch_free(self.tokens)
            llama_cpp.llama_free(self.context)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = batch * -(-length // PADDING) * PADDING
        # What one call takes; it is computed in pieces of n_ubatch.
        params.n_batch = max(params.n_batch, params.n_ctx)
        params.n_seq_max = batch
        params.kv_unified = False
        params.n_outputs_max = batch
        params.n_threads = params.n_threads_batch = self.threads
        params.no_perf = True
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        if not self.context:
            raise common.Unavailable(why(f"no context of {batch} times {length} tokens"))
        self.tokens = llama_cpp.llama_batch_init(params.n_batch, 0, 1)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.batch = batch
        self.length = 0

    def run(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """Runs tokens, each with its position, sequence and whether its logits are wanted."""
        for index, (token, position, sequence, wanted) in enumerate(tokens):
            self.tokens.token[index] = token
            self.tokens.pos[index] = position
            self.tokens.n_seq_id[index] = 1
            self.tokens.seq_id[index][0] = sequence
            self.tokens.logits[index] = wanted
        self.tokens.n_tokens = len(tokens)
        code = llama_cpp.llama_decode(self.context, self.tokens)
        llama_cpp.llama_synchronize(self.context)
        if code:
            raise common.Unavailable(why(f"llama_decode of {len(tokens)} tokens gives {code}"))

    def fill(self, length: int, draw: Callable[[int], list[int]]) -> None:
        """Runs random tokens of one sequence; the others get copies of its keys and values."""
        self.run([(token, index, 0, False) for index, token in enumerate(draw(length))])
        for sequence in range(1, self.batch):
            llama_cpp.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        self.length = length

    def forward(self, ids: list[list[int]]) -> None:
        """All sequences in one call."""
        new = len(ids[0])
        self.run(
            [
                (token, self.length + index, sequence, index + 1 == new)
                for sequence, row in enumerate(ids)
                for index, token in enumerate(row)
            ]
        )
        self.wanted = [(sequence + 1) * new - 1 for sequence in range(len(ids))]
        self.length += new

    def argmax(self) -> list[int]:
        """[batch]."""
        pointers = [llama_cpp.llama_get_logits_ith(self.context, index) for index in self.wanted]
        return [int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax()) for logits in pointers]

    def rewind(self, length: int) -> None:
        """The context keeps its memory."""
        for sequence in range(self.batch):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, length, -1)
        self.length = length


def load(file: Path, threads: int) -> tuple[LlamaCpp, float]:
    """Loads a GGUF file."""
    llama_cpp.llama_log_set(keep_errors, ctypes.c_void_p())
    llama_cpp.llama_backend_init()
    start = time.perf_counter()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), params)
    if not model:
        raise common.InputError(why(f"llama.cpp does not load {file}"))
    return LlamaCpp(model, threads), time.perf_counter() - start
