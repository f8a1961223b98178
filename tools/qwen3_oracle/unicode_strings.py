"""Random strings for a tokenizer: every plane of Unicode, and what its regular expression has branches for."""

from __future__ import annotations

import numpy as np

from . import draws, tiny_text
from .tiny_tokenizer import NOT_SPECIAL, SPECIAL

COUNT = 10_000
LONGEST = 64
SEED = 42
SPACES = " \t\n\r\v\f\u00a0\u1680\u2003\u2009\u2028\u2029\u202f\u3000\u0085\u200b\ufeff"
DIGITS = "0123456789\u0660\u0669\u06f5\u0966\u096f\u0e53\u2460\u00bd\u00b2\u2167\u3007\uff11\U0001d7d8\U0001e951"
MARKS = "\u0300\u0301\u0303\u0308\u030a\u0323\u0327\u0345\u05b0\u064b\u093c\u09be\u1161\u11a8\u3099\u20d0\U0001d165"
BASES = "aeionucAEOKsS\u212b\u2126\u00e9\u1ea5\u1112\uac00\u0915\u09c7\u304b\u30cf\ufb1d\uf900\U0002f800\U0001d157"
EMOJI = [
    "\U0001f600",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\u2764\ufe0f",
    "\U0001f44d\U0001f3fd",
    "\U0001f1ef\U0001f1f5",
    "#\ufe0f\u20e3",
]
CONTRACTIONS = [
    "'s",
    "'S",
    "'t",
    "'T",
    "'re",
    "'RE",
    "'Re",
    "'ve",
    "'VE",
    "'m",
    "'M",
    "'ll",
    "'LL",
    "'d",
    "'D",
    "'\u017f",
    "'x",
]
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u2026\u2014\u00bf\u3001\u300c\u20ac\u2211"
TEXT = "What is Answer Count Spell You are a helpful assistant from to before after Don't I'M we'll THEY'RE".split()
NEWLINES = ["\n", "\n\n", "\r\n", "\r\n\r\n", " \n", "  \n  ", "\t\n", "!\n", "?!\r\n\n"]


def code_point(stream: np.random.Generator) -> str:
    """A code point of any plane, often a low one, never a surrogate."""
    top = [0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000][stream.integers(6)]
    while True:
        point = int(stream.integers(top))
        if not 0xD800 <= point < 0xE000:
            return chr(point)


def one_of(stream: np.random.Generator, options: str | list[str]) -> str:
    """One of several strings or characters."""
    return options[stream.integers(len(options))]


def piece(stream: np.random.Generator) -> str:
    """A few characters of one kind."""
    some = int(stream.integers(1, 4))
    match int(stream.integers(11)):
        case 0:
            return "".join(code_point(stream) for _ in range(some))
        case 1:
            return "".join(chr(stream.integers(0x20)) for _ in range(some))
        case 2:
            return "".join(one_of(stream, SPACES) for _ in range(some))
        case 3:
            return " " * some + one_of(stream, TEXT)
        case 4:
            return "".join(one_of(stream, DIGITS) for _ in range(some))
        case 5:
            return one_of(stream, BASES) + "".join(one_of(stream, MARKS) for _ in range(some))
        case 6:
            return one_of(stream, TEXT + tiny_text.WORDS) + one_of(stream, CONTRACTIONS)
        case 7:
            return one_of(stream, SPECIAL + NOT_SPECIAL)
        case 8:
            return one_of(stream, EMOJI)
        case 9:
            return "".join(one_of(stream, PUNCTUATION) for _ in range(some))
        case _:
            return one_of(stream, NEWLINES)


def string(stream: np.random.Generator) -> str:
    """Some pieces, cut to at most `LONGEST` code points; most are short, so that the file stays small."""
    length = int(stream.integers(LONGEST + 1)) if stream.integers(8) == 0 else 1 + int(stream.geometric(0.11))
    text = ""
    while len(text) < length:
        text += piece(stream)
    return text[: min(length, LONGEST)]


def strings() -> list[str]:
    """All `COUNT` strings, the first of them empty."""
    stream = draws.generator(SEED, "strings")
    return ["", *(string(stream) for _ in range(COUNT - 1))]
