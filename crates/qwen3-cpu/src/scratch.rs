use std::sync::Mutex;

/// Buffers that calls borrow and give back, so that a step allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    free: Mutex<Vec<Vec<T>>>,
}

impl<T: Copy + Default> Scratch<T> {
    /// Lends `use_` a buffer of `length` elements, whose contents are whatever a former call left.
    pub(crate) fn lend<R>(&self, length: usize, use_: impl FnOnce(&mut [T]) -> R) -> R {
        let mut buffer = self.free.lock().unwrap().pop().unwrap_or_default();
        if buffer.len() < length {
            // Nothing in it is worth copying.
            buffer.clear();
            buffer.resize(length, T::default());
        }
        let result = use_(&mut buffer[..length]);
        self.free.lock().unwrap().push(buffer);
        result
    }
}
