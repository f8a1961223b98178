//! What a device with memory of its own can do, measured through its backend.

use std::time::Instant;

use anyhow::Result;
use burn::tensor::{DType, Device, Distribution, Tensor};
use qwen3_bench::DeviceRates;
use qwen3_model::MAX_BLOCK_BYTES;

/// Each rate is measured for about this long, in seconds, and at least twice.
const SECONDS: f64 = 0.5;
/// Operations that are begun before the device is waited for, so that waiting counts for little.
const AT_ONCE: usize = 8;
/// The fewest and the most values of a tensor that is read and written; a device may have no larger buffer.
const VALUES: [usize; 2] = [1 << 20, MAX_BLOCK_BYTES / 4];
/// The fewest and the most rows and columns of the matrices that are multiplied.
const ROWS: [usize; 2] = [256, 4096];

/// Reads and writes large tensors, and multiplies large matrices.
///
/// # Errors
/// When the device fails.
pub fn rates(device: &Device, dtype: DType) -> Result<DeviceRates> {
    let several = |shape: [usize; 2]| -> Vec<Tensor<2>> {
        let random = || Tensor::<2>::random(shape, Distribution::Default, device).cast(dtype);
        (0..AT_ONCE).map(|_| random()).collect()
    };
    let (values, copying) = best(device, VALUES, 4, |values| {
        let tensors = several([values / 1024, 1024]);
        move || tensors.iter().map(|tensor| tensor.clone() + 1.0).collect()
    })?;
    let (rows, multiplying) = best(device, ROWS, 2, |rows| {
        let matrices = several([rows, rows]);
        move || matrices.iter().map(|a| a.clone().matmul(matrices[0].clone())).collect()
    })?;
    let per_second = |work: f64, seconds: f64| AT_ONCE as f64 * work / seconds / 1e9;
    Ok(DeviceRates {
        gb_per_s: per_second(2.0 * (values * dtype.size()) as f64, copying),
        gflop_per_s: per_second(2.0 * (rows as f64).powi(3), multiplying),
    })
}

/// The largest size of which several runs fit the time, starting at the least and growing by `factor`, and the seconds
/// of its fastest run.
fn best<R: FnMut() -> Vec<Tensor<2>>>(
    device: &Device,
    [least, most]: [usize; 2],
    factor: usize,
    make: impl Fn(usize) -> R,
) -> Result<(usize, f64)> {
    let mut size = least;
    loop {
        let mut begin = make(size);
        let mut run = || -> Result<f64> {
            let start = Instant::now();
            // Kept until they are there: what is given up before may not be computed.
            let outputs = begin();
            device.sync()?;
            drop(outputs);
            Ok(start.elapsed().as_secs_f64())
        };
        // Compiles.
        run()?;
        let (begun, mut fastest) = (Instant::now(), f64::INFINITY);
        let mut runs = 0;
        while runs < 2 || (begun.elapsed().as_secs_f64() < SECONDS && runs < 50) {
            fastest = fastest.min(run()?);
            runs += 1;
        }
        // A larger one takes up to `factor` cubed as long.
        let next = size.saturating_mul(factor);
        if next > most || fastest * (factor as f64).powi(3) > SECONDS {
            return Ok((size, fastest));
        }
        size = next;
    }
}
