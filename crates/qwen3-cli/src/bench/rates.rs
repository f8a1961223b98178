//! What a device with memory of its own can do, measured through its backend.

use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use qwen3_bench::DeviceRates;

/// Each rate is measured for about this long, in seconds, and at least twice.
const SECONDS: f64 = 0.5;
/// The least and the most values of the tensor that is read and written.
const VALUES: [usize; 2] = [1 << 22, 1 << 28];
/// The least and the most rows and columns of the matrices that are multiplied.
const ROWS: [usize; 2] = [512, 8192];

/// Reads and writes a large tensor, and multiplies large matrices.
pub fn rates(device: &Device, dtype: DType) -> DeviceRates {
    let bytes_of_value = dtype.size() as f64;
    let copied = best(VALUES, 4, |values| {
        let tensor = random([values / 1024, 1024], device, dtype);
        move || finish(tensor.clone() + 1.0)
    });
    let multiplied = best(ROWS, 2, |rows| {
        let (a, b) = (random([rows, rows], device, dtype), random([rows, rows], device, dtype));
        move || finish(a.clone().matmul(b.clone()))
    });
    let rate = |work: fn(f64) -> f64, (size, seconds): (usize, f64)| work(size as f64) / seconds / 1e9;
    DeviceRates {
        gb_per_s: rate(|values| 2.0 * values, copied) * bytes_of_value,
        gflop_per_s: rate(|rows| 2.0 * rows.powi(3), multiplied),
    }
}

/// The largest size of which several runs fit the time, starting at the least and growing by `factor`, and the seconds
/// of its fastest run.
fn best<R: FnMut()>([least, most]: [usize; 2], factor: usize, make: impl Fn(usize) -> R) -> (usize, f64) {
    let mut size = least;
    loop {
        let mut run = make(size);
        // Compiles.
        run();
        let (begun, mut fastest) = (Instant::now(), f64::INFINITY);
        let mut runs = 0;
        while runs < 2 || (begun.elapsed().as_secs_f64() < SECONDS && runs < 50) {
            let start = Instant::now();
            run();
            fastest = fastest.min(start.elapsed().as_secs_f64());
            runs += 1;
        }
        // A larger one takes up to `factor` cubed as long.
        let next = size.saturating_mul(factor);
        if next > most || fastest * (factor as f64).powi(3) > SECONDS {
            return (size, fastest);
        }
        size = next;
    }
}

fn random(shape: [usize; 2], device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::<2>::random(shape, Distribution::Default, device).cast(dtype)
}

/// Waits for a result, of which one number is read.
fn finish(tensor: Tensor<2>) {
    tensor.slice([0..1, 0..1]).into_data();
}
