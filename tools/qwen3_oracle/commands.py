"""What the oracle's commands do, each under the name of its script."""

from __future__ import annotations

import shutil
import tempfile
from argparse import Namespace
from pathlib import Path, PurePosixPath

from . import (
    dtypes,
    layer_cases,
    manifest,
    observed,
    prompts,
    random_models,
    reference,
    retrieval_cases,
    sensitivity,
    small,
    stored,
    suite,
    synthetic,
    text_cases,
    trained,
    wild,
)
from .adapters import Adapter
from .cases import Case
from .checkpoint import DTYPES, layer_weights, read_config
from .errors import InputError
from .files import read_json, rounded, write_json, write_safetensors

# Commands of their own, which are found here by their names.
from .tiny_commands import measure_skills, train_tiny  # noqa: F401

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
)


def replace(source: Path, target: Path) -> None:
    """Moves a finished folder or file to its place, removing what was there."""
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)


def report(cases: list[Case]) -> None:
    """Prints the margins of the generated tokens beside the noise of the logits that chose them."""
    for case in cases:
        if case.kind == "full_model":
            noise = ", ".join(f"{dtype} {value:.2g}" for dtype, value in reference.step_noise(case).items())
            print(f"{case.id}: smallest margin {reference.smallest_margin(case):.3g}; noise of the logits: {noise}")


def make_all(output: Path, work: Path, official_tokenizer: Path | None) -> None:
    """The repository's own fixtures, checked, as they lie on disk, for their power to show mistakes."""
    path = trained.keep(output, work)
    checkpoints, cases = suite.make_tiny(work)
    greedy, texts = text_cases.make(path, work, output, official_tokenizer)
    cases += greedy
    retrieval, more = retrieval_cases.make(path, work, text_cases.FOLDER)
    texts += more
    observations = observed.make_tiny(checkpoints, work)
    wild.make(work / "fixtures" / "wild", wild.COUNT, wild.SEED, False, 0, print)
    small.make(work / "fixtures")
    random = random_models.make(work)
    hostile = output / "fixtures" / "hostile"
    if hostile.is_dir():
        # Not the oracle's, and in the folder that is replaced.
        shutil.copytree(hostile, work / "fixtures" / "hostile")
    listed = checkpoints | retrieval
    write_json(work / "manifest.json", manifest.manifest(work, listed, cases, observations, texts, random))
    sensitivity.check(*stored.read(work / "manifest.json"), DTYPES)
    report(cases)
    replace(work / "fixtures", output / "fixtures")
    replace(work / "manifest.json", output / "manifest.json")


def make_one(output: Path, work: Path, options: Namespace) -> None:
    """Fixtures of one checkpoint, which has to lie below the manifest's folder."""
    path, name = options.model_path.resolve(), options.model_path.resolve().name
    read_config(path)
    folder = PurePosixPath("fixtures") / name
    if not path.is_relative_to(output):
        raise InputError(f"{path} is not below {output}, and a manifest's paths cannot leave its folder")
    if path.is_relative_to(output / folder):
        raise InputError(f"{path} is inside {output / folder}, which this command replaces")
    plan = suite.plan_for(path, options.layer, options.max_new_tokens, tuple(DTYPES) if options.gradients else ())
    cases = suite.make(name, path, plan, folder, options.floors, work)
    report(cases)
    replace(work / folder, output / folder)
    write_json(output / "manifest.json", manifest.manifest(output, {name: path}, cases))


def make_fixtures(options: Namespace) -> None:
    """`oracle.py fixtures`."""
    if options.model_path is None and (
        (options.layer, options.max_new_tokens, options.gradients, options.floors) != (None, 8, False, list(DTYPES))
    ):
        raise InputError("--layer, --max-new-tokens, --gradients and --floors go with --model-path")
    if options.model_path is not None and options.official_tokenizer is not None:
        raise InputError("--official-tokenizer goes without --model-path")
    output = options.output_dir.resolve()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fixtures-", dir=output) as work:
        if options.model_path is None:
            make_all(output, Path(work), options.official_tokenizer)
        else:
            make_one(output, Path(work), options)


def make_layer_fixtures(options: Namespace) -> None:
    """`oracle.py layer-fixtures`."""
    path, layer, output = options.model_path.resolve(), options.layer, options.output_dir
    weights = layer_weights(path, layer)
    maker = layer_cases.LayerCases(path, layer, path.name, PurePosixPath())
    cases = maker.module_cases()
    layer_cases.compute(cases, path, options.floors)
    metadata = {"model": path.name, "layer": f"model.layers.{layer}"}
    write_safetensors(output / "weights.safetensors", weights, metadata)
    for case in cases:
        layer_cases.write(case, output / case.file)
    entries = [manifest.case_entry(case) for case in cases]
    summary = {"packages": manifest.packages(), "seed": layer_cases.SEED, "cases": entries}
    write_json(output / "cases.json", summary)
    print(f"{len(cases)} cases of layer {layer} of {path.name} in {output}")


