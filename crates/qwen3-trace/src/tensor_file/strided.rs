//! Tensors whose values do not lie in C order.

/// Where the values of a tensor lie, in elements: the one at `index` is `offset + sum(index[axis] * strides[axis])`
/// behind the first of the storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layout {
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    /// How many elements it reaches into the storage, 0 when it has none.
    reach: u64,
    count: u64,
}

impl Layout {
    /// A layout whose numbers do not overflow; nothing when they do, or when there is not a stride for each axis.
    pub(super) fn new(shape: &[u64], strides: &[u64], offset: u64) -> Option<Self> {
        if shape.len() != strides.len() {
            return None;
        }
        let count = shape.iter().try_fold(1, |product: u64, &dim| product.checked_mul(dim))?;
        // The stride of an axis of length 1 is never taken, and may be any number.
        let strides: Vec<u64> =
            shape.iter().zip(strides).map(|(&dim, &stride)| if dim == 1 { 0 } else { stride }).collect();
        let last = shape.iter().zip(&strides).try_fold(offset, |place, (&dim, &stride)| {
            place.checked_add(dim.saturating_sub(1).checked_mul(stride)?)
        })?;
        let reach = if count == 0 { 0 } else { last.checked_add(1)? };
        let sizes = |numbers: &[u64]| {
            numbers.iter().map(|&number| usize::try_from(number).ok()).collect::<Option<Vec<_>>>()
        };
        let offset = usize::try_from(offset).ok()?;
        Some(Self { shape: sizes(shape)?, strides: sizes(&strides)?, offset, reach, count })
    }

    /// The order of Fortran, the first axis running fastest.
    pub(super) fn fortran(shape: &[u64]) -> Option<Self> {
        let mut stride = 1_u64;
        let mut strides = Vec::with_capacity(shape.len());
        for &dim in shape {
            strides.push(stride);
            stride = stride.checked_mul(dim)?;
        }
        Self::new(shape, &strides, 0)
    }

    /// The shape.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of values.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The number of elements that the storage must have.
    pub(super) fn reach(&self) -> u64 {
        self.reach
    }

    /// The values, of `size` bytes each, in C order.
    ///
    /// # Panics
    /// When the storage has fewer elements than [`reach`](Self::reach).
    pub(super) fn gather(&self, storage: Vec<u8>, size: usize) -> Vec<u8> {
        let Self { shape, strides, offset, .. } = self;
        if self.count == 0 {
            return Vec::new();
        }
        // Trailing axes whose values follow one another are copied as one.
        let (mut run, mut outer) = (1, shape.len());
        while outer > 0 && (shape[outer - 1] == 1 || strides[outer - 1] == run) {
            outer -= 1;
            run *= shape[outer];
        }
        if outer == 0 && *offset == 0 && storage.len() == run * size {
            return storage;
        }
        let mut values = Vec::with_capacity(self.count as usize * size);
        let (mut index, mut place) = (vec![0; outer], *offset);
        while values.len() < self.count as usize * size {
            values.extend_from_slice(&storage[place * size..][..run * size]);
            for axis in (0..outer).rev() {
                index[axis] += 1;
                place += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                place -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::Layout;

    fn gathered(shape: &[u64], strides: &[u64], offset: u64) -> Vec<u8> {
        let layout = Layout::new(shape, strides, offset).unwrap();
        layout.gather((0..layout.reach().max(12) as u8).collect(), 1)
    }

    #[test]
    fn values_are_found_by_their_strides() {
        assert_eq!(gathered(&[3, 4], &[4, 1], 0), (0..12).collect::<Vec<_>>());
        assert_eq!(gathered(&[4, 3], &[1, 4], 0), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        assert_eq!(gathered(&[2, 2], &[4, 1], 5), [5, 6, 9, 10]);
        assert_eq!(gathered(&[3, 2], &[0, 1], 1), [1, 2, 1, 2, 1, 2]);
        assert_eq!(gathered(&[2, 1, 2], &[6, u64::MAX, 3], 0), [0, 3, 6, 9]);
        assert_eq!(gathered(&[], &[], 7), [7]);
        assert_eq!(gathered(&[2, 0], &[1, 1], 0), [0; 0]);
        assert_eq!(Layout::fortran(&[2, 3]).unwrap().gather((0..6).collect(), 1), [0, 2, 4, 1, 3, 5]);
        let wide = Layout::new(&[2, 2], &[1, 2], 0).unwrap();
        assert_eq!(wide.gather(vec![0, 1, 2, 3, 4, 5, 6, 7], 2), [0, 1, 4, 5, 2, 3, 6, 7]);
    }

    #[test]
    fn numbers_that_overflow_are_no_layout() {
        let half = 1 << 63;
        assert_eq!(Layout::new(&[2, half], &[1, 1], 0), None);
        assert_eq!(Layout::new(&[3], &[half], 0), None);
        assert_eq!(Layout::new(&[2], &[1], u64::MAX), None);
        assert_eq!(Layout::new(&[2, 2], &[1], 0), None);
        assert_eq!(Layout::fortran(&[half, 2, 2]), None);
        assert_eq!(Layout::new(&[3, 4], &[4, 1], 2).unwrap().reach(), 14);
        assert_eq!(Layout::new(&[0, 4], &[4, 1], 2).unwrap().reach(), 0);
    }
}
