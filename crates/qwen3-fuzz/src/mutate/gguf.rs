//! GGUF files of llama.cpp's: counts, metadata, tensors' names and places, and their bytes.

use serde_json::Value;

use crate::mutate::bytes;
use crate::mutate::safetensors::split;
use crate::random::Random;

/// Metadata and tensors' names lie within so many bytes of the seed.
const HEAD: usize = 24 << 10;
/// Where tensors begin: at multiples of it.
const ALIGNMENT: usize = 32;

/// GGUF's numbers for types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
/// GGML's number for tensors in bf16.
const BF16: u32 = 30;

/// A changed file.
pub fn mutate(random: &mut Random, good: &[u8]) -> (Vec<u8>, String) {
    let mut file = good.to_vec();
    let head = HEAD.min(file.len() - 8);
    let what = match random.below(8) {
        0..3 => {
            let at = bytes::flip(random, &mut file, 0..head).unwrap_or_default();
            format!("head: a bit flipped at {at}")
        }
        3 | 4 => {
            // Counts of tensors and of metadata, or any length.
            let any = 24 + random.below(head - 24);
            let at = *random.pick(&[8, 16, 24, any]);
            let lie = *random.pick(&[0, 1, 1 << 20, 1 << 31, 1 << 40, 1 << 63, u64::MAX]);
            file[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            format!("head: {lie} written at {at}")
        }
        5 => {
            let at = file.len() - 2 * (1 + random.below(1000));
            let value = *random.pick(&[0x7f80_u16, 0x7fc0, 0xff80]);
            file[at..at + 2].copy_from_slice(&value.to_le_bytes());
            format!("data: {value:#x} at {at}")
        }
        6 => {
            let mut start = file[..head].to_vec();
            let what = bytes::mutate(random, &mut start);
            file = [&start, &good[head..]].concat();
            format!("head: {what}")
        }
        _ => bytes::mutate(random, &mut file),
    };
    (file, what)
}

/// A good file of a small dense checkpoint in bf16: its `config.json`, its `tokenizer.json`, its weights.
pub fn good(config: &Value, tokenizer: &Value, weights: &[u8]) -> Option<Vec<u8>> {
    let (header, data) = split(weights)?;
    let header: Value = serde_json::from_slice(&header.bytes()).ok()?;
    let number = |field: &str| config[field].as_u64().map(|number| number as u32);
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    let mut put = |key: &str, kind: u32, value: Vec<u8>| {
        let mut entry = text(key);
        entry.extend(kind.to_le_bytes());
        entry.extend(value);
        entries.push((key.into(), entry));
    };
    put("general.architecture", STRING, text("qwen3"));
    for (key, field) in [
        ("block_count", "num_hidden_layers"),
        ("embedding_length", "hidden_size"),
        ("feed_forward_length", "intermediate_size"),
        ("attention.head_count", "num_attention_heads"),
        ("attention.head_count_kv", "num_key_value_heads"),
        ("attention.key_length", "head_dim"),
        ("attention.value_length", "head_dim"),
        ("context_length", "max_position_embeddings"),
    ] {
        put(&format!("qwen3.{key}"), U32, number(field)?.to_le_bytes().to_vec());
    }
    // In the spelling of Transformers 4 or 5.
    let thetas = [&config["rope_theta"], &config["rope_parameters"]["rope_theta"]];
    let theta = thetas.into_iter().find_map(Value::as_f64)? as f32;
    put("qwen3.rope.freq_base", F32, theta.to_le_bytes().to_vec());
    let epsilon = config["rms_norm_eps"].as_f64()? as f32;
    put("qwen3.attention.layer_norm_rms_epsilon", F32, epsilon.to_le_bytes().to_vec());
    put("tokenizer.ggml.model", STRING, text("gpt2"));
    put("tokenizer.ggml.pre", STRING, text("qwen2"));
    let mut tokens: Vec<(u64, &str, i32)> = Vec::new();
    for (token, id) in tokenizer["model"]["vocab"].as_object()? {
        tokens.push((id.as_u64()?, token, 1));
    }
    for added in tokenizer["added_tokens"].as_array()? {
        tokens.push((added["id"].as_u64()?, added["content"].as_str()?, 3));
    }
    tokens.sort_unstable();
    let merges = tokenizer["model"]["merges"].as_array()?.iter();
    let merges = merges.map(|pair| Some(format!("{} {}", pair[0].as_str()?, pair[1].as_str()?)));
    let merges: Vec<String> = merges.collect::<Option<_>>()?;
    put("tokenizer.ggml.tokens", ARRAY, list(STRING, tokens.iter().map(|(_, token, _)| text(token))));
    put(
        "tokenizer.ggml.token_type",
        ARRAY,
        list(I32, tokens.iter().map(|(.., kind)| kind.to_le_bytes().to_vec())),
    );
    put("tokenizer.ggml.merges", ARRAY, list(STRING, merges.iter().map(|merge| text(merge))));

    let (mut places, mut all, mut count) = (Vec::new(), Vec::new(), 0_u64);
    for (key, entry) in header.as_object()?.iter().filter(|(key, _)| *key != "__metadata__") {
        let shape: Vec<u64> = entry["shape"].as_array()?.iter().map(Value::as_u64).collect::<Option<_>>()?;
        let [start, end] = [0, 1].map(|at| entry["data_offsets"][at].as_u64());
        places.extend(text(&name_of(key)?));
        places.extend((shape.len() as u32).to_le_bytes());
        places.extend(shape.iter().rev().flat_map(|size| size.to_le_bytes()));
        places.extend(BF16.to_le_bytes());
        places.extend((all.len() as u64).to_le_bytes());
        all.extend(data.get(start? as usize..end? as usize)?);
        all.resize(all.len().next_multiple_of(ALIGNMENT), 0);
        count += 1;
    }
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend((entries.len() as u64).to_le_bytes());
    file.extend(entries.into_iter().flat_map(|(_, entry)| entry));
    file.extend(places);
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file.extend(all);
    Some(file)
}

/// A length and a text.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn list(kind: u32, values: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut all = kind.to_le_bytes().to_vec();
    all.extend((values.len() as u64).to_le_bytes());
    all.extend(values.flatten());
    all
}

/// What GGUF calls a tensor.
fn name_of(key: &str) -> Option<String> {
    let of_layer = |key: &str| {
        let (layer, rest) = key.strip_prefix("model.layers.")?.split_once('.')?;
        let name = match rest.strip_suffix(".weight")? {
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" => "ffn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => return None,
        };
        Some(format!("blk.{layer}.{name}.weight"))
    };
    match key {
        "model.embed_tokens.weight" => Some("token_embd.weight".into()),
        "model.norm.weight" => Some("output_norm.weight".into()),
        "lm_head.weight" => Some("output.weight".into()),
        key => of_layer(key),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_seed_has_all_tensors_in_it() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/checkpoints/trained-tiny");
        let read = |name: &str| fs::read(folder.join(name)).unwrap();
        let json = |name: &str| serde_json::from_slice(&read(name)).unwrap();
        let weights = read("model.safetensors");
        let file = good(&json("config.json"), &json("tokenizer.json"), &weights).unwrap();
        let (_, data) = split(&weights).unwrap();
        assert!(file.len() > data.len() && file.len() < data.len() + 2 * HEAD, "{}", file.len());
        let mut random = Random::new(1, "gguf", 1);
        assert!((0..100).any(|_| mutate(&mut random, &file).0 != file));
    }
}
