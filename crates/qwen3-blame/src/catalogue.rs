//! The catalogue of known mistakes.

use qwen3_checkpoint::Adapter;
use qwen3_config::{FeedForwardKind, Qwen3Config, Rope, Windows};

use crate::experts::of_experts;
use crate::habits::{self, Habit};
use crate::hypothesis::Hypothesis;
use crate::low_rank::{AdapterUse, OtherScale, any_square};
use crate::variant::{Activation, Head, HeadNorm, Layout, LookBack, Mask, Rotation, Variant, WeightOffset};
use crate::wiring::of_wiring;

fn h(id: &'static str, words: &str, change: fn(&mut Variant)) -> Hypothesis {
    Hypothesis::new(id, words, change)
}

/// The mistakes that show inside a decoder layer, but for those with a number to fit and
/// `layer_permuted`, which depends on the layer. `longest` is the number of tokens in a row.
pub fn in_layers(config: &Qwen3Config, longest: usize) -> Vec<Hypothesis> {
    let per_head = config.hidden_size as f64 / config.num_attention_heads as f64;
    let mut list = vec![
        h("rope_interleaved", "RoPE rotates interleaved pairs", |v| v.rotation = Rotation::Interleaved),
        h("rope_missing", "RoPE is left out", |v| v.rotation = Rotation::Missing),
        h("q_norm_missing", "q_norm is left out", |v| v.q_norm = false),
        h("k_norm_missing", "k_norm is left out", |v| v.k_norm = false),
        h("qk_norm_after_rope", "q_norm and k_norm come after RoPE", |v| v.head_norm = HeadNorm::AfterRope),
        h(
            "qk_norm_after_rope",
            "q_norm and k_norm come after RoPE, and what is called so is what RoPE reads",
            |v| v.head_norm = HeadNorm::AfterRopeUnseen,
        ),
        h("qk_norm_over_hidden", "q_norm and k_norm average over all heads", |v| {
            v.head_norm = HeadNorm::OverAllHeads
        }),
        h("kv_swapped", "k_proj and v_proj are swapped", |v| v.kv_swapped = true),
        h("activation_gelu", "the activation is GELU (tanh form)", |v| v.activation = Activation::GeluTanh),
        h("activation_gelu", "the activation is GELU (erf form)", |v| v.activation = Activation::GeluErf),
        h("attention_scale_missing", "scores are not scaled", |v| v.scale = 1.0),
        Hypothesis::new(
            "attention_scale_hidden",
            "scores are scaled by 1/sqrt(hidden_size / heads)",
            move |v| v.scale = per_head.powf(-0.5),
        ),
        h("causal_mask_missing", "every query sees every key", |v| v.mask = Mask::Missing),
        h("causal_mask_off_by_one", "every query sees the next token too", |v| v.mask = Mask::ShowsNext),
        h("causal_mask_off_by_one", "no query sees its own token", |v| v.mask = Mask::HidesSelf),
        h("causal_mask_off_by_one", "no query but the first sees its own token", |v| {
            v.mask = Mask::HidesSelfButFirst
        }),
        h("causal_mask_off_by_one", "no query sees its own token, but the first sees every one", |v| {
            v.mask = Mask::HidesSelfFirstSeesAll
        }),
        h("residual_missing_attention", "attention's input is not added to its output", |v| {
            v.attention_residual = false
        }),
        h("residual_missing_mlp", "the MLP's input is not added to its output", |v| v.mlp_residual = false),
        h("post_norm_is_input_norm", "post_attention_layernorm has input_layernorm's weight", |v| {
            v.post_norm_is_input_norm = true
        }),
    ];
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    if kv_heads > 1 && kv_heads < heads {
        list.push(h("gqa_interleaved_groups", "query head h reads key head h % num_key_value_heads", |v| {
            v.groups_interleaved = true
        }));
    }
    let is_dense = |layer| matches!(config.layer(layer).feed_forward, FeedForwardKind::Dense { .. });
    if (0..config.num_hidden_layers).any(is_dense) {
        list.push(h("gate_up_swapped", "gate_proj and up_proj are swapped", |v| v.gate_up_swapped = true));
    }
    list.extend(of_experts(config));
    list.extend(of_yarn(&config.rope));
    list.extend(of_windows(&config.windows, longest));
    list.extend(habits::of_layers(config));
    list.extend(of_wiring());
    list.extend(transposed("k_transposed", "k_proj", |v| &mut v.k_layout));
    list.extend(transposed("v_transposed", "v_proj", |v| &mut v.v_layout));
    list.extend(weight_offsets());
    list.extend(position_offsets(longest).map(position_offset));
    list
}

