"""Records the activations of a PyTorch model whose modules are named as Transformers names those of Qwen3."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import calls, files, keys, layouts, modules, rotary
from .passes import Pass, Passes

if TYPE_CHECKING:
    from torch.nn import Module

# Decode passes that are kept from the inside.
STEPS = 64


def record(
    model: Module,
    path: str | os.PathLike[str],
    *,
    steps: int = STEPS,
    inside: bool = True,
    prompt_length: int | None = None,
) -> Recording:
    """Records what `model` computes in a `with` block, and writes it to `path` when the block ends.

    The first pass is the prompt, in chunks or whole. Of the passes behind it, which read one token of each sequence,
    the first `steps` are kept under keys of their own. Without `inside`, nothing inside layers is kept.
    `prompt_length` tells how many tokens the prompt has where a chunk of it may be a single token.

    Raises:
        ValueError: no module has a name that is known, or `path` is none of an npz file that can be written.
    """
    return Recording(model, path, steps, inside, prompt_length)


class Recording:
    """A recording that goes on until its `with` block ends.

    `missing` names the modules that were looked for and are not there, `written` the keys in the file.
    """

    def __init__(
        self, model: Module, path: str | os.PathLike[str], steps: int, inside: bool, prompt_length: int | None
    ) -> None:
        if len(getattr(model, "device_ids", None) or ()) > 1:
            raise ValueError("a batch split over several devices is not recorded: record model.module")
        self.path = files.check_output(path)
        self.decoder = modules.find(model)
        self.missing = self.decoder.missing
        self.written: list[str] = []
        self.steps = steps
        self.inside = inside
        self.prompt_length = prompt_length
        self.reset()

    def reset(self) -> None:
        """Forgets all passes: the next one is a prompt."""
        self.passes = Passes(self.steps, self.prompt_length)
        self.call: dict[str, Any] = {}
        self.now: Pass | None = None
        # The layer whose attention runs.
        self.attending: int | None = None

    def __enter__(self) -> Self:
        """Sets the hooks."""
        import torch

        with ExitStack() as stack:
            # Code that is compiled already has no hooks. Before PyTorch 2.6 it cannot be told to stand back.
            if hasattr(torch.compiler, "set_stance"):
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            self.hook_ends(stack)
            for number, parts in self.decoder.layers.items():
                self.hook(stack, parts[""], keys.layer_output(number), layouts.stream)
                if self.inside:
                    self.hook_inside(stack, number, parts)
            attentions = [parts["self_attn"] for parts in self.decoder.layers.values() if "self_attn" in parts]
            stack.enter_context(rotary.watched(attentions if self.inside else [], self.keep_rotated))
            self.hooks = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Removes the hooks and, unless the block failed, writes the file."""
        self.hooks.close()
        if kind is None:
            self.write()

    def write(self) -> None:
        """Writes what was recorded."""
        arrays = self.passes.arrays()
        files.write_npz(self.path, arrays)
        self.written = list(arrays)

    def hook_ends(self, stack: ExitStack) -> None:
        """Hooks on what stands around the layers."""
        for module in self.decoder.path:
            stack.callback(module.register_forward_pre_hook(self.told, with_kwargs=True).remove)
        # What embeds tokens or is the first layer begins a pass where the decoder itself was not called.
        begin = self.decoder.path[-1].register_forward_pre_hook(self.begin, with_kwargs=True)
        stack.callback(begin.remove)
        for module, key in ((self.decoder.embed_tokens, keys.EMBEDDING), (self.decoder.norm, keys.FINAL_NORM)):
            if module is not None:
                self.hook(stack, module, key)
        if self.decoder.lm_head is not None:
            stack.callback(self.decoder.lm_head.register_forward_hook(self.keep_logits).remove)
        # Where the head is no module, what the model returns has the logits.
        for module in self.decoder.path[:-1]:
            stack.callback(module.register_forward_hook(self.keep_returned_logits).remove)

    def hook_inside(self, stack: ExitStack, number: int, parts: dict[str, Module]) -> None:
        """Hooks on what is inside of a layer."""
        for name in keys.FROM_MODULES:
            if name in parts:
                self.hook(stack, parts[name], keys.inside(number, name))
        if "self_attn.o_proj" in parts:
            context = keys.inside(number, keys.CONTEXT)

            def keep_context(_module: Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
                self.keep(context, layouts.first_tensor((*args, *options.values())))

            stack.callback(parts["self_attn.o_proj"].register_forward_pre_hook(keep_context, with_kwargs=True).remove)
        if keys.PACKED_QKV in parts:
            self.hook(stack, parts[keys.PACKED_QKV], keys.packed_qkv(number))
        if keys.ROTARY in parts:

            def keep_rotated(_module: Module, _args: Any, output: Any) -> None:
                self.keep_flat_rotated(number, output)

            stack.callback(parts[keys.ROTARY].register_forward_hook(keep_rotated).remove)
        if "self_attn" in parts:
            enter, leave = self.attention_hooks(number)
            stack.callback(parts["self_attn"].register_forward_pre_hook(enter).remove)
            stack.callback(parts["self_attn"].register_forward_hook(leave).remove)
        if "mlp.gate" in parts:

            def keep_router(_module: Module, _args: Any, output: Any) -> None:
                self.keep_routing(number, layouts.routing(output))

            stack.callback(parts["mlp.gate"].register_forward_hook(keep_router).remove)

    def attention_hooks(self, number: int) -> tuple[Callable[..., None], Callable[..., None]]:
        """What tells that the attention of a layer runs, before and behind it."""

        def enter(_module: Module, _args: Any) -> None:
            self.attending = number

        def leave(_module: Module, _args: Any, _output: Any) -> None:
            self.attending = None

        return enter, leave

    def hook(
        self, stack: ExitStack, module: Module, key: str, part: Callable[[Any], Any] = layouts.first_tensor
    ) -> None:
        """Keeps `part` of what `module` returns under `key`."""

        def keep(_module: Module, _args: Any, output: Any) -> None:
            self.keep(key, part(output))

        stack.callback(module.register_forward_hook(keep).remove)

    def told(self, module: Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Notes a call's arguments; those of the outermost module count."""
        if module is self.decoder.path[0]:
            self.call = {}
        self.call = calls.arguments(module, args, options) | self.call

    def begin(self, module: Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Begins a pass when the decoder is called."""
        call, self.call = self.call, {}
        found = calls.dims(call)
        if found is None:
            raise ValueError("the decoder was called without input_ids or inputs_embeds, by which a pass is known")
        batch, length = found
        ids, mask = calls.grid(call.get("input_ids")), calls.grid(call.get("attention_mask"))
        self.now = self.passes.begin(batch, length, calls.past(call, length), ids, mask)

    def keep(self, key: str, tensor: Any) -> None:
        """Keeps a tensor of the pass that runs."""
        now = self.now
        if now is None or tensor is None or not now.wanted or key in now.tensors:
            return
        length = now.known + now.length
        arrange = layouts.head_rows if key.endswith(keys.BY_HEAD) else layouts.token_rows
        array = arrange(layouts.copied(tensor), now.batch, length, self.mask_here(length))
        if array is not None:
            now.keep(key, array)

    def mask_here(self, length: int) -> np.ndarray | None:
        """The mask [batch, length] of the pass that runs."""
        mask = self.now.mask
        return None if mask is None or mask.shape[1] < length else mask[:, mask.shape[1] - length :]

    def keep_logits(self, _module: Module, _args: Any, output: Any) -> None:
        """Keeps the logits of all tokens, or of the last."""
        now, tensor = self.now, layouts.first_tensor(output)
        if now is None or tensor is None or now.last_logits is not None:
            return
        array = layouts.copied(tensor)
        length = now.known + now.length
        rows = layouts.token_rows(array, now.batch, length, self.mask_here(length))
        if rows is None:
            rows = layouts.token_rows(array, now.batch, 1, None)
        if rows is not None:
            now.keep_logits(rows)

    def keep_returned_logits(self, _module: Module, _args: Any, output: Any) -> None:
        """Keeps the logits in what the model returns."""
        logits = getattr(output, "logits", None)
        if logits is not None:
            self.keep_logits(_module, _args, logits)

    def keep_routing(self, number: int, found: dict[str, np.ndarray]) -> None:
        """Keeps what a router gave, each [tokens, num_experts]."""
        now = self.now
        if now is None or not now.wanted or not found:
            return
        arrays = {keys.ROUTER_LOGITS: found["logits"]}
        if "experts" in found:
            num_experts = found["logits"].shape[1]
            ones = np.ones_like(found["weights"])
            arrays[keys.CHOSEN_EXPERTS] = layouts.dense(ones, found["experts"], num_experts)
            arrays[keys.EXPERT_WEIGHTS] = layouts.dense(found["weights"], found["experts"], num_experts)
        length = now.known + now.length
        for name, array in arrays.items():
            rows = layouts.token_rows(array, now.batch, length, self.mask_here(length))
            if rows is not None:
                now.keep(keys.inside(number, name), rows)

    def keep_rotated(self, queries: Any, rotated_keys: Any, unsqueeze_dim: int) -> None:
        """Keeps queries and keys behind RoPE of the layer whose attention runs."""
        now, number = self.now, self.attending
        if now is None or number is None or not now.wanted:
            return
        for name, projection, value in (
            (keys.Q_ROPE, "self_attn.q_norm", queries),
            (keys.K_ROPE, "self_attn.k_norm", rotated_keys),
        ):
            normed = now.tensors.get(keys.inside(number, projection))
            if normed is not None:
                heads, head_dim = normed.shape[2:]
                length = now.known + now.length
                array = rotary.heads_first(value, now.batch, length, heads * head_dim, head_dim, unsqueeze_dim)
                if array is not None:
                    now.keep(keys.inside(number, name), array)

    def keep_flat_rotated(self, number: int, output: Any) -> None:
        """Keeps the queries and keys that a rotary module of the attention returns, each [.., heads * head_dim]."""
        now = self.now
        if now is None or not now.wanted or not isinstance(output, (tuple, list)) or len(output) != 2:
            return
        length = now.known + now.length
        found = {}
        for name, projection, value in (
            (keys.Q_ROPE, "self_attn.q_norm", output[0]),
            (keys.K_ROPE, "self_attn.k_norm", output[1]),
        ):
            normed, tensor = now.tensors.get(keys.inside(number, projection)), layouts.first_tensor(value)
            if normed is None or tensor is None:
                return
            heads, head_dim = normed.shape[2:]
            rows = layouts.token_rows(layouts.copied(tensor), now.batch, length, self.mask_here(length))
            if rows is None or rows.shape[2] != heads * head_dim:
                # Cosines and sines, of an older Transformers.
                return
            found[name] = rows.reshape(now.batch, length, heads, head_dim).swapaxes(1, 2)
        if found[keys.Q_ROPE].shape[1] > 1:
            for name, array in found.items():
                now.keep(keys.inside(number, name), array)
