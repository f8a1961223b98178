//! What reports of an older form have otherwise.

use qwen3_trace::{LayerVerdict, StepVerdict, TokenVerdict, Verdicts};
use serde::{Deserialize, Deserializer};

/// Null is what is not there.
pub fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The verdicts among a run's fields; one that came to nothing may have none.
pub fn verdicts<'de, D: Deserializer<'de>>(from: D) -> Result<Verdicts, D::Error> {
    #[derive(Deserialize)]
    struct Fields {
        tensors: Option<Vec<LayerVerdict>>,
        tokens: Option<Vec<TokenVerdict>>,
        steps: Option<Vec<StepVerdict>>,
    }
    let Fields { tensors, tokens, steps } = Fields::deserialize(from)?;
    Ok(Verdicts {
        tensors: tensors.unwrap_or_default(),
        tokens: tokens.unwrap_or_default(),
        steps: steps.unwrap_or_default(),
    })
}