/// Mistakes in how the adapter is used.
pub fn of_adapter(adapter: &Adapter, config: &Qwen3Config) -> Vec<Hypothesis> {
    let with = |id, words: &str, used| Hypothesis::new(id, words, move |v: &mut Variant| v.adapter = used);
    let [right, wrong] = if adapter.config().use_rslora {
        ["alpha / sqrt(r)", "alpha / r, as without rsLoRA"]
    } else {
        ["alpha / r", "alpha / sqrt(r), as rsLoRA has it"]
    };
    let scaled = |id, by: &str, scale| {
        with(
            id,
            &format!("the adapter's change is multiplied by {by}, not by {right}"),
            AdapterUse::Scaled(scale),
        )
    };
    let mut list = vec![
        with("adapter_missing", "the adapter is left out", AdapterUse::Missing),
        scaled("adapter_not_scaled", "1", OtherScale::One),
        scaled("adapter_not_scaled", "alpha", OtherScale::Alpha),
        scaled("adapter_rslora", wrong, OtherScale::OtherRoot),
    ];
    let transposed = |words: &str, used| with("adapter_transposed", words, used);
    if any_square(adapter, config) {
        let words = "lora_A and lora_B have each other's place, where B A is square";
        list.push(transposed(words, AdapterUse::Transposed));
    }
    let (right, in_out, turned) = (Layout::OutIn, Layout::InOut, Layout::TransposedAsOutIn);
    for (words, a, b) in [
        ("lora_A is read as [in, r] and lora_B as [r, out]", in_out, in_out),
        ("lora_A is read as [in, r]", in_out, right),
        ("lora_B is read as [r, out]", right, in_out),
        ("lora_A and lora_B are transposed and read as [r, in] and [out, r]", turned, turned),
        ("lora_A is transposed and read as [r, in]", turned, right),
        ("lora_B is transposed and read as [out, r]", right, turned),
    ] {
        list.push(transposed(words, AdapterUse::Read { a, b }));
    }
    list
}

/// Mistakes in YaRN, where RoPE has it.
fn of_yarn(rope: &Rope) -> Vec<Hypothesis> {
    let Rope::Yarn { theta, factor, original, attention_factor, beta_fast, beta_slow, truncate } = *rope
    else {
        return Vec::new();
    };
    let yarn = move |attention_factor, [beta_fast, beta_slow]: [f64; 2], truncate| Rope::Yarn {
        theta,
        factor,
        original,
        attention_factor,
        beta_fast,
        beta_slow,
        truncate,
    };
    let with = |id, words: &str, rope: Rope| Hypothesis::new(id, words, move |v| v.rope = rope);
    let truncation = if truncate { "is not rounded to whole pairs" } else { "is rounded to whole pairs" };
    let betas = [beta_fast, beta_slow];
    vec![
        with("yarn_missing", "RoPE's frequencies are not scaled by YaRN", Rope::Default { theta }),
        with(
            "yarn_attention_factor_missing",
            "YaRN's attention_factor is left out",
            yarn(1.0, betas, truncate),
        ),
        with(
            "yarn_ramp",
            "YaRN's beta_fast and beta_slow are swapped",
            yarn(attention_factor, [beta_slow, beta_fast], truncate),
        ),
        with("yarn_ramp", &format!("YaRN's ramp {truncation}"), yarn(attention_factor, betas, !truncate)),
        with(
            "yarn_ramp",
            "YaRN's beta_fast and beta_slow are 32 and 1",
            yarn(attention_factor, [32.0, 1.0], truncate),
        ),
        with("yarn_ramp", "every frequency is divided by YaRN's factor", Rope::Linear { theta, factor }),
    ]
}

