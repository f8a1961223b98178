//! Which tensor of the model a tensor of a file is, and in which layout.

use qwen3_config::{Qwen3Config, Rows, Site};

use super::{Candidate, Rank, Reading, Readings};
use crate::layout::{Layout, Sizes};
use crate::{Array, Trace, TraceError, Values};

/// Of a layout that is likelier than the first, the error against what is expected may be such a share of the first's.
const NEARER: f64 = 0.3;

impl Trace {
    /// Which site a tensor is of, and how it is read; `None` where it cannot be of any.
    pub(super) fn reading(
        &self,
        candidate: &Candidate,
        config: &Qwen3Config,
        rows: &Rows,
        expected: Option<&Self>,
        readings: &mut Readings,
    ) -> Result<Option<(Site, Reading)>, TraceError> {
        let Some(shape) = self.shape(&candidate.name)? else {
            return Ok(None);
        };
        let strictly = candidate.rank == Rank::Key;
        let rows = &if candidate.step.is_empty() { rows.clone() } else { one_token(rows) };
        let [batch, seq] = rows.dims();
        let mut possible: Vec<(Site, Layout)> = Vec::new();
        for site in &candidate.sites {
            if site.layer.is_some_and(|layer| layer >= config.num_hidden_layers) {
                continue;
            }
            let sizes = Sizes::of(site.tap, config, rows);
            let sizes = if candidate.packed { sizes.packed(config) } else { sizes };
            let layouts = Layout::possible(&sizes, &shape, strictly);
            possible.extend(layouts.into_iter().map(|layout| (*site, layout)));
        }
        if candidate.sites.len() > 1 && shape.iter().filter(|size| **size != 1).count() > 2 {
            // The last of the tensors of one name, whose heads are apart.
            possible.sort_by_key(|(site, _)| std::cmp::Reverse(site.tap));
        }
        let Some((site, layout)) = possible.first().cloned() else {
            if !strictly {
                let expected = candidate.sites[0].tap.shape(config, batch, seq);
                let reason = format!("shape {shape:?}, `{}` has {expected:?}", candidate.sites[0]);
                readings.misshapen.insert(candidate.name.clone(), reason);
            }
            return Ok(None);
        };
        let (site, layout) = match expected {
            Some(expected) => self.nearest((site, layout), possible, candidate, expected)?,
            None => (site, layout),
        };
        let shape = site.tap.shape(config, batch, seq);
        let layout = Some(layout).filter(|layout| !layout.is_plain(&shape));
        // The second of a pair, as vLLM's layers return what is yet to be added to the residual stream.
        let pair = candidate.name.strip_suffix('0').map(|pair| format!("{pair}1"));
        let added = pair.filter(|second| readings.taken.iter().any(|taken| taken.name == *second));
        Ok(Some((site, Reading { name: candidate.name.clone(), layout, shape, added })))
    }

    /// The layout by which a tensor's values are nearest to what is expected: the likeliest, unless another is clearly
    /// nearer.
    fn nearest(
        &self,
        likeliest: (Site, Layout),
        possible: Vec<(Site, Layout)>,
        candidate: &Candidate,
        expected: &Self,
    ) -> Result<(Site, Layout), TraceError> {
        let in_pairs = possible.iter().filter_map(|(site, layout)| Some((*site, layout.in_pairs()?)));
        let all: Vec<(Site, Layout)> = possible.iter().cloned().chain(in_pairs).collect();
        if all.len() < 2 {
            return Ok(likeliest);
        }
        let Some(Array { values: Values::Float(values), .. }) = self.array(&candidate.name)? else {
            return Ok(likeliest);
        };
        let error = |site: &Site, layout: &Layout| -> Result<f64, TraceError> {
            let wanted = expected.values(&format!("{}{site}", candidate.step))?;
            Ok(wanted.map_or(f64::INFINITY, |wanted| distance(&layout.apply(&values), &wanted)))
        };
        let mut best = (error(&likeliest.0, &likeliest.1)?, likeliest);
        let first = best.0;
        for (site, layout) in all {
            let error = error(&site, &layout)?;
            if error < best.0 && error < NEARER * first {
                best = (error, (site, layout));
            }
        }
        Ok(best.1)
    }
}

/// Norm of the difference over that of what is expected.
fn distance(values: &[f32], expected: &[f64]) -> f64 {
    let pairs = values.iter().zip(expected);
    let error: f64 = pairs.map(|(value, expected)| (f64::from(*value) - expected).powi(2)).sum();
    let size: f64 = expected.iter().map(|expected| expected * expected).sum();
    if error.is_finite() { (error / size.max(f64::MIN_POSITIVE)).sqrt() } else { f64::INFINITY }
}

/// The rows of a cached step: a token in each.
fn one_token(rows: &Rows) -> Rows {
    Rows::of_mask(vec![vec![true]; rows.dims()[0]])
}
