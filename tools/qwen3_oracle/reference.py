"""Reference activations of a whole model: a prompt's forward pass, then greedy decoding."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM

from . import isolated, layer_runs, prompts, sparse, stored
from .adapters import Adapter, load_adapted
from .cases import Case, Tensors, without_padding
from .checkpoint import DTYPES, read_config
from .errors import CheckError, InputError
from .files import write_npz
from .floors import add_floors
from .precise import float64_inside
from .taps import ROUTER, TAPS

SMALL = 10_000_000
# Of whole runs, and of modules that are given the right input.
FLOOR = "noise_floor"
ISOLATED_FLOOR = "noise_floor_isolated"


@dataclass
class Decoding:
    """Prompt and generated tokens [batch, length + new], and the logits [batch, new, vocab] that chose the latter."""

    generated_ids: torch.Tensor
    step_logits: torch.Tensor


def full_mask(case: Case) -> torch.Tensor:
    """The attention mask [batch, length], 1 everywhere without padding."""
    return case.inputs.get("attention_mask", torch.ones_like(case.inputs["input_ids"]))


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Positions [batch, length] as `generate` counts them: 0 at the first token that is no padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def forward(model: Qwen3ForCausalLM, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
    """Logits [batch, length, vocab] of the new tokens `ids`, after those in the cache; `mask` covers both."""
    position_ids = positions(mask)[:, -ids.shape[1] :]
    return model(ids, attention_mask=mask, position_ids=position_ids, past_key_values=cache, use_cache=True).logits


def decode(
    model: Qwen3ForCausalLM, case: Case, first: torch.Tensor, cache: DynamicCache, inside: Tensors | None = None
) -> Decoding:
    """Decodes from the first logits [batch, vocab]: greedily, or along `generated_ids` when the case has them.

    Adds to `inside`, if given, what passes through the model in each cached step: `step_001.layer_00_output`.
    """
    ids, mask = case.inputs["input_ids"], full_mask(case)
    given = case.expected.get("generated_ids")
    logits, steps = first, []
    for step in range(case.new_tokens):
        steps.append(logits)
        token = logits.argmax(-1) if given is None else given[:, case.inputs["input_ids"].shape[1] + step]
        ids = torch.cat((ids, token[:, None]), dim=1)
        if step + 1 < case.new_tokens:
            mask = torch.cat((mask, torch.ones_like(token)[:, None]), dim=1)
            if inside is None:
                logits = forward(model, token[:, None], mask, cache)[:, -1]
                continue
            recorded = forward_recorded(case, model, cache, token[:, None], mask)
            logits = recorded["logits"][:, -1]
            inside |= {f"step_{step + 1:03}.{name}": tensor for name, tensor in recorded.items()}
    return Decoding(ids, torch.stack(steps, dim=1))


def layer_tensors(case: Case, config: Qwen3Config, index: int) -> dict[str, str]:
    """The names of what is stored of layer `index`, by its names inside the layer, in the order of computation."""
    there = [name for name in TAPS if name not in ROUTER or sparse.is_sparse(config, index)]
    taps = {name: f"layer_{index:02}.{name}" for name in there} if case.taps else {}
    return taps | {"output": f"layer_{index:02}_output"}


def forward_recorded(
    case: Case,
    model: Qwen3ForCausalLM,
    cache: DynamicCache,
    ids: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> Tensors:
    """The activations of a forward pass, in the order of computation: of the prompt, or of new tokens behind it.

    `mask` covers those cached, too.
    """
    if ids is None or mask is None:
        ids, mask = case.inputs["input_ids"], full_mask(case)
    with ExitStack() as stack:
        ends = stack.enter_context(layer_runs.recorded_outputs(model.model, ("embed_tokens", "norm")))
        layers = [stack.enter_context(layer_runs.recorded_layer(layer, case.taps)) for layer in model.model.layers]
        logits = forward(model, ids, mask, cache)
    result = {"embedding_output": ends["embed_tokens"]}
    for index, record in enumerate(layers):
        result |= {name: record[inside] for inside, name in layer_tensors(case, model.config, index).items()}
    return result | {"final_norm_output": ends["norm"], "logits": logits}


def run(case: Case, model: Qwen3ForCausalLM) -> Tensors:
    """Everything `reference.npz` holds beside the inputs, in the model's dtype.

    embedding_output, layer_XX_output, final_norm_output [batch, length, hidden], logits [batch, length, vocab],
    rope_cos and rope_sin [max_position_embeddings, head_dim], generated_ids [batch, length + new],
    step_logits [batch, new, vocab]; with the case's taps also layer_XX.<tap> for each of `taps.TAPS`.
    """
    cache = DynamicCache(config=model.config)
    recorded = forward_recorded(case, model, cache)
    inside: Tensors | None = {} if case.steps else None
    decoding = decode(model, case, recorded["logits"][:, -1], cache, inside)
    every = torch.arange(model.config.max_position_embeddings)[None]
    cos, sin = model.model.rotary_emb(recorded["logits"], every)
    return (
        recorded
        | (inside or {})
        | {
            "generated_ids": decoding.generated_ids,
            "rope_cos": cos[0],
            "rope_sin": sin[0],
            "step_logits": decoding.step_logits,
        }
    )


def margins(step_logits: torch.Tensor) -> torch.Tensor:
    """Top-1 minus top-2 of each step's logits: [batch, new, vocab] -> [batch, new]."""
    first, second = step_logits.topk(2, dim=-1).values.unbind(-1)
    return first - second


