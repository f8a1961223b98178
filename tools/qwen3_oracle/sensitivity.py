"""Shows that the cases can fail: each planted fault must exceed the tolerance of at least one case by far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import greedy_cases, layer_runs, prefill_cases, reference
from .cases import Case, Tensors, errors
from .checkpoint import DTYPES, load_layer, load_model
from .errors import CheckError
from .faults import FAULTS, Fault, Subject
from .floors import unequal_share

CLEAR = 10.0


@dataclass
class Finding:
    """How a fault shows in a checkpoint: per dtype the largest ratio of error to tolerance, and where it is."""

    fault: Fault
    checkpoint: str
    ratios: dict[str, float] = field(default_factory=dict)
    where: str = ""

    def note(self, dtype: str, ratio: float, where: str) -> None:
        """Keeps the clearest case of a dtype, and its place in the first dtype that shows the fault."""
        if ratio >= self.ratios.get(dtype, 0.0):
            self.ratios[dtype] = ratio
            if dtype == next(iter(self.ratios)):
                self.where = where

    def clear(self) -> bool:
        """Whether the first dtype, the most precise one that can show the fault, shows it clearly."""
        return next(iter(self.ratios.values())) > CLEAR


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
    """The layer and the model of a checkpoint in one dtype."""

    def __init__(self, path: Path, cases: list[Case], dtype: str) -> None:
        self.dtype = dtype
        self.model = load_model(path, DTYPES[dtype])
        indices = {case.layer for case in cases if case.layer is not None}
        self.layers = {index: load_layer(path, index, DTYPES[dtype]) for index in sorted(indices)}

    def observe(self, case: Case) -> Tensors:
        """What the case's tensors are with whatever fault is planted now."""
        if case.kind == "full_model":
            return reference.run(case, self.model)
        return layer_runs.run(case, self.layers[case.layer], DTYPES[self.dtype])

    def observe_with(self, fault: Fault, case: Case) -> Tensors:
        """What the case's tensors are with `fault`."""
        if case.kind == "full_model":
            subject = Subject(self.model.config, list(self.model.model.layers), self.model.model)
        else:
            layer = self.layers[case.layer]
            subject = Subject(layer.config, [layer.module])
        with fault.plant(subject):
            return self.observe(case)

    def check_sound(self, case: Case) -> None:
        """Fails unless Transformers itself passes the case."""
        for name, ratio in ratios(case, self.observe(case), self.dtype).items():
            if not ratio <= 1:
                raise CheckError(f"{case.id}: {name}: Transformers itself is at {ratio:.3g} of the tolerance")

    def rounding_ratio(self, fault: Fault, case: Case) -> float:
        """Share of elements unlike the published output, over the share by which that one differs from the oracle."""
        known = case.same_dtype["output"][self.dtype]
        observed = self.observe_with(fault, case)["output"]
        share = unequal_share(observed, case.extra[known["tensor"]])
        return share / max(known["unequal"], 1 / observed.numel())


def findings(name: str, path: Path, cases: list[Case], dtypes: Iterable[str]) -> list[Finding]:
    """How each fault that is one in this checkpoint shows in its cases."""
    result: dict[str, Finding] = {}
    for dtype in dtypes:
        bench = Bench(path, cases, dtype)
        for case in cases:
            bench.check_sound(case)
        for fault in FAULTS:
            if not fault.applies(bench.model.config):
                continue
            finding = result.setdefault(fault.name, Finding(fault, name))
            for case in filter(fault.concerns, cases):
                if fault.only_rounding:
                    if dtype in case.same_dtype.get("output", {}):
                        finding.note(dtype, bench.rounding_ratio(fault, case), f"{case.id} unequal share of output")
                    continue
                for tensor, ratio in ratios(case, bench.observe_with(fault, case), dtype).items():
                    finding.note(dtype, ratio, f"{case.id} {tensor}")
    return [finding for finding in result.values() if finding.ratios]


def table(found: list[Finding]) -> str:
    """The findings as lines of text, with ratios to 2 digits."""
    lines = [f"{'fault':32} {'checkpoint':12} {'f32':>8} {'f16':>8} {'bf16':>8}  clearest case and tensor"]
    order = [fault.name for fault in FAULTS]
    for finding in sorted(found, key=lambda finding: order.index(finding.fault.name)):
        cells = (f"{finding.ratios[dtype]:8.2g}" if dtype in finding.ratios else f"{'-':>8}" for dtype in DTYPES)
        lines.append(f"{finding.fault.name:32} {finding.checkpoint:12} {' '.join(cells)}  {finding.where}")
    return "\n".join(lines)


def check(checkpoints: dict[str, Path], cases: list[Case], dtypes: Iterable[str]) -> None:
    """Prints error over tolerance for each fault and checkpoint; prefills are left to `case_faults`, and greedy tokens have no tolerance.

    Fails when a checkpoint does not show one of its faults clearly in the most precise of `dtypes` that can.
    """
    found = []
    cases = [case for case in cases if case.kind not in (prefill_cases.KIND, greedy_cases.KIND)]
    for name, path in checkpoints.items():
        found += findings(name, path, [case for case in cases if case.checkpoint == name], dtypes)
    print(table(found), flush=True)
    unclear = [f"{finding.fault.name} in {finding.checkpoint}" for finding in found if not finding.clear()]
    if unclear:
        raise CheckError(f"no case shows clearly: {'; '.join(unclear)}")
