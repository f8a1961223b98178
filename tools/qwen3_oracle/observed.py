"""Activations with a planted mistake, where they first leave a reference, and those that the repository holds."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import torch

from . import adapters, reference, sensitivity
from .adapters import Adapter, load_adapted
from .cases import Case, Tensors, activations, without_padding
from .checkpoint import DTYPES, read_config
from .errors import CheckError, InputError
from .files import write_npz
from .mistakes.catalogue import MISTAKES, Mistake
from .mistakes.planting import Subject

FOLDER = PurePosixPath("fixtures")
DTYPE = "f32"
# Largest error of a tap as a share of its largest value: far beyond what float32 does.
TAP_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Plan:
    """Observations of one prompt of a tiny checkpoint: the mistakes, all when empty, and the layer, all when None.

    With `taps`, nothing but these of what passes through the layers is kept; with `steps`, what passes through the
    model in each cached step, too, and the mistakes are those that are made there.
    """

    checkpoint: str
    prompt: str
    ids: list[str] = field(default_factory=list)
    layer: int | None = None
    taps: tuple[str, ...] = ()
    steps: bool = False


OF_EXPERTS = [
    "router_softmax_after_topk",
    "experts_permuted",
    "experts_permuted-two",
    "expert_gate_up_swapped",
    "top_k_off",
    "top_k_off-more",
]
PLANS = [
    Plan("gqa-sharded", "prompt2"),
    Plan("gqa-sharded", "prompt2", ids=["kv_swapped", "rope_theta"], taps=("self_attn.q_rope", "mlp")),
    Plan("gqa-sharded", "prompt2", ids=["qk_norm_after_rope"], taps=("self_attn.q_norm", "self_attn.q_rope")),
    Plan(
        "gqa-tied",
        "prompt1",
        ids=[
            "norm_missing",
            "norm_behind_sublayer",
            "norm_behind_residual",
            "residual_of_normed",
            "parallel_mlp-two_norms",
        ],
        taps=("self_attn.o_proj", "post_attention_layernorm", "mlp"),
    ),
    Plan("gqa-tied", "prompt2", ids=["head_untied"]),
    Plan("gqa-tied", "left-padded", steps=True),
    Plan("mha-untied", "prompt1", ids=["weights_f16"]),
    Plan("bias-tied", "prompt1", layer=1),
    Plan(
        "window",
        "prompt3",
        ids=["window_missing", "window_off_by_one", "window_off_by_one-short", "window_in_wrong_layers"],
    ),
    Plan(
        "yarn",
        "prompt3",
        ids=["yarn_missing", "yarn_attention_factor_missing", "yarn_ramp", "yarn_ramp-truncation", "rope_theta"],
    ),
    Plan("experts", "prompt3", ids=["router_not_renormalised", *OF_EXPERTS, "activation_gelu", "expert_zeroed"]),
    Plan(
        "experts-mixed",
        "prompt2",
        ids=["router_renormalised", *OF_EXPERTS, "gate_up_swapped", "window_missing", "window_off_by_one"],
    ),
    Plan(
        "experts-mixed",
        "prompt2",
        ids=[
            "activations_q8_k-but_for_routers",
            "activations_q8_0-and_weights",
            "arithmetic_bf16-but_for_routers",
            "weights_q8_0-and_activations_and_cache",
        ],
        taps=("self_attn.q_rope", "mlp.router_logits", "mlp"),
    ),
    Plan("yarn-rslora", "prompt1"),
]


@dataclass
class Divergence:
    """The first tensor that is off: its layer, None outside the layers, and its error over the tolerance."""

    layer: int | None
    tensor: str
    ratio: float

    def clear(self) -> bool:
        """Whether no reasonable tolerance would let it pass."""
        return not self.ratio <= sensitivity.CLEAR


@dataclass
class Observation:
    """What a model with a mistake shows."""

    mistake: Mistake
    tensors: Tensors
    first: Divergence | None

    def clear(self) -> bool:
        """Whether the mistake shows clearly where it shows first."""
        return self.first is not None and self.first.clear()

    def place(self) -> str:
        """Where the mistake shows first, in words."""
        return f"{self.first.tensor} {self.first.ratio:.3g}" if self.first else "does not show"


def first_divergence(case: Case, observed: Tensors, dtype: str) -> Divergence | None:
    """The first of the case's tensors, in the order of computation, that exceeds its tolerance or is not finite.

    Those that were not observed are left out.
    """
    case = replace(case, expected={name: tensor for name, tensor in case.expected.items() if name in observed})
    for name, ratio in sensitivity.ratios(case, observed, dtype).items():
        if not ratio <= 1:
            layer = re.match(r"layer_(\d+)", name)
            return Divergence(int(layer[1]) if layer else None, name, ratio)
    return None


def wanted(
    path: Path, ids: list[str], layer: int | None, adapter: Adapter | None = None, steps: bool = False
) -> list[list[Mistake]]:
    """The mistakes to plant, those with the same id together; all that are one in the checkpoint without `ids`.

    With an adapter, those that are made in it; with `steps` those that cached steps make, and else the others.
    """
    config = read_config(path)
    if layer is not None and not 0 <= layer < config.num_hidden_layers:
        raise InputError(f"layer {layer} is out of range: {path} has {config.num_hidden_layers} layers")
    if adapter is None:
        mistakes = MISTAKES
    else:
        # Only here: it takes seconds to import.
        from .mistakes.adapter import MISTAKES as mistakes
    explained = [mistake for mistake in mistakes if mistake.explained]
    known = list(dict.fromkeys(mistake.id for mistake in explained))
    in_steps = {mistake.id: mistake.in_steps for mistake in explained}
    result = []
    for name in ids or [name for name in known if in_steps[name] == steps]:
        if name not in known:
            raise InputError(f"{name!r} is none of {', '.join(known)}")
        forms = [mistake for mistake in explained if mistake.id == name]
        possible = [mistake for mistake in forms if mistake.applies(config)]
        if layer is not None and not forms[0].in_layers:
            reason = f"{name} is not inside a layer"
        elif not possible:
            reason = f"{name} is no mistake in {path}: {forms[0].unless}"
        else:
            result.append(possible)
            continue
        if ids:
            raise InputError(reason)
    return result


class Bench:
    """A checkpoint's model as published, in one dtype, and the reference of one prompt that goes with it."""

    def __init__(self, path: Path, file: Path, dtype: str, adapter: Adapter | None = None) -> None:
        self.dtype = dtype
        self.case = reference.read(file)
        self.generated_ids = self.case.expected["generated_ids"]
        self.case.expected = activations(self.case.expected)
        if not any(dtype in floors for floors in self.case.floors.values()):
            raise InputError(f"{file} has no noise floors in {dtype}")
        self.model = load_adapted(path, DTYPES[dtype], adapter)
        sound = self.run()
        same = [(name, tensor.shape) for name, tensor in self.case.expected.items()]
        if [(name, tensor.shape) for name, tensor in activations(sound).items()] != same:
            raise InputError(f"{file} is no reference of {path}: other tensors or shapes")
        if first := first_divergence(self.case, sound, dtype):
            raise CheckError(f"{file}: {first.tensor}: Transformers itself is at {first.ratio:.3g} of the tolerance")

    def observe_taps(self, forms: list[Mistake], layer: int | None, names: tuple[str, ...]) -> Observation:
        """`observe`, but of these taps alone; the first that is off is told from the model's own, as published."""
        self.case.taps = True
        sound, wrong = self.run(), self.observe(forms, layer)
        self.case.taps = False
        wrong.tensors = {name: tensor for name, tensor in wrong.tensors.items() if name.partition(".")[2] in names}
        for name, tensor in wrong.tensors.items():
            ratio = float((tensor - sound[name]).abs().max() / sound[name].abs().max() / TAP_TOLERANCE)
            if not ratio <= 1:
                wrong.first = Divergence(int(re.match(r"layer_(\d+)", name)[1]), name, ratio)
                break
        return wrong

    def observe_steps(self, forms: list[Mistake]) -> Observation:
        """`observe`, with cached steps; the first tensor of theirs that is off is told from the model's own."""
        self.case.steps = True
        sound, wrong = self.run(), self.observe(forms, None)
        self.case.steps = False
        for name, tensor in sound.items():
            if wrong.first is None and name.startswith("step_"):
                ratio = float((tensor - wrong.tensors[name]).abs().max() / tensor.abs().max() / TAP_TOLERANCE)
                if not ratio <= 1:
                    layer = re.search(r"layer_(\d+)", name)
                    wrong.first = Divergence(int(layer[1]) if layer else None, name, ratio)
        return wrong

    def run(self) -> Tensors:
        """The activations and `generated_ids` of the model as it is now, 0 at padded positions."""
        tensors = reference.run(replace(self.case, expected={}), self.model)
        steps = {name: tensor for name, tensor in tensors.items() if name.startswith("step_") and "." in name}
        kept = {name: tensor for name, tensor in activations(tensors).items() if name not in steps}
        return without_padding(self.case, kept | {"generated_ids": tensors["generated_ids"]}) | steps

    def observe(self, forms: list[Mistake], layer: int | None) -> Observation:
        """What the first of `forms` that shows clearly gives, or else the last; in one layer only, if told."""
        layers = list(self.model.model.layers)
        subject = Subject(
            self.model.config, layers if layer is None else [layers[layer]], self.model.model, self.model.lm_head
        )
        for mistake in forms:
            with mistake.plant(subject):
                tensors = mistake.after(self.run())
            first = first_divergence(self.case, tensors, self.dtype)
            if not self.case.steps:
                first = first or self.other_tokens(tensors)
            result = Observation(mistake, tensors, first)
            if result.clear() or self.case.steps:
                break
        return result

    def other_tokens(self, tensors: Tensors) -> Divergence | None:
        """The generated tokens, when they are not the reference's; no tolerance is as wide as another token."""
        same = torch.equal(tensors["generated_ids"], self.generated_ids)
        return None if same else Divergence(None, "generated_ids", math.inf)

    def check_restored(self) -> None:
        """Fails unless the model is sound again after the mistakes."""
        if first := first_divergence(self.case, self.run(), self.dtype):
            raise CheckError(
                f"a mistake was left in the model: {first.tensor} is at {first.ratio:.3g} of the tolerance"
            )


