//! GGUF files of checkpoints, for tests. Follows llama.cpp's `convert_hf_to_gguf.py` and `quantize_row_*_ref`.

use gguf_rs_lib::builder::GGUFBuilder;
use gguf_rs_lib::format::MetadataValue;
use gguf_rs_lib::prelude::GGUFTensorType;
use half::{bf16, f16};

use qwen3_checkpoint::Checkpoint;

/// How matrices are stored in a sample. Vectors are f32, as llama.cpp wants them, and so are rows that are no whole
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As f32.
    F32,
    /// As f16.
    F16,
    /// As bf16.
    BF16,
    /// In blocks of 32 numbers of eight bits.
    Q8_0,
    /// In blocks of 32 numbers of four bits.
    Q4_0,
}

/// What a dense checkpoint without scaled frequencies says in GGUF, before tensors.
pub fn builder(checkpoint: &Checkpoint) -> GGUFBuilder {
    let config = checkpoint.config();
    let size = |size: usize| MetadataValue::U32(size as u32);
    GGUFBuilder::new()
        .add_metadata("general.architecture", MetadataValue::String("qwen3".into()))
        .add_metadata("qwen3.block_count", size(config.num_hidden_layers))
        .add_metadata("qwen3.embedding_length", size(config.hidden_size))
        .add_metadata("qwen3.feed_forward_length", size(config.intermediate_size))
        .add_metadata("qwen3.attention.head_count", size(config.num_attention_heads))
        .add_metadata("qwen3.attention.head_count_kv", size(config.num_key_value_heads))
        .add_metadata("qwen3.attention.key_length", size(config.head_dim))
        .add_metadata("qwen3.attention.value_length", size(config.head_dim))
        .add_metadata("qwen3.context_length", size(config.max_position_embeddings))
        .add_metadata(
            "qwen3.attention.layer_norm_rms_epsilon",
            MetadataValue::F32(config.rms_norm_eps as f32),
        )
        .add_metadata("qwen3.rope.freq_base", MetadataValue::F32(config.rope.theta() as f32))
}

/// The bytes of a GGUF file of `checkpoint`; `change` sees every tensor under its key before it is written.
///
/// # Panics
/// When the checkpoint cannot be read.
pub fn gguf(checkpoint: &Checkpoint, stored: Stored, change: impl Fn(&str, &mut Vec<f32>)) -> Vec<u8> {
    let mut builder = builder(checkpoint);
    for weight in checkpoint.config().weights() {
        let mut values: Vec<f32> = checkpoint.values(&weight.key, &weight.shape).expect("a sound checkpoint");
        change(&weight.key, &mut values);
        let columns = *weight.shape.last().expect("no scalars");
        let stored = match stored {
            _ if weight.shape.len() == 1 => Stored::F32,
            Stored::Q8_0 | Stored::Q4_0 if columns % 32 > 0 => Stored::F32,
            stored => stored,
        };
        let (kind, bytes) = encoded(&values, stored);
        let shape = weight.shape.iter().rev().map(|size| *size as u64).collect();
        builder = builder.add_tensor(name_of(&weight.key), shape, kind, bytes).expect("a tensor");
    }
    builder.build_to_bytes().expect("a file").0
}

/// What llama.cpp calls the modules of a layer.
const OF_LAYERS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// What GGUF calls the tensor `key`.
fn name_of(key: &str) -> String {
    let of_layer = |key: &str| {
        let (layer, rest) = key.strip_prefix("model.layers.")?.split_once('.')?;
        let (name, part) = rest.rsplit_once('.')?;
        let name = OF_LAYERS.iter().find(|(_, key)| *key == name)?.0;
        Some(format!("blk.{layer}.{name}.{part}"))
    };
    match key {
        "model.embed_tokens.weight" => "token_embd.weight".into(),
        "model.norm.weight" => "output_norm.weight".into(),
        "lm_head.weight" => "output.weight".into(),
        key => of_layer(key).expect("a dense model's tensor"),
    }
}

fn encoded(values: &[f32], stored: Stored) -> (GGUFTensorType, Vec<u8>) {
    let blocks = |block: fn(&[f32]) -> Vec<u8>| values.chunks(32).flat_map(block).collect();
    match stored {
        Stored::F32 => (GGUFTensorType::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Stored::F16 => (
            GGUFTensorType::F16,
            values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect(),
        ),
        Stored::BF16 => (
            GGUFTensorType::BF16,
            values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect(),
        ),
        Stored::Q8_0 => (GGUFTensorType::Q8_0, blocks(q8_0)),
        Stored::Q4_0 => (GGUFTensorType::Q4_0, blocks(q4_0)),
    }
}

fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

fn q8_0(values: &[f32]) -> Vec<u8> {
    let most = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let (scale, inverse) = (most / 127.0, inverse(most / 127.0));
    let mut bytes = f16::from_f32(scale).to_le_bytes().to_vec();
    bytes.extend(values.iter().map(|value| ((value * inverse).round() as i8).cast_unsigned()));
    bytes
}

fn q4_0(values: &[f32]) -> Vec<u8> {
    let most =
        values.iter().fold(0.0_f32, |most, value| if value.abs() > most.abs() { *value } else { most });
    let (scale, inverse) = (most / -8.0, inverse(most / -8.0));
    let number = |value: f32| ((value * inverse + 8.5) as u8).min(15);
    let mut bytes = f16::from_f32(scale).to_le_bytes().to_vec();
    bytes.extend((0..16).map(|at| number(values[at]) | number(values[at + 16]) << 4));
    bytes
}
