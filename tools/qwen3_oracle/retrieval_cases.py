"""The fixtures about retrieval: texts with their vectors, documents with their scores, from Transformers in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from . import retrieval_checkpoints, trained
from .checkpoint import DTYPES, load_encoder, load_model
from .errors import CheckError
from .files import rounded, write_json, write_npz
from .precise import float64_inside
from .retrieval_runs import EMBEDDING, INSTRUCT, PREFIX, RERANKING, SUFFIX, WRONG_EMBEDDINGS, WRONG_RERANKINGS
from .sensitivity import CLEAR

EMBEDDER, RERANKER = retrieval_checkpoints.EMBEDDER.name, retrieval_checkpoints.RERANKER.name
FLOORS, ULPS = 4, 2
Entry = dict[str, object]
Arrays = dict[str, np.ndarray]

DOCUMENTS = [
    "Saturday comes before Sunday.",
    "3 plus 4 is 7.",
    "The word cat is spelled c a t, and the word tree is spelled t r e e.",
    "No",
    "What comes after Monday? Tuesday, and after it Wednesday.",
]
QUERIES = ["What is 3 plus 4?", "Which day comes before Sunday?", "tree"]
TASK = "Given a question, find the answer to it"
ODD = ["", "Déjà vu 😀 cafe\u0301", "a<|im_end|>\n<|im_start|>user\nb", "  two  spaces \n", "<|endoftext|>"]
LONG = " ".join(f"{number} plus {number + 3} is {2 * number + 3}." for number in range(1, 60))


@dataclass(frozen=True)
class Texts:
    """Texts to embed; queries where there is a task. `most` are the model's positions where it is None."""

    id: str
    checkpoint: str
    texts: list[str]
    task: str | None = None
    dimensions: int | None = None
    most: int | None = None


@dataclass(frozen=True)
class Documents:
    """Documents to score; the instruction is the model card's where it is None."""

    id: str
    query: str
    documents: list[str]
    instruct: str | None = None
    most: int | None = None


EMBEDDINGS = [
    Texts("documents", EMBEDDER, DOCUMENTS),
    Texts("queries", EMBEDDER, QUERIES, task=TASK),
    Texts("matryoshka", EMBEDDER, DOCUMENTS + QUERIES, dimensions=24),
    Texts("one-dimension", EMBEDDER, DOCUMENTS[:3], dimensions=1),
    Texts("odd", EMBEDDER, ODD),
    Texts("positions-end", EMBEDDER, [LONG, "short"]),
    Texts("cut", EMBEDDER, [*DOCUMENTS, LONG], task=INSTRUCT, most=120),
    Texts("no-end-token", trained.NAME, DOCUMENTS),
    Texts("no-end-token-queries", trained.NAME, QUERIES, task=TASK, dimensions=56),
]
SCORES = [
    Documents("default", QUERIES[0], DOCUMENTS),
    Documents("instructed", QUERIES[1], DOCUMENTS, instruct=TASK),
    Documents("odd", "Déjà <|im_end|> vu", ODD),
    Documents("positions-end", QUERIES[0], [LONG, "short"]),
    Documents("cut", QUERIES[2], [*DOCUMENTS, LONG], most=410),
]


def tolerance(noise: float, largest: float, dtype: str) -> float:
    """What a result in `dtype` may be off by: as the accuracy policy has it of a tensor's largest error."""
    return rounded(FLOORS * noise + ULPS * torch.finfo(DTYPES[dtype]).eps * largest)


class Bench:
    """A checkpoint's tokenizer, and its models in float64 and, as published, in each dtype."""

    def __init__(self, path: Path, load: Callable[[Path, torch.dtype], PreTrainedModel]) -> None:
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, local_files_only=True)
        self.exact = load(path, torch.float64)
        self.published = {name: load(path, dtype) for name, dtype in DTYPES.items()}
        self.positions = self.exact.config.max_position_embeddings


def check_wrong(case: str, found: dict[str, float], limit: float, shown: dict[str, float]) -> None:
    """Notes how far each wrong way is off, in tolerances."""
    for name, error in found.items():
        shown[name] = max(shown.get(name, 0.0), error / limit)
        print(f"{case}: {name} is off by {error / limit:.2g} tolerances")


def check_shown(what: str, shown: dict[str, float]) -> None:
    """Fails when a wrong way shows in no case."""
    unclear = [name for name, ratio in shown.items() if not ratio > CLEAR]
    if unclear:
        raise CheckError(f"no case of {what} shows clearly: {', '.join(unclear)}")


def largest(difference: torch.Tensor) -> float:
    """The largest absolute value."""
    return difference.abs().max().item()


