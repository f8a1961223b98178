/// Prompts on their way into a [`Session`](super::Session); see [`Session::begin`](super::Session::begin).
#[derive(Clone, Debug)]
pub struct Prefill {
    rows: Vec<Vec<u32>>,
    longest: usize,
    read: usize,
}

impl Prefill {
    pub(super) fn new(rows: Vec<Vec<u32>>) -> Self {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        Self { rows, longest, read: 0 }
    }

    pub(super) fn rows(&self) -> &[Vec<u32>] {
        &self.rows
    }

    /// Tokens read of the longest prompt, padding counted.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Tokens of the longest prompt.
    pub fn total(&self) -> usize {
        self.longest
    }

    pub(super) fn is_done(&self) -> bool {
        self.read == self.longest
    }

    /// The next tokens of each sequence, `None` being padding; nothing behind the last.
    pub(super) fn next_chunk(&mut self, size: usize) -> Option<Vec<Vec<Option<u32>>>> {
        if self.is_done() {
            return None;
        }
        let columns = self.read..self.longest.min(self.read + size);
        self.read = columns.end;
        let row = |prompt: &Vec<u32>| {
            let padding = self.longest - prompt.len();
            let token = |column: usize| column.checked_sub(padding).map(|index| prompt[index]);
            columns.clone().map(token).collect()
        };
        Some(self.rows.iter().map(row).collect())
    }
}
