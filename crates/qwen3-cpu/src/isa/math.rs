//! Functions of a vector.

use super::Lanes;

/// `e` to the power of `x`: off by two units in the last place at most, exactly zero below -88, and finite at most.
/// NaN stays NaN. Follows Cephes `expf`.
#[inline(always)]
pub(crate) fn exp<S: Lanes>(lanes: S, x: S::V) -> S::V {
    const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1];
    // The higher part of ln 2 has few bits, so that its multiples are exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Where the power of two is 2^-127, which is made zero, and 2^127.
    let x = lanes.max(lanes.splat(-88.0), lanes.min(lanes.splat(88.37), x));
    let power = lanes.round(lanes.mul(x, lanes.splat(std::f32::consts::LOG2_E)));
    let rest = lanes.mul_add(power, lanes.splat(-LN2[0]), x);
    let rest = lanes.mul_add(power, lanes.splat(-LN2[1]), rest);
    let mut sum = lanes.splat(POLYNOMIAL[0]);
    for coefficient in &POLYNOMIAL[1..] {
        sum = lanes.mul_add(sum, rest, lanes.splat(*coefficient));
    }
    let sum = lanes.mul_add(lanes.mul(sum, rest), rest, lanes.add(rest, lanes.splat(1.0)));
    lanes.mul(sum, lanes.power_of_two(power))
}

/// `x / (1 + exp(-x))`
#[inline(always)]
pub(crate) fn silu<S: Lanes>(lanes: S, x: S::V) -> S::V {
    let minus = lanes.mul(x, lanes.splat(-1.0));
    lanes.div(x, lanes.add(lanes.splat(1.0), exp(lanes, minus)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;
    use crate::isa::{Kernel, run};

    struct Each<'a>(&'a [f32], bool);

    impl Kernel for Each<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn compute<S: Lanes>(self, lanes: S) -> Vec<f32> {
            let mut result = vec![0.0; self.0.len()];
            for at in (0..self.0.len()).step_by(S::LANES) {
                let x = lanes.load(self.0, at);
                lanes.store(&mut result, at, if self.1 { silu(lanes, x) } else { exp(lanes, x) });
            }
            result
        }
    }

    #[test]
    fn exp_and_silu_are_near_those_of_f64() {
        let x: Vec<f32> = (0..64_000).map(|index| (index as f32 - 32_000.0) / 368.0).collect();
        for set in InstructionSet::available() {
            for (x, found) in x.iter().zip(run(set, Each(&x, false))) {
                let expected = f64::from(*x).exp();
                let limit = 2.5e-7 * expected + 1.2e-38;
                assert!((f64::from(found) - expected).abs() <= limit, "{set}: exp({x}) is {found}");
            }
            for (x, found) in x.iter().zip(run(set, Each(&x, true))) {
                let expected = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
                let limit = 4e-7 * expected.abs() + 1.2e-38;
                assert!((f64::from(found) - expected).abs() <= limit, "{set}: silu({x}) is {found}");
            }
        }
    }

    #[test]
    fn what_is_far_off_is_zero_or_finite_and_nan_stays() {
        let x = [f32::NEG_INFINITY, -1e30, -88.1, f32::INFINITY, f32::NAN, 0.0, 1e30, f32::MIN];
        let x = [x, x].concat();
        for set in InstructionSet::available() {
            let found = run(set, Each(&x, false));
            assert!(found[..3].iter().chain(&found[7..8]).all(|exp| exp.to_bits() == 0), "{set}: {found:?}");
            assert!(found[3] > 1e38 && found[3].is_finite() && found[4].is_nan(), "{set}: {found:?}");
            assert!(found[5] == 1.0 && found[6].is_finite(), "{set}: {found:?}");
            assert!(run(set, Each(&x, true))[4].is_nan(), "{set}");
        }
    }
}