def check_uncached(case: Case, model: Qwen3ForCausalLM) -> None:
    """Fails unless one run over prompt and generated tokens, without a cache, gives the cached run's logits."""
    ids = case.expected["generated_ids"][:, :-1]
    mask = torch.nn.functional.pad(full_mask(case), (0, case.new_tokens - 1), value=1)
    logits = model(ids, attention_mask=mask, position_ids=positions(mask), use_cache=False).logits
    difference = (logits[:, -case.new_tokens :] - case.expected["step_logits"]).abs().max().item()
    if not difference <= 1e-10 * logits.abs().max().item():
        raise CheckError(f"{case.id}: decoding with a cache differs by {difference:.3g} from a run without")


def published_difference(case: Case, model: Qwen3ForCausalLM) -> float | None:
    """The largest difference in the logits between published Transformers and the oracle, both on float64 weights.

    None with padding: a row of float64 mask minima overflows in the published float32 softmax.
    """
    if "attention_mask" in case.inputs:
        return None
    logits = forward(model, case.inputs["input_ids"], full_mask(case), DynamicCache(config=model.config))
    return (logits - case.expected["logits"]).abs().max().item()


def check_published(case: Case) -> None:
    """Fails unless published Transformers on float64 weights agrees with the oracle up to float32 roundings.

    It computes norms, softmax and RoPE in float32, so it must differ, by no more than a few float32 floors.
    """
    difference, floor = case.published_difference, case.floors["logits"].get("f32")
    if difference is None or floor is None:
        return
    if not 0 < difference <= 4 * floor["max_abs"]:
        raise CheckError(
            f"{case.id}: oracle and published code differ by {difference:.3g}, the f32 floor is {floor['max_abs']:.3g}"
        )


def compute(cases: list[Case], path: Path, floors: list[str], adapter: Adapter | None = None) -> None:
    """Fills in the cases' float64 results, then the floors in each dtype of `floors`, one model in memory at a time.

    With an adapter, PEFT's.
    """
    model = load_adapted(path, torch.float64, adapter)
    with float64_inside():
        for case in cases:
            case.expected = without_padding(case, run(case, model))
            case.expected["margins"] = margins(case.expected["step_logits"])
            if model.num_parameters() < SMALL:
                check_uncached(case, model)
    for case in cases:
        case.published_difference = published_difference(case, model)
    for name in floors:
        del model
        model = load_adapted(path, DTYPES[name], adapter)
        for case in cases:
            add_floors(case, name, without_padding(case, run(case, model)))
            isolated.add_floors(case, name, model)
    for case in cases:
        check_published(case)