/// Mistakes in sliding windows, where a prompt of `longest` tokens is longer than they are.
fn of_windows(windows: &Windows, longest: usize) -> Vec<Hypothesis> {
    let Some(window) = windows.window().filter(|window| *window < longest) else {
        return Vec::new();
    };
    let with = |id, words: String, wrong| Hypothesis::new(id, words, move |v| v.look_back = wrong);
    let mut list = vec![
        with(
            "window_missing",
            format!("queries look back over more than {window} tokens"),
            LookBack::Missing,
        ),
        with("window_off_by_one", format!("windows have {} tokens", window + 1), LookBack::Longer(1)),
    ];
    if window > 1 {
        let words = format!("windows have {} tokens", window - 1);
        list.push(with("window_off_by_one", words, LookBack::Longer(-1)));
    }
    if windows.are_mixed() {
        let words = "windows are in the layers that have none, and none where they should be";
        list.push(with("window_in_wrong_layers", words.into(), LookBack::Exchanged(window)));
    }
    list
}

/// A prompt that is read in chunks of `size` tokens, each blind to those before it.
pub fn chunks(size: usize) -> Hypothesis {
    let words = format!("the prompt is read in chunks of {size} tokens that do not see those before them");
    Hypothesis::new("chunk_mask", words, move |v| v.mask = Mask::Chunks(size))
}

/// A projection's weight taken for what it is not.
fn transposed(
    id: &'static str,
    projection: &str,
    layout: fn(&mut Variant) -> &mut Layout,
) -> [Hypothesis; 2] {
    let with = |words: &str, wrong| {
        Hypothesis::new(id, format!("{projection}.weight is {words}"), move |v| *layout(v) = wrong)
    };
    [
        with("read as [in, out]", Layout::InOut),
        with("transposed and read as [out, in]", Layout::TransposedAsOutIn),
    ]
}

/// Keys rotated by another position than they have, which only shows where they are observed: in what comes
/// out of attention it is the opposite of a [`position_offset`].
pub fn key_offsets(longest: usize) -> impl Iterator<Item = Hypothesis> {
    position_offsets(longest).map(|offset| {
        Hypothesis::new(
            "rope_position_offset",
            format!("keys stand {offset:+} positions against the queries"),
            move |v| v.key_offset = offset,
        )
    })
}

/// Queries rotated by `offset` positions against the keys.
pub fn position_offset(offset: i64) -> Hypothesis {
    Hypothesis::new(
        "rope_position_offset",
        format!("queries stand {offset:+} positions against the keys"),
        move |v| v.query_offset = offset,
    )
}

/// The offsets that are tried, nearest first: small ones, and the length of the prompt.
pub fn position_offsets(longest: usize) -> impl Iterator<Item = i64> {
    let longest = longest as i64;
    let near = (1..=16).flat_map(|offset| [offset, -offset]);
    let far = (longest - 1..=longest + 1).filter(|offset| *offset > 16);
    near.chain(far.flat_map(|offset| [offset, -offset]))
}

fn weight_offsets() -> impl Iterator<Item = Hypothesis> {
    [
        (WeightOffset::All, "every norm multiplies by 1 + weight"),
        (WeightOffset::Hidden, "the norms over hidden_size multiply by 1 + weight"),
        (WeightOffset::Heads, "q_norm and k_norm multiply by 1 + weight"),
    ]
    .into_iter()
    .map(|(which, words)| {
        Hypothesis::new("rms_weight_offset_one", words, move |v| {
            v.weight_offset = which;
        })
    })
}

/// The mistakes that show between the last layer's output and the logits, but for the fitted ones.
/// `stored_head`: the file holds an `lm_head.weight`.
pub fn at_the_end(config: &Qwen3Config, stored_head: bool) -> Vec<Hypothesis> {
    let mut list = vec![
        h("final_norm_missing", "the final norm is left out", |v| v.final_norms = 0),
        h("final_norm_twice", "the final norm is applied twice", |v| v.final_norms = 2),
    ];
    list.extend(weight_offsets().take(1));
    list.extend(habits::of_head());
    let hidden = Habit::LayerNorm { hidden: true, heads: false };
    list.push(Hypothesis::new(
        "layer_norm",
        "the final norm subtracts the mean, as LayerNorm does",
        move |v| {
            v.habit = Some(hidden);
        },
    ));
    if config.tie_word_embeddings {
        let zero = "the head is zero, not the embedding: lm_head was never loaded";
        list.push(h("head_untied", zero, |v| v.head = Head::Zeros));
        if stored_head {
            let own = "the logits are made with the file's lm_head, not with the embedding";
            list.push(h("head_untied", own, |v| v.head = Head::Untied));
        }
    } else {
        let embedding = "the logits are made with the embedding, not with lm_head";
        list.push(h("head_tied", embedding, |v| v.head = Head::Embedding));
    }
    list
}