def reference_entry(case: Case, prompt: str | None, origin: str) -> dict[str, object]:
    """What `reference.json` says about one prompt; `prompt` is None when it was given as token ids."""
    margins = case.expected["margins"][0]
    return {
        "prompt": prompt,
        "tokens_from": origin,
        "max_new_tokens": case.new_tokens,
        "packages": manifest.packages(),
        "margins": {
            "smallest": rounded(margins.min().item()),
            "smallest_at_step": margins.argmin().item(),
            "median": rounded(margins.median().item()),
        },
        "published_float64_difference": rounded(case.published_difference),
        "noise_floors": case.floors,
    }


def extract_reference(options: Namespace) -> None:
    """`oracle.py reference`."""
    if options.merged and options.adapter is None:
        raise InputError("--merged goes with --adapter")
    path = options.model_path.resolve()
    maker = reference.FullCases(path, path.name, PurePosixPath())
    texts = options.prompt if options.prompt or options.prompt_ids else prompts.DEFAULT_PROMPTS
    cases = [maker.prompt(number, text, options.max_new_tokens) for number, text in enumerate(texts, 1)]
    for number, ids in enumerate(options.prompt_ids, len(texts) + 1):
        cases.append(maker.token_ids(number, ids, options.max_new_tokens))
    for case in cases:
        case.taps = options.taps
    adapter = options.adapter and Adapter(options.adapter.resolve(), options.merged)
    reference.compute(cases, path, [options.dtype] if options.dtype else options.floors, adapter)
    sources = [(text, maker.origin) for text in texts] + [(None, "--prompt-ids")] * len(options.prompt_ids)
    for case, (prompt, origin) in zip(cases, sources, strict=True):
        file = options.output_dir / case.file
        write_json(file.with_suffix(".json"), reference_entry(case, prompt, origin))
        reference.write(case, file)
        print(f"{file}: {case.description}, smallest margin {reference.smallest_margin(case):.3g}")


def plant_faults(options: Namespace) -> None:
    """`oracle.py plant`."""
    path = options.model_path.resolve()
    adapter = options.adapter and Adapter(options.adapter.resolve())
    wanted = observed.wanted(path, options.fault, options.layer, adapter)
    bench = observed.Bench(path, options.reference, options.dtype, adapter)
    for forms in wanted:
        observation = bench.observe(forms, options.layer)
        mistake = observation.mistake
        file = options.output_dir / f"{mistake.id}.npz"
        observed.write(observation, file)
        print(f"{file}: {mistake.description}; {observation.place()}", flush=True)
    bench.check_restored()


def make_checkpoint(options: Namespace) -> None:
    """`oracle.py checkpoint`."""
    output, tokenizer = options.output_dir, options.tokenizer_from
    read_config(options.config)
    values = read_json(options.config)
    if options.num_hidden_layers is not None:
        values["num_hidden_layers"] = options.num_hidden_layers
        if values.get("layer_types"):
            count, types = options.num_hidden_layers, values["layer_types"]
            values["layer_types"] = (types * (count // len(types) + 1))[:count]
    spelling = "dtype" if "dtype" in values else "torch_dtype"
    values[spelling] = dtypes.NAMES[options.dtype]
    output.mkdir(parents=True, exist_ok=True)
    if any(output.glob("*.safetensors*")):
        raise InputError(f"{output} holds weights already")
    if tokenizer is not None:
        if not (tokenizer / "tokenizer.json").is_file():
            raise InputError(f"{tokenizer} has no tokenizer.json")
        for name in TOKENIZER_FILES:
            if (tokenizer / name).is_file():
                shutil.copyfile(tokenizer / name, output / name)
    write_json(output / "config.json", values)

    def progress(line: str) -> None:
        print(line, flush=True)

    dtype = DTYPES[options.dtype]
    synthetic.write_weights(output, read_config(output), dtype, options.seed, options.shards, progress)


def make_wild(options: Namespace) -> None:
    """`oracle.py wild`."""
    count, seed = options.count, options.seed
    wild.make(options.output_dir, count, seed, options.taps, options.sized_on, lambda line: print(line, flush=True))


def check_sensitivity(options: Namespace) -> None:
    """`oracle.py sensitivity`."""
    checkpoints, cases = stored.read(options.manifest)
    sensitivity.check(checkpoints, cases, options.floors)
