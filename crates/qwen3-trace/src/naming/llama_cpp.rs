//! Names in llama.cpp's graph: `l_out-3`, `Qcur_normed-3`, `result_norm`.

use qwen3_config::{Site, Tap};

use super::Meaning;

/// What the graph of a Qwen3 holds beside what is compared.
const UNCOMPARED: [&str; 26] = [
    "ffn_inp",
    "ffn_gate",
    "ffn_gate_par",
    "ffn_up",
    "ffn_silu",
    "ffn_swiglu",
    "ffn_gate_up",
    "ffn_moe_probs",
    "ffn_moe_argsort",
    "ffn_moe_topk",
    "ffn_moe_weights",
    "ffn_moe_weights_sum",
    "ffn_moe_weights_sum_clamped",
    "ffn_moe_weights_norm",
    "ffn_moe_gate",
    "ffn_moe_up",
    "ffn_moe_swiglu",
    "ffn_moe_down",
    "ffn_moe_weighted",
    "kq",
    "kq_scaled",
    "kq_soft_max",
    "kqv",
    "kqv_merged",
    "norm",
    "v_cont",
];

pub(super) fn meaning(name: &str) -> Option<Meaning> {
    // A view of a tensor, which goes by its name and what was done to it.
    if let Some((of, _)) = name.strip_suffix(')').and_then(|name| name.rsplit_once(" (")) {
        return meaning(of).map(|_| Meaning::Uncompared("a view of another tensor"));
    }
    match name {
        "inp_embd" | "embd" => return Some(Meaning::outside(Tap::Embedding)),
        "result_norm" => return Some(Meaning::outside(Tap::FinalNorm)),
        "result_output" => return Some(Meaning::outside(Tap::Logits)),
        "inp_tokens" => return Some(Meaning::Key("input_ids")),
        _ => {}
    }
    let (base, layer) = name.rsplit_once('-')?;
    let layer: usize = layer.parse().ok()?;
    let tap = match base {
        "l_out" => Tap::LayerOutput,
        "attn_norm" => Tap::InputLayernorm,
        // Named so behind the projection, and again behind RoPE.
        "Qcur" => return Some(either(layer, Tap::QProj, Tap::QRope)),
        "Kcur" => return Some(either(layer, Tap::KProj, Tap::KRope)),
        "Vcur" => Tap::VProj,
        "Qcur_normed" => Tap::QNorm,
        "Kcur_normed" => Tap::KNorm,
        "kqv_out" => Tap::Context,
        "attn_out" => Tap::OProj,
        "ffn_norm" => Tap::PostAttentionLayernorm,
        "ffn_out" | "ffn_moe_out" => Tap::Mlp,
        "ffn_moe_logits" => Tap::RouterLogits,
        _ if UNCOMPARED.contains(&base) => {
            return Some(Meaning::Uncompared("between two tensors that are compared"));
        }
        _ => return None,
    };
    Some(Meaning::inside(layer, tap))
}

fn either(layer: usize, a: Tap, b: Tap) -> Meaning {
    Meaning::Sites(vec![Site::inside(layer, a), Site::inside(layer, b)])
}
