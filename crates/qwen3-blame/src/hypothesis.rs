//! A mistake to try: an id, a sentence, and the switches of the probe it turns.

use crate::variant::Variant;

/// How a mistake changes the right variant.
type Change = Box<dyn Fn(&mut Variant) + Send + Sync>;

/// A mistake that may explain what was observed.
pub struct Hypothesis {
    /// The catalogue's id.
    pub id: &'static str,
    /// Ends the sentence "matches if".
    pub words: String,
    /// Plants it into a variant.
    pub change: Change,
    /// The number in it that was looked for, if there is one.
    pub fit: Option<(Fit, f64)>,
}

impl Hypothesis {
    pub(crate) fn new(
        id: &'static str,
        words: impl Into<String>,
        change: impl Fn(&mut Variant) + Send + Sync + 'static,
    ) -> Self {
        Self { id, words: words.into(), change: Box::new(change), fit: None }
    }

    /// `right` with this mistake.
    pub fn variant(&self, right: &Variant) -> Variant {
        let mut variant = right.clone();
        (self.change)(&mut variant);
        variant
    }
}

/// A mistake with a number that has to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// RoPE's base.
    Theta,
    /// The epsilon of all norms.
    Eps,
    /// The epsilon of the norms over `hidden_size`.
    HiddenEps,
    /// The epsilon of the norms over `head_dim`.
    HeadEps,
}

impl Fit {
    /// All.
    pub const ALL: [Self; 4] = [Self::Theta, Self::Eps, Self::HiddenEps, Self::HeadEps];

    /// The logarithms of the numbers that are looked at.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::Theta => (1e1_f64.ln(), 1e9_f64.ln()),
            // A larger one is as good as no layer, or as another scale of the scores.
            _ => (1e-13_f64.ln(), 1e-1_f64.ln()),
        }
    }

    /// Does it show in the layers alone?
    pub fn in_layers_only(self) -> bool {
        matches!(self, Self::Theta | Self::HeadEps)
    }

    /// The numbers that implementations use; the search starts from the best of them.
    pub fn usual(self) -> &'static [f64] {
        match self {
            Self::Theta => &[1e3, 1e4, 1e5, 5e5, 1e6, 5e6, 1e7, 1e8],
            _ => &[0.0, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1],
        }
    }

    /// The hypothesis with `value`, in a config that says `right`.
    pub fn hypothesis(self, value: f64, right: &Variant) -> Hypothesis {
        let hypothesis = match self {
            Self::Theta => Hypothesis::new(
                "rope_theta",
                format!("RoPE's theta is {value}, not {}", right.rope.theta()),
                move |v| v.rope = v.rope.with_theta(value),
            ),
            Self::Eps => Hypothesis::new(
                "eps",
                format!("the norms' eps is {value:e}, not {:e}", right.eps),
                move |v| (v.eps, v.head_eps) = (value, value),
            ),
            Self::HiddenEps => Hypothesis::new(
                "eps",
                format!("the eps of the norms over hidden_size is {value:e}, not {:e}", right.eps),
                move |v| v.eps = value,
            ),
            Self::HeadEps => Hypothesis::new(
                "eps",
                format!("the eps of q_norm and k_norm is {value:e}, not {:e}", right.eps),
                move |v| v.head_eps = value,
            ),
        };
        Hypothesis { fit: Some((self, value)), ..hypothesis }
    }
}
