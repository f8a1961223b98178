"""Shows that the cases can fail: each planted mistake must exceed the tolerance of those that it concerns by far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from . import attention_cases, gradient_cases, greedy_cases, layer_runs, prefill_cases, reference
from .cases import Case, Tensors, errors
from .checkpoint import DTYPES, load_layer, load_model
from .errors import CheckError
from .floors import unequal_share
from .mistakes.catalogue import MISTAKES, Mistake
from .mistakes.planting import Subject

CLEAR = 10.0


def tolerance(case: Case, name: str, dtype: str) -> float:
    """4 floors and 4 units in the last place of the largest element."""
    largest = case.expected[name].abs().max().item()
    return 4 * case.floors[name][dtype]["max_abs"] + 4 * torch.finfo(DTYPES[dtype]).eps * largest


def ratios(case: Case, observed: Tensors, dtype: str) -> dict[str, float]:
    """Error over tolerance of each tensor that has a floor in `dtype`; 0 for one that is exactly right."""
    return {
        name: max_abs / tolerance(case, name, dtype) if max_abs else 0.0
        for name, (max_abs, _) in errors(case, observed).items()
        if dtype in case.floors[name]
    }


class Bench:
    """Runs cases in one dtype, with the models and layers of their checkpoints."""

    def __init__(self, checkpoints: dict[str, Path], dtype: str) -> None:
        self.dtype = dtype
        self.model = cache(lambda name: load_model(checkpoints[name], DTYPES[dtype]))
        self.layer = cache(lambda name, index: load_layer(checkpoints[name], index, DTYPES[dtype]))

    def subject(self, case: Case) -> Subject:
        """What a mistake may touch when the case runs."""
        if not case.checkpoint:
            return Subject(None, [], case=case)
        if case.layer is not None:
            layer = self.layer(case.checkpoint, case.layer)
            return Subject(layer.config, [layer.module], case=case)
        model = self.model(case.checkpoint)
        return Subject(model.config, list(model.model.layers), model.model, model.lm_head, case)

    def run(self, case: Case) -> Tensors:
        """What the case's tensors are with whatever mistake is planted now."""
        if case.kind == attention_cases.KIND:
            return attention_cases.run(case, DTYPES[self.dtype])
        if case.layer is not None:
            return layer_runs.run(case, self.layer(case.checkpoint, case.layer), DTYPES[self.dtype])
        runs = {prefill_cases.KIND: prefill_cases.run, gradient_cases.KIND: gradient_cases.run}
        return runs.get(case.kind, reference.run)(case, self.model(case.checkpoint))

    def run_with(self, mistake: Mistake, case: Case) -> Tensors:
        """What the case's tensors are with `mistake`."""
        with mistake.plant(self.subject(case)):
            return self.run(case)

    def check_sound(self, case: Case) -> None:
        """Fails unless Transformers itself passes the case."""
        for name, ratio in ratios(case, self.run(case), self.dtype).items():
            if not ratio <= 1:
                raise CheckError(f"{case.id}: {name}: Transformers itself is at {ratio:.3g} of the tolerance")

    def found(self, mistake: Mistake, case: Case) -> dict[str, float]:
        """How far beyond the tolerance each tensor is with `mistake`; or the roundings, where it shows only in these.

        For roundings: the share of elements unlike the published output, over the share by which that one differs
        from the oracle.
        """
        if not mistake.only_rounding:
            return ratios(case, self.run_with(mistake, case), self.dtype)
        known = case.same_dtype.get("output", {}).get(self.dtype)
        if known is None:
            return {}
        observed = self.run_with(mistake, case)["output"]
        share = unequal_share(observed, case.extra[known["tensor"]])
        return {"unequal share of output": share / max(known["unequal"], 1 / observed.numel())}


