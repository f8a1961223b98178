#![allow(unsafe_code)]

use std::marker::PhantomData;

/// A block of rows and columns of a row-major matrix, which may be split in both directions and written by one
/// thread while another writes the rest.
///
/// Sound because a block is made from a whole `&mut` slice and is only ever split by value: no element is in two.
pub(crate) struct Block<'a, E> {
    /// Its first element.
    start: *mut E,
    rows: usize,
    columns: usize,
    /// Elements from a row to the next.
    stride: usize,
    owner: PhantomData<&'a mut [E]>,
}

// SAFETY: it is a `&mut [E]` with holes in it.
unsafe impl<E: Send> Send for Block<'_, E> {}

impl<'a, E> Block<'a, E> {
    /// All of `data` as `[rows, data.len() / rows]`.
    ///
    /// # Panics
    /// When `data` is no whole number of rows.
    pub(crate) fn new(data: &'a mut [E], rows: usize) -> Self {
        let columns = data.len().checked_div(rows).unwrap_or(0);
        assert_eq!(data.len(), rows * columns, "{} elements are not {rows} rows", data.len());
        Self { start: data.as_mut_ptr(), rows, columns, stride: columns, owner: PhantomData }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The columns before `at` and the others.
    pub(crate) fn split_columns(self, at: usize) -> (Self, Self) {
        assert!(at <= self.columns, "column {at} of {}", self.columns);
        // SAFETY: at most the end of the first row, and so within or at the end of the slice.
        let start = unsafe { self.start.add(if self.rows == 0 { 0 } else { at }) };
        (Self { columns: at, ..self }, Self { start, columns: self.columns - at, ..self })
    }

    /// The rows before `at` and the others.
    pub(crate) fn split_rows(self, at: usize) -> (Self, Self) {
        assert!(at <= self.rows, "row {at} of {}", self.rows);
        let start = if at == self.rows {
            self.start
        } else {
            // SAFETY: the start of a row that there is.
            unsafe { self.start.add(at * self.stride) }
        };
        (Self { rows: at, ..self }, Self { start, rows: self.rows - at, ..self })
    }

    /// Row `row` of the block.
    pub(crate) fn row(&mut self, row: usize) -> &mut [E] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: the row exists and its columns are this block's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.columns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_disjoint_and_make_up_the_whole() {
        let mut data = vec![0; 5 * 7];
        let (top, bottom) = Block::new(&mut data, 5).split_rows(2);
        let (a, b) = top.split_columns(3);
        let (c, d) = bottom.split_columns(7);
        for (value, mut block) in [(1, a), (2, b), (3, c), (4, d)] {
            for row in 0..block.rows() {
                block.row(row).iter_mut().for_each(|element| *element += value);
            }
        }
        let expected = |row, column| if row >= 2 { 3 } else { 1 + i32::from(column >= 3) };
        assert!(data.iter().enumerate().all(|(i, value)| *value == expected(i / 7, i % 7)));
    }
}