class FullCases:
    """Makes the cases on a whole checkpoint; case files go to `folder`, relative to the manifest."""

    def __init__(self, path: Path, checkpoint: str, folder: PurePosixPath) -> None:
        self.path = path
        self.checkpoint = checkpoint
        self.folder = folder
        self.config = read_config(path)
        self.origin = prompts.origin(path)

    def case(self, name: str, text: str, new_tokens: int, inputs: Tensors) -> Case:
        """A case without results, in the folder `name`; its tokens must fit the checkpoint's positions."""
        length = inputs["input_ids"].shape[1] + new_tokens
        if length > self.config.max_position_embeddings:
            raise InputError(
                f"{text}: {length} tokens, the checkpoint has {self.config.max_position_embeddings} positions"
            )
        return Case(
            id=f"{self.checkpoint}/{name}",
            kind="full_model",
            description=text,
            checkpoint=self.checkpoint,
            file=self.folder / name / "reference.npz",
            inputs=inputs,
            new_tokens=new_tokens,
        )

    def prompt(self, number: int, prompt: str, new_tokens: int) -> Case:
        """`prompt<number>`: one prompt, no padding."""
        ids = prompts.encode(self.path, self.config.vocab_size, prompt)
        text = f"prompt {prompt!r}, {len(ids)} tokens from {self.origin}, {new_tokens} generated"
        return self.case(f"prompt{number}", text, new_tokens, {"input_ids": torch.tensor([ids])})

    def token_ids(self, number: int, ids: list[int], new_tokens: int) -> Case:
        """`prompt<number>`: one prompt given as token ids, no padding."""
        if max(ids) >= self.config.vocab_size:
            raise InputError(f"token {max(ids)} is none of {self.path}, whose vocabulary has {self.config.vocab_size}")
        text = f"prompt of {len(ids)} given tokens, {new_tokens} generated"
        return self.case(f"prompt{number}", text, new_tokens, {"input_ids": torch.tensor([ids])})

    def left_padded(self, texts: list[str], new_tokens: int) -> Case:
        """`left-padded`: prompts of unequal length in one batch."""
        rows = [prompts.encode(self.path, self.config.vocab_size, text) for text in texts]
        return self.left_padded_ids(rows, new_tokens, f" from {self.origin}")

    def left_padded_ids(self, rows: list[list[int]], new_tokens: int, origin: str = "") -> Case:
        """`left-padded`: prompts of unequal length, given as token ids, in one batch."""
        lengths = ", ".join(str(len(row)) for row in rows)
        text = f"a left-padded batch of prompts of {lengths} tokens{origin}, {new_tokens} generated"
        return self.case("left-padded", text, new_tokens, prompts.left_padded(rows))


def arrays(tensors: Tensors) -> dict[str, np.ndarray]:
    """The tensors as float32 and int64 arrays."""
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy() for name, tensor in tensors.items()
    }


def write(case: Case, file: Path) -> None:
    """Writes inputs and results, float32 and int64, and their floors into one npz.

    The floor of tensor T in dtype D is `noise_floor.<D>.<T>`, float64 [2]: the largest and the root-mean-square error;
    that of modules which are given the right input is `noise_floor_isolated.<D>.<T>`.
    """
    floors = {
        f"{kind}.{dtype}.{name}": np.array([floor["max_abs"], floor["rms"]])
        for kind, of_tensors in ((FLOOR, case.floors), (ISOLATED_FLOOR, case.isolated_floors))
        for name, by_dtype in of_tensors.items()
        for dtype, floor in by_dtype.items()
    }
    write_npz(file, arrays(case.inputs | case.expected) | floors)


def read(file: Path) -> Case:
    """The case that `write` wrote; a file of another origin may lack floors."""
    if file.suffix != ".npz":
        raise InputError(f"{file} is no npz file")
    try:
        tensors = stored.read_tensors(file)
    except (ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{file} is no npz file of arrays") from error
    if not {"input_ids", "generated_ids"} <= set(tensors):
        raise InputError(f"{file} has no input_ids or no generated_ids")
    case = Case(
        id=file.stem,
        kind="full_model",
        description="",
        checkpoint="",
        file=PurePosixPath(file.name),
        inputs={name: tensors.pop(name) for name in ("input_ids", "attention_mask") if name in tensors},
    )
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind in (FLOOR, ISOLATED_FLOOR):
            dtype, _, of = rest.partition(".")
            floors = case.floors if kind == FLOOR else case.isolated_floors
            floors.setdefault(of, {})[dtype] = dict(zip(("max_abs", "rms"), tensor.tolist(), strict=True))
        else:
            case.expected[name] = tensor
    case.new_tokens = case.expected["generated_ids"].shape[1] - case.inputs["input_ids"].shape[1]
    case.taps = any(name.startswith("layer_00.") for name in case.expected)
    return case


def smallest_margin(case: Case) -> float:
    """The case's smallest top-1/top-2 margin."""
    return case.expected["margins"].min().item()


def step_noise(case: Case) -> dict[str, float]:
    """The floors of the logits that choose tokens, by dtype; a margin under twice such a floor may flip."""
    return {dtype: floor["max_abs"] for dtype, floor in case.floors["step_logits"].items()}
