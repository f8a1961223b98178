use std::sync::Mutex;

use crate::isa::LINE;

/// Buffers that calls borrow and give back, so that a step allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    free: Mutex<Vec<Vec<T>>>,
}

impl<T: Copy + Default> Scratch<T> {
    /// Lends `use_` a buffer of `length` elements that begins with a line of the cache, and whose contents are whatever
    /// a former call left.
    pub(crate) fn lend<R>(&self, length: usize, use_: impl FnOnce(&mut [T]) -> R) -> R {
        let mut buffer = self.free.lock().unwrap().pop().unwrap_or_default();
        let needed = length + LINE / size_of::<T>();
        if buffer.len() < needed {
            // Nothing in it is worth copying.
            buffer.clear();
            buffer.resize(needed, T::default());
        }
        let first = buffer.as_ptr().align_offset(LINE).min(needed - length);
        let result = use_(&mut buffer[first..first + length]);
        self.free.lock().unwrap().push(buffer);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_with_a_line() {
        let scratch = Scratch::<f32>::default();
        for length in [1, 7, 1000, 3] {
            scratch.lend(length, |outer| {
                scratch.lend(5, |inner| {
                    assert_eq!((outer.len(), inner.len()), (length, 5));
                    assert!(
                        [outer, inner].iter().all(|buffer| (buffer.as_ptr() as usize).is_multiple_of(LINE))
                    );
                });
            });
        }
    }
}
