"""What the passes of a model gave, and how they become one file: the prompt first, cached steps behind it.

Tensors are `[batch, seq, ..]`, or `[batch, heads, seq, head_dim]` behind RoPE, with `seq` the new tokens of a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import keys

SECOND_PROMPT = "a second prompt in one recording: end the block before it, or call reset()"


@dataclass
class Pass:
    """One pass: `length` new tokens of each of `batch` sequences."""

    batch: int
    length: int
    # The new tokens [batch, length], where the call told them.
    ids: np.ndarray | None = None
    # [batch, tokens before and new], where the call told it.
    mask: np.ndarray | None = None
    # Tokens at the beginning of this pass that earlier ones had already.
    known: int = 0
    # 0 for the prompt, else the index along `step_logits`.
    step: int = 0
    # Whether what is inside is kept, or the logits alone.
    wanted: bool = True
    tensors: dict[str, np.ndarray] = field(default_factory=dict)
    # Of each sequence's last token, [batch, vocab].
    last_logits: np.ndarray | None = None

    def keep(self, key: str, tensor: np.ndarray) -> None:
        """Keeps what is seen first under a key, of the tokens that are new."""
        if self.wanted and key not in self.tensors:
            new = [slice(None)] * tensor.ndim
            new[keys.sequence_axis(key)] = slice(self.known, None)
            self.tensors[key] = tensor[tuple(new)]

    def keep_logits(self, logits: np.ndarray) -> None:
        """Keeps logits [batch, seq, vocab] of all tokens, or of the last one only."""
        if self.last_logits is not None:
            return
        whole = logits.shape[1] == self.known + self.length
        if whole and not self.step:
            self.keep(keys.LOGITS, logits)
        last = self.last_positions()
        if whole:
            self.last_logits = logits[np.arange(self.batch), last]
        elif logits.shape[1] == 1 and (last == self.known + self.length - 1).all():
            self.last_logits = logits[:, 0]

    def last_positions(self) -> np.ndarray:
        """Where the last token of each sequence stands that is no padding: [batch]."""
        length = self.known + self.length
        if self.mask is None or self.mask.shape[1] < length:
            return np.full(self.batch, length - 1)
        here = self.mask[:, -length:] != 0
        return np.where(here.any(1), length - 1 - here[:, ::-1].argmax(1), length - 1)


class Passes:
    """The passes of one prompt, in their order.

    `steps` is how many decode passes are kept from the inside; `prompt_length` tells the prompt's length where passes
    of one token belong to it.
    """

    def __init__(self, steps: int, prompt_length: int | None = None) -> None:
        self.steps = steps
        self.prompt_length = prompt_length
        self.prompt: list[Pass] = []
        self.decoded: list[Pass] = []

    def seen(self) -> int:
        """How many tokens of each sequence the passes had."""
        return sum(part.length for part in (*self.prompt, *self.decoded))

    def begin(self, batch: int, length: int, past: int | None, ids: np.ndarray | None, mask: np.ndarray | None) -> Pass:
        """The pass that is about to read `length` tokens behind `past` cached ones; None: nothing tells.

        Raises:
            ValueError: it belongs to another prompt, or to a search.
        """
        known = self.known(batch, length, past, ids)
        new = Pass(batch, length - known, None if ids is None else ids[:, known:], mask, known)
        # That of a cache with room has more columns.
        new.mask = None if mask is None else mask[:, : self.seen() + new.length]
        # The first pass, and whatever the caller counts to the prompt.
        of_prompt = not self.prompt or (self.prompt_length or 0) >= self.seen() + new.length
        if not of_prompt and new.length == 1:
            new.step = len(self.decoded) + 1
            new.wanted = new.step <= self.steps
            self.decoded.append(new)
            return new
        if self.decoded:
            raise ValueError(
                f"a pass of {new.length} tokens behind {len(self.decoded)} decode passes: only greedy decoding or "
                "sampling is recorded, one token at a time"
            )
        self.prompt.append(new)
        return new

    def known(self, batch: int, length: int, past: int | None, ids: np.ndarray | None) -> int:
        """How many tokens of this pass are those of earlier ones, which a model without a cache reads again."""
        if not self.prompt:
            if past:
                raise ValueError(f"the first pass continues a cache of {past} tokens: record the one that fills it too")
            return 0
        if batch != self.prompt[0].batch:
            raise ValueError(f"a pass of {batch} sequences behind one of {self.prompt[0].batch}: {SECOND_PROMPT}")
        seen = self.seen()
        if past == seen or (past is None and length == 1):
            return 0
        if past:
            raise ValueError(f"a pass behind {past} cached tokens, {seen} were seen: {SECOND_PROMPT}")
        before = self.ids()
        again = ids is not None and before is not None and length > seen and np.array_equal(ids[:, :seen], before)
        if not again:
            raise ValueError(SECOND_PROMPT)
        return seen

    def ids(self) -> np.ndarray | None:
        """All tokens that were read, [batch, seq + steps read]; None where a pass did not tell."""
        parts = [part.ids for part in (*self.prompt, *self.decoded)]
        return None if any(part is None for part in parts) else np.concatenate(parts, axis=1)

    def arrays(self) -> dict[str, np.ndarray]:
        """The content of the file.

        Raises:
            ValueError: there was no pass.
        """
        if not self.prompt:
            raise ValueError("no pass of the model was seen")
        result = self.inputs()
        for key in self.prompt[0].tensors:
            parts = [part.tensors.get(key) for part in self.prompt]
            if all(part is not None for part in parts):
                result[key] = parts[0] if len(parts) == 1 else np.concatenate(parts, keys.sequence_axis(key))
        for part in self.decoded:
            result |= {keys.step(part.step, key): tensor for key, tensor in part.tensors.items()}
        return result | self.generated(keys.LOGITS in result)

    def inputs(self) -> dict[str, np.ndarray]:
        """`input_ids` and `attention_mask` of the prompt, as far as they were told."""
        length = sum(part.length for part in self.prompt)
        ids, mask = [part.ids for part in self.prompt], self.prompt[-1].mask
        result = {} if any(part is None for part in ids) else {keys.INPUT_IDS: np.concatenate(ids, axis=1)}
        if mask is not None and mask.shape[1] == length:
            result[keys.ATTENTION_MASK] = mask.astype(np.int64)
        return result

    def generated(self, has_logits: bool) -> dict[str, np.ndarray]:
        """`step_logits` and `generated_ids`: with decode passes, or where the prompt's last logits are all there is."""
        logits = [part.last_logits for part in (self.prompt[-1], *self.decoded)]
        if any(part is None for part in logits) or (has_logits and not self.decoded):
            return {}
        ids = self.ids()
        chosen = logits[-1].argmax(-1)[:, None]
        result = {keys.STEP_LOGITS: np.stack(logits, axis=1)}
        return result if ids is None else result | {keys.GENERATED_IDS: np.concatenate((ids, chosen), axis=1)}
