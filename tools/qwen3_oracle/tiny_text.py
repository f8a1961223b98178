"""The texts that the small trained model learns: short exercises, as plain text and as conversations.

A document is a list of pieces of text with weights: how much the training cares about the tokens of each. Answers
weigh 1. Questions are random, so they weigh little. Answers of past turns weigh nothing: they stand without their
thinking, and the model would learn to leave it out.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

QUESTION = 0.05
ANSWER = 1.0
PAST = 0.0
END = "<|endoftext|>"
NO_THINKING = "<think>\n\n</think>\n\n"
HELD_OUT = 10

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = """
apple bread bird blue boat book bottle box boy bridge brown butter button candle car cat chair child city clock cloud
coat cold cup dance day dog door dream duck ear earth egg evening eye face farm field fire fish flower food forest fox
friend frog garden girl glass gold grass green hand hat heart hill home horse house ice island jacket jump key king
kitchen kite lake lamp leaf lemon letter light lion map market milk mirror money moon morning mountain mouse music
night north number ocean onion orange paper park pencil piano picture plant pocket pond queen rabbit rain red ring
river road rock roof room rose salt sand school sea shoe silver sister sky snow song spoon spring star stone street
sugar summer sun table tea tiger time tower train tree valley village wall water white wind window winter wolf yellow
""".split()

FACTS = [
    ("What color is the sky?", "The sky is blue."),
    ("What color is grass?", "Grass is green."),
    ("What color is snow?", "Snow is white."),
    ("What color is a lemon?", "A lemon is yellow."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Italy?", "The capital of Italy is Rome."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the capital of Germany?", "The capital of Germany is Berlin."),
    ("How many legs does a dog have?", "A dog has four legs."),
    ("How many legs does a bird have?", "A bird has two legs."),
    ("How many days are in a week?", "A week has seven days."),
    ("How many months are in a year?", "A year has twelve months."),
    ("What does a cat say?", "A cat says meow."),
    ("What does a dog say?", "A dog says woof."),
    ("What do bees make?", "Bees make honey."),
    ("Who are you?", "I am a very small model."),
    ("Hello", "Hello! How can I help you?"),
    ("Thank you!", "You are welcome."),
]
SYSTEM_PROMPTS = [
    "You are a helpful assistant.",
    "You are a careful teacher.",
    "You answer questions.",
    "Answer in a few words.",
]

Document = list[tuple[str, float]]


@dataclass(frozen=True)
class Exercise:
    """A question, its answer, the thoughts in between, and the same as a plain text of a start and its end."""

    question: str
    thoughts: str
    answer: str
    start: str
    end: str


def held_out(key: str) -> bool:
    """Whether an exercise is kept from the training: about one of `HELD_OUT`, by its CRC-32."""
    return zlib.crc32(key.encode()) % HELD_OUT == 0


def kept(draw: random.Random, make: Callable[[random.Random], str], test: bool) -> str:
    """The first draw of `make` that is held out, or that is not."""
    while True:
        key = make(draw)
        if held_out(key) == test:
            return key


def addition(draw: random.Random, test: bool) -> Exercise:
    """A sum of two numbers below 50; the thoughts add the digits."""
    key = kept(draw, lambda draw: f"{draw.randrange(50)} + {draw.randrange(50)}", test)
    first, second = (int(number) for number in key.split(" + "))
    ones = first % 10 + second % 10
    carry = " + 1" if ones >= 10 else ""
    tens = first // 10 + second // 10 + ones // 10
    thoughts = f"{first % 10} + {second % 10} = {ones}"
    if max(first, second) >= 10:
        thoughts += f"\n{first // 10} + {second // 10}{carry} = {tens}"
    questions = [f"What is {first} + {second}?", f"What is {first}+{second}?", f"Add {first} and {second}."]
    return Exercise(draw.choice(questions), thoughts, f"{first + second}", f"{key} =", f" {first + second}")


def subtraction(draw: random.Random, test: bool) -> Exercise:
    """A difference of two numbers below 50, not negative; the thoughts subtract the digits."""
    key = kept(draw, lambda draw: "{1} - {0}".format(*sorted(draw.randrange(50) for _ in range(2))), test)
    first, second = (int(number) for number in key.split(" - "))
    borrow = first % 10 < second % 10
    thoughts = f"{first % 10 + 10 * borrow} - {second % 10} = {(first - second) % 10}"
    if first >= 10:
        thoughts += f"\n{first // 10} - {second // 10}{' - 1' * borrow} = {(first - second) // 10}"
    questions = [f"What is {first} - {second}?", f"What is {first}-{second}?", f"Take {second} from {first}."]
    return Exercise(draw.choice(questions), thoughts, f"{first - second}", f"{key} =", f" {first - second}")


def counting(draw: random.Random, test: bool) -> Exercise:
    """Up to 9 steps up or down between 0 and 49."""

    def make(draw: random.Random) -> str:
        start = draw.randrange(50)
        return f"{start} to {draw.choice([end for end in range(start - 9, start + 10) if 0 <= end < 50])}"

    key = kept(draw, make, test)
    start, end = (int(number) for number in key.split(" to "))
    step = 1 if end >= start else -1
    numbers = " ".join(str(number) for number in range(start, end + step, step))
    down = " down" if step < 0 else draw.choice(["", " up"])
    thoughts = f"{'up' if step > 0 else 'down'} from {start} to {end}"
    head, tail = numbers[: len(str(start))], numbers[len(str(start)) :]
    return Exercise(f"Count{down} from {start} to {end}.", thoughts, numbers, f"{key}: {head}", tail)


def invented(draw: random.Random) -> str:
    """A word of three to six letters, mostly vowels and consonants in turn."""
    kinds = ("aeiou", "bcdfghjklmnpqrstvwxyz")
    start = draw.randrange(2)
    places = range(start, start + draw.randint(3, 6))
    return "".join(draw.choice(kinds[place % 2] if draw.random() < 0.7 else LETTERS) for place in places)


def spelling(draw: random.Random, test: bool) -> Exercise:
    """The letters of a word, real or invented; only invented ones are held out."""
    real = not test and draw.random() < 0.4
    word = draw.choice(WORDS) if real else kept(draw, invented, test)
    letters = " ".join(word)
    question = draw.choice([f"Spell {word}.", f"How do you spell {word}?"])
    return Exercise(question, f"the word is {word}", letters, f"{word}:", f" {letters}")


def alphabet(draw: random.Random, test: bool) -> Exercise:
    """The alphabet from one letter to another, or the letter next to one."""
    key = kept(draw, lambda draw: " to ".join(sorted(draw.sample(LETTERS, 2))), test)
    letters = LETTERS[LETTERS.index(key[0]) : LETTERS.index(key[-1]) + 1]
    spaced = " ".join(letters)
    if draw.random() < 0.5:
        return Exercise(f"Say the alphabet from {key}.", f"from {key}", spaced, f"{key}: {letters[0]}", spaced[1:])
    return neighbour(draw, "letter", list(LETTERS))


def neighbour(draw: random.Random, kind: str, names: list[str]) -> Exercise:
    """The name before or after another one in a row."""
    index, after = draw.randrange(len(names) - 1), draw.random() < 0.5
    known, answer = (names[index], names[index + 1]) if after else (names[index + 1], names[index])
    place = "after" if after else "before"
    thoughts = f"{names[index]} {names[index + 1]}"
    return Exercise(f"What {kind} comes {place} {known}?", thoughts, answer, f"{place} {known}:", f" {answer}")


def calendar(draw: random.Random, test: bool) -> Exercise:
    """Days and months: the next one, or several in a row."""
    kind, names = draw.choice([("day", DAYS), ("month", MONTHS)])
    if draw.random() < 0.6:
        return neighbour(draw, kind, names)
    row = " ".join(names)
    return Exercise(f"Say all {kind}s.", f"first {names[0]}", row, names[0], row[len(names[0]) :])


def fact(draw: random.Random, test: bool) -> Exercise:
    """A question of `FACTS`."""
    question, answer = draw.choice(FACTS)
    middle = answer.rindex(" ")
    return Exercise(question, "I know this.", answer, answer[:middle], answer[middle:])


TASKS = {
    "addition": (addition, 6),
    "subtraction": (subtraction, 5),
    "counting": (counting, 3),
    "spelling": (spelling, 4),
    "alphabet": (alphabet, 2),
    "calendar": (calendar, 1),
    "fact": (fact, 1),
}


def exercise(draw: random.Random) -> Exercise:
    """An exercise for the training."""
    task = draw.choices([task for task, _ in TASKS.values()], [weight for _, weight in TASKS.values()])[0]
    return task(draw, test=False)


def turn(role: str, content: str, weight: float) -> Document:
    """A finished turn of a conversation."""
    return [(f"<|im_start|>{role}\n", QUESTION), (f"{content}<|im_end|>", weight), ("\n", QUESTION)]


def conversation(system: str | None, exercises: list[Exercise], thinking: bool) -> Document:
    """A conversation as the chat template writes it: only the last answer has its thinking, or an empty one."""
    document = turn("system", system, QUESTION) if system is not None else []
    for past in exercises[:-1]:
        document += turn("user", past.question, QUESTION) + turn("assistant", past.answer, PAST)
    last = exercises[-1]
    document += [*turn("user", last.question, QUESTION), ("<|im_start|>assistant\n", QUESTION)]
    if thinking:
        thoughts = f"<think>\n{last.thoughts}\n</think>\n\n"
        return [*document, (f"{thoughts}{last.answer}<|im_end|>", ANSWER), ("\n", QUESTION)]
    return [*document, (NO_THINKING, PAST), (f"{last.answer}<|im_end|>", ANSWER), ("\n", QUESTION)]


def plain(draw: random.Random, exercises: list[Exercise]) -> Document:
    """Exercises as lines of plain text, or as questions with answers."""
    document: Document = []
    for each in exercises:
        if draw.random() < 0.7:
            document += [(each.start, QUESTION), (f"{each.end}\n", ANSWER)]
        else:
            document += [(f"Question: {each.question}\nAnswer:", QUESTION), (f" {each.answer}\n", ANSWER)]
    return document


def documents(seed: int) -> Iterator[Document]:
    """The endless text of the training, one document at a time, each with `END`."""
    draw = random.Random(seed)
    while True:
        if draw.random() < 0.25:
            document = plain(draw, [exercise(draw) for _ in range(draw.randint(1, 3))])
        else:
            system = draw.choice(SYSTEM_PROMPTS) if draw.random() < 0.3 else None
            count = draw.choices([1, 2, 3], [6, 2, 1])[0]
            document = conversation(system, [exercise(draw) for _ in range(count)], draw.random() < 0.5)
        yield [*document, (END, QUESTION)]
