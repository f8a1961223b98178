//! Outputs of layers that are saved under the names of their neighbours: the values are right, the names are not.

use qwen3_config::{Site, Tap};

use crate::Result;
use crate::explanation::Explanation;
use crate::findings::Finding;
use crate::residual::Residual;
use crate::segment::StepIndex;
use crate::walk::Walk;

/// Which way names are off.
#[derive(Clone, Copy, PartialEq)]
enum Shift {
    /// A name holds what comes one step before, as the entries of Transformers' `hidden_states` are numbered.
    Late,
    /// A name holds what comes one step behind.
    Early,
}

impl Shift {
    /// What may be found under the name of a step's output, other than that.
    fn held(self, step: StepIndex, layers: usize) -> Vec<StepIndex> {
        match self {
            Self::Late if step == 0 || step > layers + 1 => Vec::new(),
            Self::Late => vec![step - 1],
            Self::Early if step >= layers => vec![layers + 1],
            // The last of `hidden_states` has the final norm applied.
            Self::Early if step + 1 == layers => vec![layers, layers + 1],
            Self::Early => vec![step + 1],
        }
    }

    /// Does a right output under a step's name say that names are not off there?
    fn is_layers(self, step: StepIndex, layers: usize) -> bool {
        (1..layers).contains(&step) || (self == Self::Late && step == layers)
    }

    /// Whose tensors may be found under the name of one inside `layer`.
    fn of_layer(self, layer: usize, layers: usize) -> Option<usize> {
        match self {
            Self::Late => layer.checked_sub(1),
            Self::Early => Some(layer + 1).filter(|layer| *layer < layers),
        }
    }
}

/// What is under the name of another.
struct Held {
    name: StepIndex,
    holds: StepIndex,
    before: Residual,
    after: Residual,
}

impl Walk<'_> {
    /// Names `taps_shifted`, when each layer's output is under its neighbour's name. Goes behind the layers then, and says
    /// whether there is something to go on from.
    pub(crate) fn taps_shifted(&mut self) -> Result<Option<bool>> {
        for shift in [Shift::Late, Shift::Early] {
            let Some(held) = self.held(shift)? else {
                continue;
            };
            let explanation = self.shifted_words(shift, &held);
            let of_layers = held.iter().map(|held| held.name).filter(|name| (1..=self.layers).contains(name));
            let (first, last) = (of_layers.clone().min().unwrap_or(1), of_layers.max().unwrap_or(0));
            let before = held.iter().fold(Residual::NONE, |worst, held| worst.worse(held.before));
            let key = self.output(held[0].name).to_string();
            self.findings.push(Finding::at_once(key, first - 1..last, vec![explanation], before));
            self.forget_steps();
            let end = self.layers + usize::from(held.iter().any(|held| held.name > self.layers));
            let output = self.expected(self.output(end))?.filter(|_| self.scope.has_end());
            let goes_on = output.is_some();
            if let Some(output) = output {
                self.move_on(end, output, false);
            }
            return Ok(Some(goes_on));
        }
        Ok(None)
    }

    /// The tensors under other names, where all names of layers are off that way, if only from one layer on.
    fn held(&mut self, shift: Shift) -> Result<Option<Vec<Held>>> {
        let (mut held, mut right, mut of_layers) = (Vec::new(), 0, 0);
        for name in 0..=self.layers + 1 {
            let Some(before) = self.apart(self.output(name), self.output(name))? else {
                continue;
            };
            let mut best: Option<Held> = None;
            for holds in shift.held(name, self.layers) {
                let after = self.apart(self.output(name), self.output(holds))?;
                let least = best.as_ref().map_or(f64::INFINITY, |best| best.after.ratio);
                if let Some(after) = after.filter(|after| after.ratio <= 1.0 && after.ratio < least) {
                    best = Some(Held { name, holds, before, after });
                }
            }
            let is_layers = shift.is_layers(name, self.layers);
            match best {
                _ if before.ratio <= 1.0 => {
                    if is_layers && best.is_none() {
                        right += 1;
                        // Once off, names stay off.
                        if of_layers > 0 {
                            return Ok(None);
                        }
                    }
                }
                Some(best) => {
                    of_layers += usize::from(is_layers);
                    held.push(best);
                }
                // The end has mistakes of its own.
                None if name > self.layers => {}
                None => return Ok(None),
            }
        }
        // One name alone may hold what a model gives whose last layer is left out.
        let end =
            [self.layers + 1, self.layers + 2].map(|step| self.is_beyond(self.output(step)) == Some(true));
        let alone = of_layers == 1 && (right > 0 || end.contains(&true));
        let is_off = of_layers > 0 && !alone && self.are_inside(shift)?;
        Ok(is_off.then_some(held))
    }

    /// Is everything inside layers that is off under its own name right under a neighbour's?
    fn are_inside(&mut self, shift: Shift) -> Result<bool> {
        for layer in 0..self.layers {
            for tap in Tap::of_layer().filter(|tap| *tap != Tap::LayerOutput) {
                let site = Site::inside(layer, tap);
                if self.is_beyond(site) != Some(true) {
                    continue;
                }
                let other = shift
                    .of_layer(layer, self.layers)
                    .map(|layer| self.apart(site, Site::inside(layer, tap)));
                if other.transpose()?.flatten().is_none_or(|after| after.ratio > 1.0) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// How far what was observed under a name is from what another should hold; `None` when either is not known.
    fn apart(&self, name: Site, other: Site) -> Result<Option<Residual>> {
        let expected = match self.expected(other)? {
            None if other.tap == Tap::Embedding && self.from == 0 => Some(self.input.clone()),
            expected => expected,
        };
        let (Some(observed), Some(expected)) = (self.observed.values(&name.to_string())?, expected) else {
            return Ok(None);
        };
        let (observed, expected) = (self.kept(name, &observed), self.kept(other, &expected));
        let limit = self.stored.of(&other.to_string(), &expected);
        Ok((observed.len() == expected.len()).then(|| Residual::of(&expected, &observed, &limit)))
    }

    /// The cause in words.
    fn shifted_words(&self, shift: Shift, held: &[Held]) -> Explanation {
        let what = |step: StepIndex| match step {
            0 => "the embedding".to_string(),
            step if step <= self.layers => format!("the output of layer {}", step - 1),
            _ => "that of the final norm".to_string(),
        };
        let of = |held: &Held| format!("`{}` holds {}", self.output(held.name), what(held.holds));
        let last = match held {
            [_] | [] => String::new(),
            [.., last] => format!(", .. and {}", of(last)),
        };
        let hint = match shift {
            Shift::Late => "as Transformers' `hidden_states` are numbered, which begin with the embedding",
            Shift::Early => "as where the first output was left out, or counting began at 1",
        };
        let words = format!("values are right and names are not: {}{last}, {hint}", of(&held[0]));
        let after = held.iter().fold(Residual::NONE, |worst, held| worst.worse(held.after));
        Explanation { whole: Some(words), ..Explanation::plain("taps_shifted", String::new(), after) }
    }
}