def write(observation: Observation, file: Path) -> None:
    """Writes the observed tensors, float32 and int64, into one npz."""
    write_npz(file, reference.arrays(observation.tensors))


def entry(
    plan: Plan, name: str, reference_file: PurePosixPath, file: PurePosixPath, observation: Observation
) -> dict[str, object]:
    """An observation as the manifest lists it."""
    place = "" if plan.layer is None else f", in layer {plan.layer} only"
    place += f"; only {' and '.join(plan.taps)} of each layer" if plan.taps else ""
    place += "; with cached steps" if plan.steps else ""
    return {
        "id": f"{plan.checkpoint}/{name}",
        "checkpoint": plan.checkpoint,
        "reference": reference_file.as_posix(),
        "file": file.as_posix(),
        "description": f"{observation.mistake.description}{place}",
        "causes": observation.mistake.all_causes(),
        "first_divergence": {"layer": observation.first.layer, "tensor": observation.first.tensor},
    }


def make(plan: Plan, path: Path, root: Path) -> list[dict[str, object]]:
    """Writes a plan's observations below `root` and gives the manifest's entries; each must show clearly."""
    reference_file = FOLDER / plan.checkpoint / plan.prompt / "reference.npz"
    tiny = adapters.find(plan.checkpoint)
    adapter = tiny and Adapter(tiny.folder(root))
    bench = Bench(path, root / reference_file, DTYPE, adapter)
    entries = []
    for forms in wanted(path, plan.ids, plan.layer, adapter, plan.steps):
        if plan.steps:
            observation = bench.observe_steps(forms)
        elif plan.taps:
            observation = bench.observe_taps(forms, plan.layer, plan.taps)
        else:
            observation = bench.observe(forms, plan.layer)
        name = observation.mistake.id + ("-taps" if plan.taps else "")
        if not observation.clear():
            raise CheckError(f"{plan.checkpoint}: {name} is not clear where it shows first: {observation.place()}")
        print(f"{plan.checkpoint:12} {name:36} {observation.place()}", flush=True)
        file = FOLDER / "observed" / plan.checkpoint / f"{name}.npz"
        write(observation, root / file)
        entries.append(entry(plan, name, reference_file, file, observation))
    bench.check_restored()
    return entries


def make_tiny(checkpoints: dict[str, Path], root: Path) -> list[dict[str, object]]:
    """Writes the observations of the tiny checkpoints below `root`, whose references must be there."""
    entries = []
    for plan in PLANS:
        tiny = adapters.find(plan.checkpoint)
        entries += make(plan, checkpoints[tiny.checkpoint if tiny else plan.checkpoint], root)
    return entries
