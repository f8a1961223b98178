"""The cases on one layer: their inputs, float64 results and noise floors."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import torch

from . import draws, layer_runs, sparse
from .cases import Case, without_padding
from .checkpoint import DTYPES, load_layer, read_config
from .files import write_safetensors
from .floors import add_floors, add_same_dtype
from .precise import float64_inside

SEED = 42
INPUT_NORM = "input_layernorm"
POST_NORM = "post_attention_layernorm"


def scaled_rows(name: str, shape: tuple[int, int, int], low: float, high: float) -> torch.Tensor:
    """Normal numbers [batch, seq, hidden] whose rows have scales from `low` to `high`, so that eps matters in some."""
    scales = np.geomspace(low, high, shape[0] * shape[1]).astype(np.float32)
    return draws.exact_in_halves(draws.normal(SEED, name, shape) * torch.from_numpy(scales).reshape(*shape[:2], 1))


def positions(starts: list[int], length: int) -> torch.Tensor:
    """Consecutive positions [batch, length], each row from its own start."""
    return torch.tensor(starts)[:, None] + torch.arange(length)


class LayerCases:
    """Makes the cases of one layer of a checkpoint; case files go to `folder`, relative to the manifest."""

    def __init__(self, path: Path, layer: int, checkpoint: str, folder: PurePosixPath) -> None:
        self.path = path
        self.layer = layer
        self.checkpoint = checkpoint
        self.folder = folder
        self.hidden = read_config(path).hidden_size

    def case(self, name: str, kind: str, description: str, module: str, label: str, **inputs: torch.Tensor) -> Case:
        """A case without results; `module` is inside the layer ("" for all of it), `label` goes to the metadata."""
        return Case(
            id=f"{self.checkpoint}/layer-{self.layer}/{name}",
            kind=kind,
            description=description,
            checkpoint=self.checkpoint,
            file=self.folder / f"{name}.safetensors",
            inputs=inputs,
            layer=self.layer,
            module=module if kind == "rms_norm" else None,
            metadata={
                "model": self.checkpoint,
                "layer": f"model.layers.{self.layer}{'.' if module else ''}{module}",
                "case": label,
            },
        )

    def norms(self) -> list[Case]:
        """norm-00 to norm-03: batch, single token, the other norm, zeros."""

        def norm(name: str, text: str, module: str, label: str, x: torch.Tensor) -> Case:
            return self.case(name, "rms_norm", text, module, label, input_hidden_states=x)

        wide = scaled_rows("norm-00", (2, 8, self.hidden), 1e-3, 10.0)
        single = scaled_rows("norm-01", (1, 1, self.hidden), 1e-2, 1e-2)
        short = scaled_rows("norm-02", (2, 4, self.hidden), 1e-3, 10.0)
        zeros = torch.zeros(2, 4, self.hidden)
        return [
            norm("norm-00", "2 x 8 rows of scales from 0.001 to 10", INPUT_NORM, "normal_forward", wide),
            norm("norm-01", "a single token of scale 0.01", INPUT_NORM, "single_token", single),
            norm("norm-02", "2 x 4 rows of scales from 0.001 to 10", POST_NORM, "normal_forward", short),
            norm("norm-03", "zeros", INPUT_NORM, "zeros_input", zeros),
        ]

    def mlps(self) -> list[Case]:
        """mlp-00 to mlp-03: batch, single token, short sequence, zeros."""

        def mlp(name: str, text: str, label: str, x: torch.Tensor) -> Case:
            return self.case(name, "mlp", text, "mlp", label, input_x=x)

        normal = scaled_rows("mlp-00", (2, 8, self.hidden), 0.25, 2.0)
        single = scaled_rows("mlp-01", (1, 1, self.hidden), 1.0, 1.0)
        short = scaled_rows("mlp-02", (1, 4, self.hidden), 0.5, 2.0)
        zeros = torch.zeros(2, 4, self.hidden)
        return [
            mlp("mlp-00", "2 x 8 rows", "normal_forward", normal),
            mlp("mlp-01", "a single token", "single_token", single),
            mlp("mlp-02", "a short sequence, 1 x 4", "short_sequence", short),
            mlp("mlp-03", "zeros", "zeros_input", zeros),
        ]

    def attentions(self) -> list[Case]:
        """attn-00 and attn-01: batch whose rows start at positions 0 and 3, single token at position 5."""

        def attention(name: str, text: str, label: str, x: torch.Tensor, ids: torch.Tensor) -> Case:
            return self.case(name, "attention", text, "self_attn", label, hidden_states=x, position_ids=ids)

        batch = scaled_rows("attn-00", (2, 8, self.hidden), 0.25, 2.0)
        single = scaled_rows("attn-01", (1, 1, self.hidden), 1.0, 1.0)
        return [
            attention("attn-00", "2 x 8, from positions 0 and 3", "normal_forward", batch, positions([0, 3], 8)),
            attention("attn-01", "a single token at position 5", "single_token", single, positions([5], 1)),
        ]

    def far(self) -> Case:
        """rope-32k: attention at positions around 32,768; the second row has keys near 0 and queries far from them."""
        x = scaled_rows("rope-32k", (2, 16, self.hidden), 0.25, 2.0)
        rows = torch.cat((positions([32_760], 16), torch.cat((positions([0], 8), positions([32_764], 8)), dim=1)))
        text = "2 x 16: positions 32,760 to 32,775; 0 to 7, then 32,764 to 32,771"
        return self.case(
            "rope-32k", "attention", text, "self_attn", "far_positions", hidden_states=x, position_ids=rows
        )

    def module_cases(self) -> list[Case]:
        """The ten cases norm-00..03, mlp-00..03 and attn-00..01."""
        return [*self.norms(), *self.mlps(), *self.attentions()]

    def decoder(self) -> Case:
        """The whole layer, 2 x 7, with one row starting at position 3."""
        x = scaled_rows("decoder", (2, 7, self.hidden), 1e-2, 2.0)
        text = "the layer step by step, 2 x 7, from positions 0 and 3, rows of scales from 0.01 to 2"
        return self.case(
            "decoder", "decoder_layer", text, "", "normal_forward", hidden_states=x, position_ids=positions([0, 3], 7)
        )

    def decoder_left_padded(self) -> Case:
        """The whole layer, 2 x 7, the first row with three positions of left padding."""
        x = scaled_rows("decoder-left-padded", (2, 7, self.hidden), 1e-2, 2.0)
        return self.case(
            "decoder-left-padded",
            "decoder_layer",
            "the layer step by step, 2 x 7, the first three positions of row 0 padded",
            "",
            "left_padded",
            hidden_states=x,
            position_ids=positions([-3, 0], 7).clamp(min=0),
            attention_mask=torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7]),
        )


def compute(cases: list[Case], path: Path, floors: list[str]) -> None:
    """Fills in the cases' float64 results, then the floors in each dtype of `floors`. All are on the same layer."""
    index = cases[0].layer
    oracle = load_layer(path, index, torch.float64)
    scores = {}
    with float64_inside():
        for case in cases:
            with sparse.recorded_scores(oracle.module) as scores[case.id]:
                case.expected = without_padding(case, layer_runs.run(case, oracle, torch.float64))
    for name in floors:
        dtype = DTYPES[name]
        layer = load_layer(path, index, dtype)
        for case in cases:
            with sparse.recorded_scores(layer.module) as found:
                published = layer_runs.run(case, layer, dtype)
            if found:
                top_k = layer.config.sparse.num_experts_per_tok
                sparse.check_choices(f"{case.id} in {name}", scores[case.id], found, top_k)
            add_floors(case, name, published)
            if case.kind == "rms_norm" and name != "f32":
                with float64_inside():
                    exact_inside = layer_runs.run(case, layer, dtype)
                add_same_dtype(case, name, published["output"], exact_inside["output"])


def write(case: Case, file: Path) -> None:
    """Writes inputs and results, float32 and int64, into one safetensors file."""
    expected = {name: tensor.float() for name, tensor in case.expected.items()}
    write_safetensors(file, case.inputs | expected | case.extra, case.metadata)
