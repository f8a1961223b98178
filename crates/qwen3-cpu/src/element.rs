use half::{bf16, f16};

/// Which of the element types one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    F32,
    Bf16,
    F16,
}

mod sealed {
    /// An element is its kind in memory: vector loads rely on it.
    pub trait Sealed {
        const KIND: super::Kind;
    }
}
pub(crate) use sealed::Sealed;

/// A dtype of weights, activations and caches: `f32`, [`bf16`] or [`f16`]. No other type is one.
pub trait Element: Sealed + bytemuck::Pod + Default + Send + Sync + std::fmt::Debug {
    /// The same number in f32.
    fn widen(self) -> f32;
    /// The nearest number, ties to even; NaN stays NaN.
    fn narrow(value: f32) -> Self;
}

macro_rules! element {
    ($type:ty, $kind:ident, $widen:expr, $narrow:expr) => {
        impl Sealed for $type {
            const KIND: Kind = Kind::$kind;
        }
        impl Element for $type {
            #[inline(always)]
            fn widen(self) -> f32 {
                $widen(self)
            }
            #[inline(always)]
            fn narrow(value: f32) -> Self {
                $narrow(value)
            }
        }
    };
}
element!(f32, F32, |value| value, |value| value);
element!(bf16, Bf16, |value: bf16| f32::from_bits(u32::from(value.to_bits()) << 16), bf16::from_f32);
element!(f16, F16, f16::to_f32, f16::from_f32);
