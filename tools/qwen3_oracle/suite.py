"""Which cases each checkpoint has, and their computation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from . import (
    adapters,
    attention_cases,
    clear_prompts,
    gradient_cases,
    layer_cases,
    prefill_cases,
    reference,
    sparse,
    tiny,
    trained,
)
from .cases import Case
from .checkpoint import DTYPES, read_config
from .floors import require
from .layer_cases import LayerCases
from .prompts import DEFAULT_PROMPTS
from .reference import FullCases

SEED = 42
SHORT = "Hello"
QUESTION = "What is 2+2?"
LONG = "The quick brown fox jumps over the lazy."
UNEQUAL = [QUESTION, SHORT, "What is"]


@dataclass(frozen=True)
class Plan:
    """The cases of one checkpoint: the layer, the prompts, and which optional cases there are.

    `decoder` is the layer step by step. `far` are those that need many positions: RoPE at 32,768 and long prompts in chunks. `gradients` are the dtypes
    of the backward pass, if there is one; its file is as large as the checkpoint in float32. `clear` and
    `unequal_clear` are the lengths of prompts as `clear_prompts` makes them, in place of texts, for a checkpoint with
    experts.
    """

    layer: int
    prompts: list[str]
    new_tokens: int
    module_cases: bool
    decoder_left_padded: bool
    unequal: list[str]
    unequal_new_tokens: int = 6
    decoder: bool = True
    far: bool = False
    gradients: tuple[str, ...] = ()
    clear: tuple[int, ...] = ()
    unequal_clear: tuple[int, ...] = ()


PLANS = {
    "gqa-tied": Plan(
        1,
        [SHORT, QUESTION, LONG],
        8,
        module_cases=True,
        decoder_left_padded=True,
        unequal=UNEQUAL,
        gradients=tuple(DTYPES),
    ),
    "mha-untied": Plan(1, [QUESTION], 8, module_cases=False, decoder_left_padded=False, unequal=[], gradients=("f32",)),
    "gqa-sharded": Plan(1, [SHORT, QUESTION], 8, module_cases=False, decoder_left_padded=False, unequal=[]),
    "bias-tied": Plan(
        1, [QUESTION], 8, module_cases=True, decoder_left_padded=True, unequal=UNEQUAL, gradients=("f32",)
    ),
    "long-context": Plan(1, [], 0, module_cases=False, decoder_left_padded=False, unequal=[], far=True),
    "window": Plan(
        1,
        ["Hi", SHORT, QUESTION, LONG],
        8,
        module_cases=True,
        decoder_left_padded=True,
        unequal=UNEQUAL,
        gradients=("f32",),
    ),
    "yarn": Plan(1, [SHORT, QUESTION, LONG], 8, module_cases=True, decoder_left_padded=False, unequal=[]),
    "window-yarn": Plan(2, [], 0, module_cases=False, decoder_left_padded=False, unequal=[], far=True),
    "fp8": Plan(1, [QUESTION], 8, module_cases=False, decoder_left_padded=False, unequal=[]),
    "experts": Plan(
        1,
        [],
        6,
        module_cases=True,
        decoder_left_padded=True,
        unequal=[],
        clear=(4, 9, 16),
        unequal_clear=(7, 3, 5),
        unequal_new_tokens=4,
        gradients=("f32",),
    ),
    "experts-mixed": Plan(
        1,
        [],
        6,
        module_cases=False,
        decoder_left_padded=False,
        unequal=[],
        clear=(5, 12),
        gradients=("f32",),
    ),
    "experts-ties": Plan(
        1, [], 6, module_cases=False, decoder_left_padded=False, unequal=[], clear=(8,), decoder=False
    ),
    trained.NAME: Plan(1, [trained.QUESTION], 14, module_cases=False, decoder_left_padded=False, unequal=[]),
}


def plan_for(path: Path, layer: int | None, new_tokens: int, gradients: tuple[str, ...] = ()) -> Plan:
    """All cases of one existing checkpoint; its middle layer unless told."""
    middle = read_config(path).num_hidden_layers // 2
    return Plan(
        middle if layer is None else layer,
        DEFAULT_PROMPTS,
        new_tokens,
        module_cases=True,
        decoder_left_padded=True,
        unequal=DEFAULT_PROMPTS,
        unequal_new_tokens=new_tokens,
        gradients=gradients,
    )


def make(name: str, path: Path, plan: Plan, folder: PurePosixPath, floors: list[str], root: Path) -> list[Case]:
    """Computes the cases of one checkpoint and writes their files below `root`/`folder`."""
    maker = LayerCases(path, plan.layer, name, folder / f"layer-{plan.layer}")
    on_layer = maker.module_cases() if plan.module_cases else []
    if plan.decoder:
        on_layer.append(maker.decoder())
    if plan.decoder_left_padded:
        on_layer.append(maker.decoder_left_padded())
    if plan.far:
        on_layer.append(maker.far())
    if on_layer:
        layer_cases.compute(on_layer, path, floors)

    full = FullCases(path, name, folder)
    on_model = [full.prompt(number, text, plan.new_tokens) for number, text in enumerate(plan.prompts, 1)]
    if plan.unequal:
        on_model.append(full.left_padded(plan.unequal, plan.unequal_new_tokens))
    if plan.clear:
        on_model += clear_cases(path, plan, full)
    reference.compute(on_model, path, floors)
    in_chunks = prefill_cases.cases(path, name, folder) if plan.far else []
    if in_chunks:
        prefill_cases.compute(in_chunks, path, floors)
    backward = [gradient_cases.case(path, name, folder, UNEQUAL)] if plan.gradients else []
    if backward:
        gradient_cases.compute(backward, path, [dtype for dtype in floors if dtype in plan.gradients])

    for case in on_layer:
        layer_cases.write(case, root / case.file)
    for case in on_model:
        reference.write(case, root / case.file)
    for case in in_chunks:
        prefill_cases.write(case, root / case.file)
    for case in backward:
        gradient_cases.write(case, root / case.file)
    roundtrip = Case(
        id=f"{name}/record-roundtrip",
        kind="record_roundtrip",
        description="checkpoint to Burn record and back, bit by bit",
        checkpoint=name,
        file=folder,
        inputs={},
    )
    return [*on_layer, *on_model, *in_chunks, *backward, roundtrip]


def clear_cases(path: Path, plan: Plan, full: FullCases) -> list[Case]:
    """The cases on prompts that are sure of their experts."""
    maker = clear_prompts.Maker.of(path, SEED)
    sparse.check_published(path, maker.exact)
    prompts = [maker.prompt(length, plan.new_tokens) for length in plan.clear]
    cases = [full.token_ids(number, ids, plan.new_tokens) for number, ids in enumerate(prompts, 1)]
    if plan.unequal_clear:
        rows = [maker.prompt(length, plan.unequal_new_tokens) for length in plan.unequal_clear]
        cases.append(full.left_padded_ids(rows, plan.unequal_new_tokens))
    return cases


def make_adapted(adapter: adapters.Tiny, path: Path, root: Path) -> Case:
    """Writes an adapter below `root`/fixtures, and the case of its checkpoint with it, as PEFT runs it unmerged."""
    adapters.write(adapter, path, adapter.folder(root))
    full = FullCases(path, adapter.name, PurePosixPath("fixtures") / adapter.name)
    case = full.prompt(1, adapter.prompt, adapter.new_tokens)
    case.description += f"; with a LoRA adapter on {adapter.checkpoint}"
    reference.compute([case], path, list(DTYPES), adapters.Adapter(adapter.folder(root)))
    reference.write(case, root / case.file)
    return case


def required(case: Case) -> list[str]:
    """The dtypes that a case of a tiny checkpoint is run in."""
    if case.kind == gradient_cases.KIND:
        return list(PLANS[case.checkpoint].gradients)
    return prefill_cases.floor_dtypes(case, DTYPES)


def make_tiny(root: Path) -> tuple[dict[str, Path], list[Case]]:
    """Writes the tiny checkpoints and all their cases below `root`/fixtures, with floors in every dtype.

    The trained checkpoint has to be there.
    """
    checkpoints, cases = {}, []
    for checkpoint in tiny.CHECKPOINTS:
        name = checkpoint.name
        path = checkpoints[name] = root / "fixtures" / "checkpoints" / name
        tiny.write(checkpoint, path)
        cases += make(name, path, PLANS[name], PurePosixPath("fixtures") / name, list(DTYPES), root)
    path = checkpoints[trained.NAME] = root / trained.FOLDER
    folder = PurePosixPath("fixtures") / trained.NAME
    cases += make(trained.NAME, path, PLANS[trained.NAME], folder, list(DTYPES), root)
    for tiny_adapter in adapters.ADAPTERS:
        cases.append(make_adapted(tiny_adapter, checkpoints[tiny_adapter.checkpoint], root))
    alone = attention_cases.make(list(DTYPES))
    for case in alone:
        attention_cases.write(case, root / case.file)
    cases += alone
    for case in cases:
        require(case, required(case))
    return checkpoints, cases
