"""Checks the peers on the tiny checkpoints of fixtures/: the ids they generate, what they print, what they refuse.

Give each peer by the command that starts it. One that is not given is not tested, one that cannot run fails.

    python tools/peers/test_peers.py \\
        --transformers "tools/.venv/bin/python tools/peers/transformers_peer.py" \\
        --llama-cpp "tools/peers/.venv/bin/python tools/peers/llama_cpp_peer.py" \\
        --candle tools/peers/candle/target/release/candle-peer

The expected ids are those of `oracle.py fixtures`. Exit code 1 when a check fails. It needs numpy.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
CHECKPOINTS = FIXTURES / "checkpoints"
# Of the trained checkpoint's prompts: a batch of one length, and the longest.
BATCH_LENGTH = 7
ACCEPTED = ["--model", str(CHECKPOINTS / "gqa-tied"), "--dtype", "f32", "--threads", "1"]
REFUSED = [
    ["--model", str(CHECKPOINTS / "gqa-tied")],
    ["--model", str(CHECKPOINTS / "nowhere"), *ACCEPTED[2:]],
    ["--model", str(CHECKPOINTS), *ACCEPTED[2:]],
    [*ACCEPTED[:2], "--dtype", "q8", "--threads", "1"],
    [*ACCEPTED[:4], "--threads", "0"],
    [*ACCEPTED[:4], "--threads", "two"],
    [*ACCEPTED, "--prompt", "32,,128"],
    [*ACCEPTED, "--prompt=-32"],
    [*ACCEPTED, "--prompt", ""],
    [*ACCEPTED, "--context", "0"],
    [*ACCEPTED, "--batch", "2,2"],
    [*ACCEPTED, "--gen", "0"],
    [*ACCEPTED, "--runs", "1.5"],
    [*ACCEPTED, "--seed=-1"],
    [*ACCEPTED, "--ids", "1,256"],
    [*ACCEPTED, "--ids", "1", "--ids", "1,2"],
    [*ACCEPTED, "--no-such-option"],
]


@dataclass
class Peer:
    """A program under test."""

    name: str
    command: list[str]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Starts it and waits."""
        return subprocess.run([*self.command, *options], capture_output=True, text=True, check=False)


@dataclass
class Continuation:
    """Prompts of one length and the ids behind them in float64: [batch][length], [batch][new]."""

    checkpoint: str
    dtype: str
    prompts: list[list[int]]
    expected: list[list[int]]


def continuations() -> Iterator[Continuation]:
    """Those of the fixtures that every sound run gives: all in float32, only the first and clear ones in halves."""
    with np.load(FIXTURES / "trained-tiny" / "greedy-50.npz") as archive:
        ids, mask, generated = (archive[key] for key in ("input_ids", "attention_mask", "generated_ids"))
    lengths = mask.sum(1)
    for length in (BATCH_LENGTH, ids.shape[1]):
        rows = np.flatnonzero(lengths == length)
        prompts, expected = ids[rows, -length:].tolist(), generated[rows, ids.shape[1] :].tolist()
        yield Continuation("trained-tiny", "f32", prompts, expected)
    for name in ("gqa-tied", "gqa-sharded", "mha-untied", "bias-tied"):
        with np.load(FIXTURES / name / "prompt1" / "reference.npz") as archive:
            ids, generated = archive["input_ids"].tolist(), archive["generated_ids"]
        expected = generated[:, len(ids[0]) :].tolist()
        yield Continuation(name, "f32", ids, expected)
        for dtype in ("bf16", "f16") if name == "gqa-tied" else ():
            yield Continuation(name, dtype, ids, [row[:1] for row in expected])


def check_ids(peer: Peer) -> Iterator[str]:
    """What is wrong with the ids that the peer generates."""
    for case in continuations():
        options = ["--model", str(CHECKPOINTS / case.checkpoint), "--dtype", case.dtype, "--threads", "2"]
        options += ["--gen", str(len(case.expected[0]))]
        for prompt in case.prompts:
            options += ["--ids", ",".join(map(str, prompt))]
        done = peer.run(*options)
        if (peer.name, case.checkpoint) == ("llama.cpp", "bias-tied"):
            if done.returncode != 3 or "bias" not in done.stderr:
                yield f"bias-tied: exit code {done.returncode} in place of 3: {done.stderr.strip()}"
        elif done.returncode:
            yield f"{case.checkpoint} {case.dtype}: exit code {done.returncode}: {done.stderr.strip()}"
        elif (found := json.loads(done.stdout)["ids"]) != case.expected:
            yield f"{case.checkpoint} {case.dtype}: {found} in place of {case.expected}"


