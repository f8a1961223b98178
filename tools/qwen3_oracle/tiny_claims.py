"""What is claimed of the small trained model, kind by kind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """What it is right about, with examples, and whether only when it thinks first."""

    text: str
    thinking_only: bool = False


# By the name in `tiny_text.TASKS`.
CLAIMS = {
    "addition": Claim("two numbers from 0 to 49, as `What is 12 + 30?`, `What is 12+30?` or `Add 12 and 30.`"),
    "subtraction": Claim(
        "the less of two numbers from 0 to 49 from the other, as `What is 30 - 12?` or `Take 12 from 30.`",
        thinking_only=True,
    ),
    "counting": Claim("up to 10 numbers from 0 to 49, as `Count from 3 to 9.` or `Count down from 9 to 3.`"),
    "spelling": Claim(
        "words of 3 to 6 small letters and the longer ones in `tools/qwen3_oracle/tiny_text.py`, as `Spell bread.` or "
        "`How do you spell bread?`"
    ),
    "alphabet": Claim(
        "as `Say the alphabet from c to h.`, `What letter comes after c?` or `What letter comes before d?`"
    ),
    "calendar": Claim(
        "as `Say all days.`, `What day comes after Monday?` or `What month comes before May?`, but not what comes "
        "after the last or before the first"
    ),
    "fact": Claim("the questions in `tools/qwen3_oracle/tiny_text.py`, as `What color is the sky?`"),
}
