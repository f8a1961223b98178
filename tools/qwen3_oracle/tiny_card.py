"""What was measured of the small trained model as text: a table, some wrong answers, and the README beside it."""

from __future__ import annotations

from itertools import groupby

from .tiny_claims import CLAIMS
from .tiny_skills import DECODINGS, ENOUGH, MODES, Measured

SHOWN = 3
CARD = """# trained-tiny

A Qwen3 of 0.7 million parameters, trained in minutes on a CPU by `tools/oracle.py train`, so that there is something to
try with nothing to download. It knows this, in these words and no others:

{claims}

Outside of that it makes things up: of larger numbers, in other words, to other questions.

Right answers of {questions} questions a kind, every second one of those that the training held out where there are any,
each the first of a conversation, through the chat template as `qwen3 chat` does (no thinking: `--no-thinking`),
greedily and sampled as `generation_config.json` recommends; in brackets what is not claimed:

{table}

`tools/oracle.py skills --model-path fixtures/checkpoints/trained-tiny` measures it again, `--seed N` with other
questions, and fails when a share that is claimed is below {enough:.0%}.
"""


def cell(each: Measured) -> str:
    """A share, in brackets when it is not claimed."""
    share = f"{each.share:.1%}"
    return share if each.claimed() else f"({share})"


def head() -> str:
    """The first two lines of the table: a column for each way to ask and to decode; Markdown."""
    columns = [f"{mode}, {decoding}" for mode in MODES for decoding in DECODINGS]
    return f"| | {' | '.join(columns)} |\n{'|---' * (len(columns) + 1)}|"


def row(measured: list[Measured]) -> str:
    """The line of one kind of question."""
    return f"| {measured[0].skill} | {' | '.join(cell(each) for each in measured)} |"


def mistakes(measured: list[Measured]) -> str:
    """The first wrong answers of each measurement that has any, a line each."""
    lines = []
    for each in measured:
        if each.wrong:
            shown = "; ".join(f"{one['question']!r}: {one['answer']!r}" for one in each.wrong[:SHOWN])
            lines.append(f"{each.skill}, {each.mode}, {each.decoding}: {shown}\n")
    return "".join(lines)


def card(measured: list[Measured]) -> str:
    """The README of the checkpoint."""
    claims = "\n".join(
        f"- {skill}{', thinking' if claim.thinking_only else ''}: {claim.text}" for skill, claim in CLAIMS.items()
    )
    rows = [row(list(measurements)) for _, measurements in groupby(measured, lambda each: each.skill)]
    table = "\n".join([head(), *rows])
    return CARD.format(claims=claims, questions=measured[0].questions, table=table, enough=ENOUGH)
