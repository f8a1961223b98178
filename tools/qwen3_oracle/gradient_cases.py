"""The cases of the backward pass: the loss of a causal language model and its gradient in every parameter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import torch
from torch import nn
from transformers import Qwen3ForCausalLM

from . import prompts, reference, sparse
from .cases import Case, Tensors
from .checkpoint import DTYPES, load_model, read_config
from .errors import CheckError
from .files import write_npz
from .floors import add_floors
from .precise import float64_inside

KIND = "gradients"
PREFIX = "gradient."
IGNORED = -100
STEP = 1e-5


def case(path: Path, checkpoint: str, folder: PurePosixPath, texts: list[str]) -> Case:
    """A case without results on a left-padded batch of `texts`; its file goes to `folder`."""
    rows = [prompts.encode(path, read_config(path).vocab_size, text) for text in texts]
    lengths = ", ".join(str(len(row)) for row in rows)
    return Case(
        id=f"{checkpoint}/gradients",
        kind=KIND,
        description=f"next-token loss and its gradients, a left-padded batch of {lengths} tokens",
        checkpoint=checkpoint,
        file=folder / "gradients.npz",
        inputs=prompts.left_padded(rows),
    )


def targets(case: Case) -> torch.Tensor:
    """The token that follows each but the last, [batch, seq - 1]; `IGNORED` behind padding."""
    ids, mask = case.inputs["input_ids"], reference.full_mask(case)
    return ids[:, 1:].masked_fill(mask[:, :-1] == 0, IGNORED)


def loss(case: Case, model: Qwen3ForCausalLM) -> torch.Tensor:
    """The mean cross entropy of the next tokens, as `ForCausalLMLoss` has it: in float32, or in float64."""
    mask = reference.full_mask(case)
    logits = model(
        case.inputs["input_ids"], attention_mask=mask, position_ids=reference.positions(mask), use_cache=False
    ).logits
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets(case).flatten(), ignore_index=IGNORED)


def run(case: Case, model: Qwen3ForCausalLM) -> Tensors:
    """`loss` [1] and `gradient.<key>`, of the parameter's shape, for each key of the checkpoint."""
    parameters = dict(model.named_parameters())
    with torch.enable_grad():
        model.requires_grad_(True)
        value = loss(case, model)
        gradients = torch.autograd.grad(value, list(parameters.values()))
    found = {PREFIX + key: gradient for key, gradient in zip(parameters, gradients, strict=True)}
    return {"loss": value.detach()[None]} | sparse.split(found)


def check_differences(case: Case, model: Qwen3ForCausalLM) -> None:
    """Fails unless a small step along each gradient changes the float64 loss as the gradient says."""
    gradients = sparse.fused(case.expected)
    for key, parameter in model.named_parameters():
        gradient = gradients[PREFIX + key]
        length = gradient.norm().item()
        direction = gradient / length if length else gradient
        original, values = parameter.data, []
        for sign in (1, -1):
            parameter.data = original + sign * STEP * direction
            values.append(loss(case, model).item())
        parameter.data = original
        slope = (values[0] - values[1]) / (2 * STEP)
        if not abs(slope - length) <= 1e-5 * length + 1e-9:
            raise CheckError(f"{case.id}: along {key} the loss has slope {slope:.9g}, the gradient {length:.9g}")


def share_floors(case: Case, dtype: str) -> None:
    """Gives every expert that has a token the largest floor of its layer: one alone has few tokens to be off in."""
    alike: dict[tuple[str, str], list[dict[str, float]]] = {}
    for name, floors in case.floors.items():
        found = sparse.EXPERT.match(name)
        if found and case.expected[name].any():
            alike.setdefault((found["block"], found["name"]), []).append(floors[dtype])
    for floors in alike.values():
        largest = {kind: max(floor[kind] for floor in floors) for kind in ("max_abs", "rms")}
        for floor in floors:
            floor.update(largest)


def compute(cases: Iterable[Case], path: Path, floors: list[str]) -> None:
    """Fills in the cases' float64 results and the floors in each dtype of `floors`, one model in memory at a time."""
    cases = list(cases)
    model = load_model(path, torch.float64)
    with float64_inside():
        for case in cases:
            case.expected = run(case, model)
            if model.num_parameters() < reference.SMALL:
                check_differences(case, model)
    for name in floors:
        del model
        model = load_model(path, DTYPES[name])
        for case in cases:
            add_floors(case, name, run(case, model))
            share_floors(case, name)


def write(case: Case, file: Path) -> None:
    """Writes inputs and results, float32 and int64, into one npz."""
    write_npz(file, reference.arrays(case.inputs | case.expected))