@dataclass
class Finding:
    """How a mistake shows in a checkpoint: per dtype the largest ratio of error to tolerance, and where it is."""

    mistake: Mistake
    checkpoint: str
    ratios: dict[str, float] = field(default_factory=dict)
    where: str = ""

    def note(self, dtype: str, ratio: float, where: str) -> None:
        """Keeps the clearest case of a dtype, and its place in the first dtype that shows the mistake."""
        if ratio >= self.ratios.get(dtype, 0.0):
            self.ratios[dtype] = ratio
            if dtype == next(iter(self.ratios)):
                self.where = where

    def clear(self) -> bool:
        """Whether the first dtype, the most precise one that can show the mistake, shows it clearly."""
        return next(iter(self.ratios.values())) > CLEAR

    def line(self) -> str:
        """The finding as a line of a table, with ratios to 2 digits."""
        cells = (f"{self.ratios[dtype]:8.2g}" if dtype in self.ratios else f"{'-':>8}" for dtype in DTYPES)
        return f"{self.mistake.id:36} {self.checkpoint:12} {' '.join(cells)}  {self.where}"


def findings(name: str, path: Path, cases: list[Case], dtypes: Iterable[str]) -> list[Finding]:
    """How each mistake that is one in this checkpoint shows in its cases."""
    result: dict[int, Finding] = {}
    for dtype in dtypes:
        bench = Bench({name: path}, dtype)
        for case in cases:
            bench.check_sound(case)
        config = bench.model(name).config
        for index, mistake in enumerate(MISTAKES):
            if not mistake.applies(config):
                continue
            finding = result.setdefault(index, Finding(mistake, name))
            for case in filter(mistake.one_of, cases):
                for tensor, ratio in bench.found(mistake, case).items():
                    finding.note(dtype, ratio, f"{case.id} {tensor}")
    return [finding for _, finding in sorted(result.items()) if finding.ratios]


def check_one_of(checkpoints: dict[str, Path], cases: list[Case], dtypes: Iterable[str]) -> None:
    """Prints error over tolerance for each mistake and checkpoint.

    Fails when a checkpoint does not show one of its mistakes clearly in the most precise of `dtypes` that can.
    """
    found = []
    for name, path in checkpoints.items():
        found += findings(name, path, [case for case in cases if case.checkpoint == name], dtypes)
    found.sort(key=lambda finding: MISTAKES.index(finding.mistake))
    print(f"{'mistake':36} {'checkpoint':12} {'f32':>8} {'f16':>8} {'bf16':>8}  clearest case and tensor")
    for finding in found:
        print(finding.line(), flush=True)
    unclear = [f"{finding.mistake.id} in {finding.checkpoint}" for finding in found if not finding.clear()]
    if unclear:
        raise CheckError(f"no case shows clearly: {'; '.join(unclear)}")


def check_each_of(checkpoints: dict[str, Path], cases: list[Case]) -> None:
    """Prints of each mistake the case that shows it least in float32; fails unless it is clear there."""
    concerned = {index: list(filter(mistake.each_of, cases)) for index, mistake in enumerate(MISTAKES)}
    concerned = {index: some for index, some in concerned.items() if some}
    bench = Bench(checkpoints, "f32")
    for case in {case.id: case for some in concerned.values() for case in some}.values():
        bench.check_sound(case)
    unclear = []
    print(f"\n{'mistake':36} {'cases':>5} {'f32':>8}  least clear case")
    for index, some in concerned.items():
        mistake = MISTAKES[index]
        found = {}
        for case in some:
            tensors = bench.found(mistake, case)
            found[case.id] = max(ratio for name, ratio in tensors.items() if name.startswith(mistake.shows_in))
        least = min(found, key=found.get)
        print(f"{mistake.id:36} {len(found):5} {found[least]:8.2g}  {least}", flush=True)
        unclear += [f"{mistake.id} in {name}" for name, ratio in found.items() if not ratio > CLEAR]
    if unclear:
        raise CheckError(f"not clear: {'; '.join(unclear)}")


def check(checkpoints: dict[str, Path], cases: list[Case], dtypes: Iterable[str]) -> None:
    """Plants each mistake and fails unless its cases show it; greedy tokens have no tolerance and are left out.

    One case of each checkpoint has to show it (`Mistake.one_of`), or each that it concerns (`Mistake.each_of`). Also
    fails when Transformers itself does not pass one of the cases.
    """
    elsewhere = (prefill_cases.KIND, gradient_cases.KIND, greedy_cases.KIND)
    check_one_of(checkpoints, [case for case in cases if case.kind not in elsewhere], dtypes)
    check_each_of(checkpoints, cases)
