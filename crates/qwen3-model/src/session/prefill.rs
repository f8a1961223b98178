/// On which side of the shorter sequences of a batch the padding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// Before them: they end together.
    #[default]
    Left,
    /// Behind them: they begin together.
    Right,
}

impl Padding {
    /// The column of the last of `tokens` tokens in rows of `longest`.
    fn last(self, tokens: usize, longest: usize) -> usize {
        match self {
            Self::Left => longest - 1,
            Self::Right => tokens - 1,
        }
    }

    /// How many columns of `longest` are before the first of `tokens` tokens.
    fn before(self, tokens: usize, longest: usize) -> usize {
        match self {
            Self::Left => longest - tokens,
            Self::Right => 0,
        }
    }
}

/// Prompts on their way into a [`Session`](super::Session); see [`Session::begin`](super::Session::begin).
#[derive(Clone, Debug)]
pub struct Prefill {
    rows: Vec<Vec<u32>>,
    padding: Padding,
    longest: usize,
    read: usize,
}

impl Prefill {
    pub(super) fn new(rows: Vec<Vec<u32>>, padding: Padding) -> Self {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        Self { rows, padding, longest, read: 0 }
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

    /// The column of the last token of each prompt, none of which is empty.
    pub(super) fn last_columns(&self) -> Vec<usize> {
        self.rows.iter().map(|row| self.padding.last(row.len(), self.longest)).collect()
    }

    /// The next tokens of each sequence, `None` being padding; nothing behind the last.
    pub(super) fn next_chunk(&mut self, size: usize) -> Option<Vec<Vec<Option<u32>>>> {
        if self.is_done() {
            return None;
        }
        let columns = self.read..self.longest.min(self.read + size);
        self.read = columns.end;
        let row = |prompt: &Vec<u32>| {
            let before = self.padding.before(prompt.len(), self.longest);
            let token =
                |column: usize| column.checked_sub(before).and_then(|index| prompt.get(index).copied());
            columns.clone().map(token).collect()
        };
        Some(self.rows.iter().map(row).collect())
    }
}