def wrong_in(value: Any) -> Iterator[str]:
    """What is wrong with the JSON of the run of `check_measurements`."""
    found = [tuple(entry[key] for key in ("phase", "tokens", "context", "batch")) for entry in value["measurements"]]
    expected = [("load", 0, 0, 1)]
    expected += [(phase, length, 0, 1) for length in (3, 40) for phase in ("first_token", "prefill")]
    expected += [("decode", 5, 16, 1), ("decode", 5, 16, 3), ("decode", 5, 64, 1)]
    if found != expected:
        yield f"measurements {found} in place of {expected}"
    for entry in value["measurements"]:
        times = entry["samples"] + ([] if entry["phase"] == "load" else [entry["warm_up"]])
        if not all(isinstance(time, float) and math.isfinite(time) and time > 0 for time in times):
            yield f"times {times} in {entry}"
        if len(entry["samples"]) != (1 if entry["phase"] == "load" else 2):
            yield f"{len(entry['samples'])} samples in {entry}"
    skipped = [(entry["phase"], entry["tokens"], entry["context"], bool(entry["reason"])) for entry in value["skipped"]]
    if skipped != [("first_token", 500, 0, True), ("prefill", 500, 0, True), ("decode", 5, 127, True)]:
        yield f"skipped {skipped}"
    if (value["schema"], value["threads"], bool(value["version"])) != (1, 2, True):
        yield f"schema {value['schema']}, threads {value['threads']}, version {value['version']!r}"
    peak = value["peak_rss_mb"]
    if sys.platform == "linux" and not (isinstance(peak, float) and peak > 1):
        yield f"peak_rss_mb {peak}"


def check_measurements(peer: Peer) -> Iterator[str]:
    """What is wrong with a small run, of which the last prompt and the last context do not fit the model."""
    lists = ["--prompt", "3,40,500", "--gen", "5", "--context", "16,64,127", "--batch", "1,3", "--runs", "2"]
    done = peer.run(*ACCEPTED[:4], "--threads", "2", *lists)
    if done.returncode:
        yield f"measuring: exit code {done.returncode}: {done.stderr.strip()}"
    else:
        yield from wrong_in(json.loads(done.stdout))


def check_refusals(peer: Peer) -> Iterator[str]:
    """Bad input that the peer does not refuse in one line."""
    with tempfile.TemporaryDirectory() as folder:
        broken = Path(folder)
        (broken / "config.json").write_text((CHECKPOINTS / "gqa-tied" / "config.json").read_text(encoding="utf-8"))
        for weights in (None, b"", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"{}"):
            if weights is not None:
                (broken / "model.safetensors").write_bytes(weights)
            yield from refusal(peer, ["--model", folder, *ACCEPTED[2:]], f"weights {weights!r}")
    for name in ("window", "yarn", "window-yarn", "fp8"):
        yield from refusal(peer, ["--model", str(CHECKPOINTS / name), *ACCEPTED[2:]], name)
    for options in REFUSED:
        yield from refusal(peer, options, " ".join(options))


def refusal(peer: Peer, options: list[str], what: str) -> Iterator[str]:
    """What is wrong with the refusal of these options."""
    done = peer.run(*options)
    if done.returncode != 2 or done.stdout or len(done.stderr.splitlines()) != 1:
        yield f"{what}: exit code {done.returncode}, stdout {done.stdout!r}, stderr {done.stderr!r}"


def main() -> None:
    """Runs every check of every peer given, and prints what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("transformers", "llama-cpp", "candle"):
        parser.add_argument(f"--{name}", metavar="COMMAND", help=f"what starts the peer {name}")
    given = vars(parser.parse_args())
    peers = [Peer(name.replace("llama_cpp", "llama.cpp"), shlex.split(line)) for name, line in given.items() if line]
    if not peers:
        parser.error("no peer is given")
    failures = 0
    with tempfile.TemporaryDirectory() as cache:
        for peer in peers:
            if peer.name == "llama.cpp":
                peer.command += ["--cache", cache]
            for check in (check_ids, check_measurements, check_refusals):
                wrong = list(check(peer))
                print(f"{peer.name}: {check.__name__}: {'failed' if wrong else 'passed'}", flush=True)
                print("".join(f"    {line}\n" for line in wrong), end="", flush=True)
                failures += bool(wrong)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
