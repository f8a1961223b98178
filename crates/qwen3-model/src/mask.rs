use std::sync::RwLock;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use qwen3_config::Reach;

/// Added to the score of a key that a query may not see. Finite, so that a query that sees nothing
/// (padding) gets uniform weights and not NaN; large enough that `exp` gives exactly zero.
const HIDDEN: f32 = f32::MIN / 2.0;

/// Masks smaller than this many numbers are sent to the device: the handful of kernels that would make one there
/// take longer. A cached step's is one number a key.
const SENT: usize = 1 << 16;

/// What is added to the scores of the `seq` queries that stand in the last slots of `visible`, over the first
/// `keys` slots: f32 `[batch or 1, 1, 1, seq, keys]`, or `None` when every query sees every key.
///
/// A query sees the slots up to its own, as far as `reach` goes, that are visible. Where kernels are compiled a
/// large mask is made on the device: the slots are sent to it, and not a number for each query and key.
///
/// # Panics
/// When there are fewer `keys` than slots.
pub fn causal_bias(
    visible: &[Vec<bool>],
    seq: usize,
    keys: usize,
    reach: Reach,
    device: &Device,
) -> Option<Tensor<5>> {
    let slots = visible[0].len();
    assert!(keys >= slots, "{slots} slots do not fit {keys} keys");
    let padded = visible.iter().any(|row| row.contains(&false));
    let reaches_all = reach.sees(slots - 1);
    if !padded && seq == 1 && keys == slots && reaches_all {
        return None;
    }
    // One row serves the batch when nothing is padded.
    let rows = if padded { visible } else { &visible[..1] };
    Some(if compiles_kernels(device) && rows.len() * seq * keys >= SENT {
        made_on_device(rows, padded, seq, keys, reach, device)
    } else {
        let data = TensorData::new(made_on_host(rows, seq, keys, reach), [rows.len(), 1, 1, seq, keys]);
        Tensor::from_data(data, (device, DType::F32))
    })
}

/// Does `device` compile its kernels when they are first used? Such a device has memory pools of its own.
///
/// Asking the device may wait for what it is computing, so it is asked once.
fn compiles_kernels(device: &Device) -> bool {
    static KNOWN: RwLock<Vec<(Device, bool)>> = RwLock::new(Vec::new());
    let known = |list: &Vec<(Device, bool)>| {
        let found = list.iter().find(|(known, _)| known == device);
        found.map(|(_, compiles)| *compiles)
    };
    if let Some(compiles) = known(&KNOWN.read().expect("no panic while held")) {
        return compiles;
    }
    let compiles = device.memory_pool_usage().is_some();
    KNOWN.write().expect("no panic while held").push((device.clone(), compiles));
    compiles
}

/// Row-major `[rows, seq, keys]`.
fn made_on_host(rows: &[Vec<bool>], seq: usize, keys: usize, reach: Reach) -> Vec<f32> {
    let mut bias = Vec::with_capacity(rows.len() * seq * keys);
    for row in rows {
        for query in row.len() - seq..row.len() {
            let sees = |key: usize| key <= query && row[key] && reach.sees(query - key);
            bias.extend((0..keys).map(|key| if sees(key) { 0.0 } else { HIDDEN }));
        }
    }
    bias
}

fn made_on_device(
    rows: &[Vec<bool>],
    padded: bool,
    seq: usize,
    keys: usize,
    reach: Reach,
    device: &Device,
) -> Tensor<5> {
    let slots = rows[0].len();
    let range = |from: usize, to: usize| Tensor::<1, Int>::arange(from as i64..to as i64, device);
    let queries = range(slots - seq, slots).reshape([1, 1, 1, seq, 1]); // [1, 1, 1, seq, 1]
    let distance = queries - range(0, keys).reshape([1, 1, 1, 1, keys]); // [1, 1, 1, seq, keys]
    let mut hidden = distance.clone().lower_elem(0);
    if let Reach::Window(window) = reach {
        hidden = hidden.bool_or(distance.greater_equal_elem(window as i64));
    }
    let zeros = Tensor::<5>::zeros([1, 1, 1, seq, keys], (device, DType::F32));
    let bias = zeros.mask_fill(hidden, HIDDEN);
    if !padded {
        return bias;
    }
    let padding = rows.iter().flat_map(|row| {
        let seen = |key: usize| row.get(key).copied().unwrap_or(true);
        (0..keys).map(move |key| if seen(key) { 0.0 } else { HIDDEN })
    });
    let padding = TensorData::new(padding.collect::<Vec<f32>>(), [rows.len(), 1, 1, 1, keys]);
    // Twice hidden is still finite.
    bias + Tensor::from_data(padding, (device, DType::F32)) // [rows, 1, 1, seq, keys]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(bias: &[f32]) -> Vec<u8> {
        bias.iter().map(|b| u8::from(*b == 0.0)).collect()
    }

    #[test]
    fn mask_is_causal_and_hides_padding_and_the_unused_tail() {
        let visible = [vec![true; 3], vec![false, true, true]];
        let bias = made_on_host(&visible, 2, 4, Reach::All);
        assert_eq!(seen(&bias), [1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0]);
    }

    #[test]
    fn a_window_hides_what_is_too_far_back() {
        let bias = made_on_host(&[vec![true; 4]], 2, 4, Reach::Window(2));
        assert_eq!(seen(&bias), [0, 1, 1, 0, 0, 0, 1, 1]);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn a_single_query_that_sees_everything_needs_no_mask() {
        let bias = |keys, reach| causal_bias(&[vec![true; 5]], 1, keys, reach, &Device::flex());
        assert!(bias(5, Reach::All).is_none() && bias(5, Reach::Window(5)).is_none());
        assert!(bias(6, Reach::All).is_some() && bias(5, Reach::Window(4)).is_some());
    }

    /// Both ways hide the same.
    #[cfg(feature = "flex")]
    #[test]
    fn the_device_makes_the_same_mask() {
        let device = Device::flex();
        let unpadded = vec![vec![true; 5]];
        let padded = vec![vec![true; 5], vec![false, false, true, true, true]];
        for (rows, padding) in [(unpadded, false), (padded, true)] {
            for (seq, keys, reach) in
                [(5, 5, Reach::All), (2, 8, Reach::All), (1, 5, Reach::Window(3)), (4, 6, Reach::Window(2))]
            {
                let made = made_on_device(&rows, padding, seq, keys, reach, &device);
                assert_eq!(made.dims(), [rows.len(), 1, 1, seq, keys]);
                let made: Vec<f32> = made.into_data().iter().collect();
                assert!(made.iter().all(|bias| bias.is_finite()));
                assert_eq!(seen(&made), seen(&made_on_host(&rows, seq, keys, reach)));
            }
        }
    }
}