@torch.no_grad()
def embeddings(benches: dict[str, Bench]) -> tuple[list[Entry], Arrays]:
    """The entries of `embeddings.json`, and the vectors of each by its id."""
    entries, arrays, shown = [], {}, {}
    for case in EMBEDDINGS:
        bench = benches[case.checkpoint]
        size = case.dimensions or bench.exact.config.hidden_size
        most = case.most or bench.positions

        def rows(way=EMBEDDING, case=case, bench=bench, most=most) -> list[list[int]]:
            return way.ids(bench.tokenizer, way.texts(case.task, case.texts), most)

        with float64_inside():
            expected = EMBEDDING.run(bench.exact, rows(), size)
            alone = torch.cat([EMBEDDING.run(bench.exact, [row], size) for row in rows()])
            right = replace(EMBEDDING, side="right").run(bench.exact, rows(), size)
            wrong = {
                name: largest(way.run(bench.exact, rows(way), size) - expected)
                for name, way in WRONG_EMBEDDINGS.items()
                if all(rows(way))
            }
        if not max(largest(alone - expected), largest(right - expected)) <= 1e-10:
            raise CheckError(f"{case.id}: a text's vector depends on the others of its batch")
        limits = {}
        for dtype, model in bench.published.items():
            apart = torch.cat([EMBEDDING.run(model, [row], size) for row in rows()])
            limits[dtype] = tolerance(largest(apart.double() - expected), largest(expected), dtype)
        check_wrong(case.id, wrong, limits["f32"], shown)
        arrays[case.id] = expected.float().numpy()
        entries.append(
            {
                "id": case.id,
                "checkpoint": case.checkpoint,
                "task": case.task,
                "texts": case.texts,
                "max_length": case.most,
                "dimensions": case.dimensions,
                "read_as": EMBEDDING.texts(case.task, case.texts),
                "ids": rows(),
                "tolerance": limits,
            }
        )
    check_shown("embedding", shown)
    return entries, arrays


@torch.no_grad()
def scores(bench: Bench) -> tuple[list[Entry], Arrays]:
    """The entries of `scores.json`, and the scores of each by its id."""
    entries, arrays, shown = [], {}, {}
    answers = [bench.tokenizer.convert_tokens_to_ids(answer) for answer in retrieval_checkpoints.ANSWERS]
    for case in SCORES:
        most = case.most or bench.positions

        def rows(way=RERANKING, case=case, most=most) -> list[list[int]]:
            return way.ids(bench.tokenizer, way.texts(case.instruct, case.query, case.documents), most)

        with float64_inside():
            expected = RERANKING.run(bench.exact, rows(), answers)
            logits = torch.cat([RERANKING.logits(bench.exact, [row]) for row in rows()])
            wrong = {
                name: largest(way.run(bench.exact, rows(way), answers) - expected)
                for name, way in WRONG_RERANKINGS.items()
            }
        if not largest(RERANKING.score(logits, *answers) - expected) <= 1e-10:
            raise CheckError(f"{case.id}: a document's score depends on the others of its batch")
        apart = torch.cat([RERANKING.logits(bench.published["f32"], [row]) for row in rows()])
        # A score moves by at most a quarter of what the difference of two logits does.
        limit = tolerance(largest(apart.double() - logits) / 2, largest(expected), "f32")
        check_wrong(case.id, wrong, limit, shown)
        arrays[case.id] = expected.numpy()
        entries.append(
            {
                "id": case.id,
                "instruct": case.instruct,
                "query": case.query,
                "documents": case.documents,
                "max_length": case.most,
                "prompts": [
                    PREFIX + body + SUFFIX for body in RERANKING.texts(case.instruct, case.query, case.documents)
                ],
                "ids": rows(),
                # Random weights are noisier in half precision than a score can say anything about.
                "tolerance": {"f32": limit},
            }
        )
    every = np.concatenate(list(arrays.values()))
    middle = np.count_nonzero((every > 0.05) & (every < 0.95))
    if 2 * middle < len(every):
        raise CheckError(f"only {middle} of {len(every)} scores are neither near 0 nor near 1")
    check_shown("reranking", shown)
    return entries, arrays


def make(path: Path, root: Path, folder: PurePosixPath) -> tuple[dict[str, Path], list[Entry]]:
    """Writes the checkpoints and `folder` below `root`; `path` is the trained checkpoint. Checkpoints and fixtures."""
    checkpoints = retrieval_checkpoints.make(path, root)
    benches = {name: Bench(where, load_encoder) for name, where in {**checkpoints, trained.NAME: path}.items()}
    found = {"embeddings": embeddings(benches), "scores": scores(Bench(checkpoints[RERANKER], load_model))}
    texts = []
    for (name, (entries, arrays)), (kind, checkpoint, what) in zip(
        found.items(), [("embedding", EMBEDDER, "texts"), ("reranking", RERANKER, "documents")], strict=True
    ):
        write_json(root / folder / f"{name}.json", entries)
        write_npz(root / folder / f"{name}.npz", arrays)
        count = sum(len(entry[what]) for entry in entries)
        texts.append(
            {
                "id": f"{checkpoint}/{name}",
                "kind": kind,
                "checkpoint": checkpoint,
                "file": (folder / f"{name}.npz").as_posix(),
                "parameters": (folder / f"{name}.json").as_posix(),
                "description": f"{count} {what} in {len(entries)} batches, with their {name}",
            }
        )
    return checkpoints, texts
