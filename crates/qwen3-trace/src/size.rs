/// How large values are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// The largest magnitude.
    pub(crate) largest: f64,
    /// The root of the mean square.
    pub(crate) rms: f64,
}

impl Size {
    pub(crate) fn of(values: &[f64]) -> Self {
        let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let squares: f64 = values.iter().map(|value| value * value).sum();
        Self { largest, rms: (squares / values.len().max(1) as f64).sqrt() }
    }

    /// How many values as large as the largest have the same rms as these, which are `count`; NaN for zeros.
    pub(crate) fn elements(self, count: usize) -> f64 {
        count as f64 * (self.rms / self.largest).powi(2)
    }
}
