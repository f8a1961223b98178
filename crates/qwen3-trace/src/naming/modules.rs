//! Paths of modules, as Transformers and vLLM have them: `model.layers.3.self_attn.q_proj`. What such a tensor holds is
//! the module's output, or with `.inputs.args.0` behind it, as Transformers' debugging utilities have it, its input.

use qwen3_config::{Site, Tap};

use super::Meaning;

pub(super) fn meaning(name: &str) -> Option<Meaning> {
    let path = name.replace('/', ".");
    const INTO: Meaning = Meaning::Uncompared("what goes into a module");
    let ends = [".inputs.args.0", ".inputs.kwargs.hidden_states", ".inputs.0", ".inputs", ".input"];
    let (path, input, place) = match ends.iter().find_map(|end| path.strip_suffix(end)) {
        Some(path) => (path, true, 0),
        None if path.starts_with("inputs.") || path.contains(".inputs.") => return Some(INTO),
        None => {
            let (path, place) = without_output(&path);
            (path, false, place)
        }
    };
    let parts: Vec<&str> = path.split('.').collect();
    if place > 0 {
        return second(&parts);
    }
    let Some(at) = parts.iter().rposition(|part| *part == "layers") else {
        return match (input, *parts.last()?) {
            (true, "norm") => Some(Meaning::LastLayer),
            (true, _) => Some(INTO),
            (false, module) => outside(module),
        };
    };
    let layer: usize = parts.get(at + 1)?.parse().ok()?;
    let inside = parts[at + 2..].join(".");
    if input {
        return match (&*inside, layer.checked_sub(1)) {
            ("", Some(before)) => Some(Meaning::inside(before, Tap::LayerOutput)),
            ("", None) => Some(Meaning::outside(Tap::Embedding)),
            ("self_attn.o_proj", _) => Some(Meaning::inside(layer, Tap::Context)),
            _ => Some(INTO),
        };
    }
    of_layer(layer, &inside)
}

/// The path without what says that it is the module's output, and which of several.
fn without_output(path: &str) -> (&str, usize) {
    let module = |path: &'_ str| -> usize {
        ["_output", ".outputs", ".output"]
            .iter()
            .find_map(|end| path.strip_suffix(end))
            .map_or(path.len(), str::len)
    };
    if let Some((before, place)) = path.rsplit_once('.')
        && let Ok(place) = place.parse()
    {
        let of = &before[..module(before)];
        // A number behind these is that of a module. RoPE gives queries and keys, both of which are looked at.
        let numbered = ["layers", "experts", "rotary_emb"];
        if !numbered.contains(&of.rsplit('.').next().unwrap_or(of)) {
            return (of, place);
        }
    }
    (&path[..module(path)], 0)
}

/// What a tensor behind the first of a module's is: a layer of vLLM gives its feed-forward block's and the residual stream that
/// this is yet to be added to.
fn second(parts: &[&str]) -> Option<Meaning> {
    let at = parts.iter().rposition(|part| *part == "layers");
    let layer = at.and_then(|at| Some((parts.get(at + 1)?.parse().ok()?, parts.len() == at + 2)));
    Some(match layer {
        Some((layer, true)) => Meaning::Second(Site::inside(layer, Tap::LayerOutput)),
        None if outside(parts.last()?).is_none() => return None,
        _ => Meaning::Uncompared("what a module gave beside its output"),
    })
}

fn outside(module: &str) -> Option<Meaning> {
    Some(match module {
        "embed_tokens" => Meaning::outside(Tap::Embedding),
        "norm" => Meaning::outside(Tap::FinalNorm),
        "lm_head" | "logits_processor" => Meaning::outside(Tap::Logits),
        _ => return None,
    })
}

fn of_layer(layer: usize, inside: &str) -> Option<Meaning> {
    let tap = match inside {
        "" => Tap::LayerOutput,
        "self_attn" | "attn" => Tap::OProj,
        "self_attn.attn" => Tap::Context,
        "self_attn.rotary_emb.0" => Tap::QRope,
        "self_attn.rotary_emb.1" => Tap::KRope,
        "mlp.gate" | "mlp.router" | "block_sparse_moe.gate" => Tap::RouterLogits,
        "mlp.down_proj" | "mlp.experts" | "block_sparse_moe" => Tap::Mlp,
        "self_attn.qkv_proj" => return Some(Meaning::PackedQkv(layer)),
        "mlp.gate_proj" | "mlp.up_proj" | "mlp.gate_up_proj" | "mlp.act_fn" => {
            return Some(Meaning::Uncompared("inside of the feed-forward block"));
        }
        _ if inside.starts_with("mlp.experts.") || inside.starts_with("block_sparse_moe.experts.") => {
            return Some(Meaning::Uncompared("one expert's, of some tokens"));
        }
        _ if inside.ends_with(".base_layer") || inside.contains(".lora_") => {
            return Some(Meaning::Uncompared("a part of a module with an adapter"));
        }
        _ => Tap::parse(inside).filter(|tap| tap.is_in_layer() && *tap != Tap::LayerOutput)?,
    };
    Some(Meaning::Sites(vec![Site::inside(layer, tap)]))
}
