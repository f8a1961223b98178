//! The place where a run first goes wrong, by its verdicts.

use qwen3_trace::names::{is_inner, layer_of};
use qwen3_trace::{LayerVerdict, Mode, Scope, Verdicts};

use crate::Divergence;

/// Where a run first goes wrong.
pub struct Place {
    /// The first tensor beyond its limit.
    pub divergence: Option<Divergence>,
    /// The first tensor inside a layer that is, best with the layer given the right input.
    pub operation: Option<String>,
    /// What the place alone does not say.
    pub note: Option<String>,
    /// Is any tensor beyond its limit, and not only a token wrong?
    pub beyond: bool,
}

impl Place {
    /// The first place within `scope`: in the whole run; else in a layer that was given the reference's input;
    /// else among the generated tokens; else behind the layer that the reference was injected behind.
    pub fn first(verdicts: &Verdicts, scope: &Scope) -> Self {
        let failing = |mode: Mode| {
            let failing = verdicts.failing(mode);
            failing.filter(|tensor| scope.contains(&tensor.verdict.name))
        };
        let name = |tensor: &LayerVerdict| tensor.verdict.name.clone();
        let first = |mode: Mode| failing(mode).next().map(name);
        let inside = failing(Mode::Isolated).chain(failing(Mode::Accumulated)).map(name);
        let mut note = None;
        let tensor = if let Some(tensor) = first(Mode::Accumulated) {
            Some(tensor)
        } else if let Some(tensor) = first(Mode::Isolated) {
            if verdicts.of(Mode::Accumulated).next().is_some() {
                note = Some(format!(
                    "with the reference's input, {tensor} is beyond its limit, though the whole run is within"
                ));
            }
            Some(tensor)
        } else if verdicts.wrong_token().is_some() {
            Some("generated_ids".into())
        } else if let Some(last) = failing(Mode::Patched).next_back() {
            let layer = last.layer.map_or(String::new(), |layer| layer.to_string());
            note = Some(format!(
                "with the reference injected behind layer {layer} the logits are wrong all the same: an error \
                 enters behind it, and behind no later layer"
            ));
            Some("logits".into())
        } else {
            None
        };
        Self {
            divergence: tensor.map(|tensor| Divergence { layer: layer_of(&tensor), tensor }),
            operation: inside.into_iter().find(|name| is_inner(name)),
            note,
            beyond: Mode::ALL.into_iter().any(|mode| failing(mode).next().is_some()),
        }
    }
}
