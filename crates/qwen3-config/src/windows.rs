//! Which layers look back over a window only.

use serde_json::{Map, Value, json};

use crate::Reach;
use crate::error::{ConfigError, contradiction, unsupported};

/// Which layers look back over a window only; a window counts the query's own token.
///
/// Follows Transformers `Qwen3Config`: `use_sliding_window`, `sliding_window`, `max_window_layers`, `layer_types`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None: every layer looks back to the first token.
    None,
    /// The layers from one on, as `max_window_layers` says.
    From {
        /// The first of them.
        layer: usize,
        /// Tokens in a window.
        window: usize,
    },
    /// Those that are listed, as `layer_types` says.
    Listed {
        /// For each layer, whether it is one.
        layers: Vec<bool>,
        /// Tokens in a window.
        window: usize,
    },
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

impl Windows {
    /// How far back layer `index` looks.
    pub fn reach(&self, index: usize) -> Reach {
        match self {
            Self::From { layer, window } if index >= *layer => Reach::Window(*window),
            Self::Listed { layers, window } if layers[index] => Reach::Window(*window),
            _ => Reach::All,
        }
    }

    /// Tokens in a window, if any layer has one.
    pub fn window(&self) -> Option<usize> {
        match self {
            Self::None => None,
            Self::From { window, .. } | Self::Listed { window, .. } => Some(*window),
        }
    }

    /// Have some layers a window, and some none?
    pub fn are_mixed(&self) -> bool {
        match self {
            Self::None => false,
            Self::From { layer, .. } => *layer > 0,
            Self::Listed { layers, .. } => layers.contains(&false),
        }
    }

    /// The layers from `layer` on of a model of `layers`.
    pub(crate) fn from_layer(layer: usize, window: usize, layers: usize) -> Self {
        if layer < layers { Self::From { layer, window } } else { Self::None }
    }

    /// Those of `layer_types`, of which there must be as many as `layers`.
    pub(crate) fn listed(types: &[Value], window: Option<usize>, layers: usize) -> Result<Self, ConfigError> {
        if types.len() != layers {
            let detail = format!("{} types for {layers} layers", types.len());
            return Err(contradiction("layer_types", "num_hidden_layers", detail));
        }
        if let Some(other) = types.iter().find(|name| **name != FULL && **name != SLIDING) {
            let supported = format!("only \"{FULL}\" and \"{SLIDING}\"");
            return Err(unsupported("layer_types", other, supported));
        }
        let sliding: Vec<bool> = types.iter().map(|name| *name == SLIDING).collect();
        let Some(first) = sliding.iter().position(|sliding| *sliding) else {
            return Ok(Self::None);
        };
        let Some(window) = window else {
            let detail = format!("layer {first} has a window, and there is none");
            return Err(contradiction("layer_types", "use_sliding_window", detail));
        };
        let to_the_end = sliding[first..].iter().all(|sliding| *sliding);
        Ok(if to_the_end {
            Self::From { layer: first, window }
        } else {
            Self::Listed { layers: sliding, window }
        })
    }

    /// The fields of a `config.json` that say so.
    pub(crate) fn fields(&self, layers: usize) -> Map<String, Value> {
        let fields = match self {
            Self::None => json!({}),
            Self::From { layer, window } => {
                json!({"max_window_layers": layer, "sliding_window": window, "use_sliding_window": true})
            }
            Self::Listed { layers: listed, window } => {
                let types: Vec<_> =
                    listed.iter().map(|sliding| if *sliding { SLIDING } else { FULL }).collect();
                json!({
                    "layer_types": types,
                    "max_window_layers": layers,
                    "sliding_window": window,
                    "use_sliding_window": true,
                })
            }
        };
        match fields {
            Value::Object(fields) => fields,
            _ => unreachable!("just made"),
        }
    }
}
