"""The cases that read long prompts in chunks; only the columns around the chunks' edges are stored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import torch
from transformers import DynamicCache, Qwen3ForCausalLM

from . import draws, layer_runs, prompts, reference
from .cases import Case, Tensors, without_padding
from .checkpoint import DTYPES, load_model, read_config
from .errors import CheckError
from .files import write_npz
from .floors import add_floors
from .precise import float64_inside

KIND = "prefill"
SEED = 42
OTHER_CHUNK = 193
LONG = 1000
LENGTHS = [
    ([1], 64, "a single token"),
    ([2], 1, "chunks of a single token"),
    ([64], 64, "the prompt ends on the edge of its chunk"),
    ([63, 64, 65], 64, "one token before, on and after the edge, left-padded"),
    ([257], 256, "one token beyond the edge"),
    ([1, 64, 255, 256, 257], 256, "the first chunk is padding only in the shortest row, left-padded"),
    ([1024], 256, "four full chunks"),
    ([4097], 1024, "four full chunks and one token"),
]


def floor_dtypes(case: Case, dtypes: Iterable[str]) -> list[str]:
    """The dtypes of `dtypes` that a case is run in: long prompts in float32 only, for half precision is slow."""
    long = case.kind == KIND and case.inputs["input_ids"].shape[1] > LONG
    return [dtype for dtype in dtypes if dtype == "f32" or not long]


def columns(lengths: list[int], chunk_size: int) -> torch.Tensor:
    """The columns of `input_ids` that are stored: the ends, and two on either side of a chunk's or a row's start."""
    longest = max(lengths)
    edges = {0, longest} | set(range(chunk_size, longest, chunk_size)) | {longest - length for length in lengths}
    near = {edge + offset for edge in edges for offset in (-2, -1, 0, 1)}
    return torch.tensor(sorted(column for column in near if 0 <= column < longest))


def case(path: Path, checkpoint: str, folder: PurePosixPath, lengths: list[int], chunk_size: int, text: str) -> Case:
    """A case without results on prompts of random tokens."""
    name = f"prefill-{'-'.join(map(str, lengths))}-chunk-{chunk_size}"
    vocab_size = read_config(path).vocab_size
    streams = [draws.generator(SEED, f"{name}-{row}") for row in range(len(lengths))]
    rows = [stream.integers(vocab_size, size=n).tolist() for stream, n in zip(streams, lengths, strict=True)]
    inputs = prompts.left_padded(rows)
    if len(set(lengths)) == 1:
        del inputs["attention_mask"]
    return Case(
        id=f"{checkpoint}/{name}",
        kind=KIND,
        description=f"prompt lengths {', '.join(map(str, lengths))}, chunks of {chunk_size}: {text}",
        checkpoint=checkpoint,
        file=folder / f"{name}.npz",
        inputs=inputs | {"columns": columns(lengths, chunk_size)},
        chunk_size=chunk_size,
    )


def cases(path: Path, checkpoint: str, folder: PurePosixPath) -> list[Case]:
    """One case for each of `LENGTHS`; case files go to `folder`, relative to the manifest."""
    return [case(path, checkpoint, folder, *plan) for plan in LENGTHS]


def run(case: Case, model: Qwen3ForCausalLM, chunk_size: int | None = None) -> Tensors:
    """`final_norm_output` [batch, n, hidden] and `logits` [batch, n, vocab] at the case's n columns."""
    ids, mask = case.inputs["input_ids"], reference.full_mask(case)
    length, step = ids.shape[1], chunk_size or case.chunk_size
    cache = DynamicCache(config=model.config)
    parts: dict[str, list[torch.Tensor]] = {"final_norm_output": [], "logits": []}
    for start in range(0, length, step):
        end = min(start + step, length)
        with layer_runs.recorded_outputs(model.model, ("norm",)) as record:
            logits = reference.forward(model, ids[:, start:end], mask[:, :end], cache)
        wanted = [column - start for column in case.inputs["columns"].tolist() if start <= column < end]
        parts["final_norm_output"].append(record["norm"][:, wanted])
        parts["logits"].append(logits[:, wanted])
    return {name: torch.cat(part, dim=1) for name, part in parts.items()}


def check_other_chunks(case: Case, model: Qwen3ForCausalLM) -> None:
    """Fails unless chunks with other edges give the same logits in float64."""
    logits = without_padding(case, run(case, model, OTHER_CHUNK))["logits"]
    difference = (logits - case.expected["logits"]).abs().max().item()
    if not difference <= 1e-10 * logits.abs().max().item():
        raise CheckError(f"{case.id}: chunks of {OTHER_CHUNK} differ by {difference:.3g}")


def compute(cases: list[Case], path: Path, floors: list[str]) -> None:
    """Fills in the cases' float64 results, then the floors in each dtype of `floors`, one model in memory at a time."""
    model = load_model(path, torch.float64)
    with float64_inside():
        for case in cases:
            case.expected = without_padding(case, run(case, model))
            check_other_chunks(case, model)
    for case in cases:
        # As in `reference.published_difference`: rows of padding overflow in float64.
        if "attention_mask" not in case.inputs:
            difference = run(case, model)["logits"] - case.expected["logits"]
            case.published_difference = difference.abs().max().item()
    for name in floors:
        del model
        model = load_model(path, DTYPES[name])
        for case in cases:
            if name in floor_dtypes(case, floors):
                add_floors(case, name, without_padding(case, run(case, model)))
    for case in cases:
        reference.check_published(case)


def write(case: Case, file: Path) -> None:
    """Writes inputs and results, float32 and int64, into one npz."""
    write_npz(file, reference.arrays(case.inputs | case.expected))
