//! How the values of a tensor lie in a file, where that is not how its key says.

use std::fmt;

use qwen3_config::{Qwen3Config, Rows, Tap};

/// An axis of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axis {
    Batch,
    Token,
    Head,
    Feature,
}

use Axis::{Batch, Feature, Head, Token};

/// Orders of axes in which implementations hold activations, the outermost first.
const ORDERS: [[Axis; 4]; 6] = [
    [Batch, Token, Head, Feature],
    [Batch, Head, Token, Feature],
    [Token, Batch, Head, Feature],
    [Head, Batch, Token, Feature],
    [Batch, Head, Feature, Token],
    [Feature, Head, Token, Batch],
];

/// The sizes of a tensor's axes.
#[derive(Clone, Debug)]
pub(crate) struct Sizes {
    batch: usize,
    seq: usize,
    heads: usize,
    width: usize,
    /// Columns of the file's tensor in front of this one's, and all of them.
    packed: Option<(usize, usize)>,
    /// The places of the tokens that are no padding.
    visible: Vec<[usize; 2]>,
    tap: Tap,
}

impl Sizes {
    /// Those of `tap`, for the tokens of `rows`.
    pub(crate) fn of(tap: Tap, config: &Qwen3Config, rows: &Rows) -> Self {
        let [batch, seq] = rows.dims();
        let (heads, width) = match tap {
            Tap::QProj | Tap::QNorm | Tap::QRope | Tap::Context => {
                (config.num_attention_heads, config.head_dim)
            }
            Tap::KProj | Tap::VProj | Tap::KNorm | Tap::KRope => {
                (config.num_key_value_heads, config.head_dim)
            }
            _ => (1, tap.shape(config, 1, 1).last().copied().unwrap_or(1)),
        };
        let tokens = (0..batch).flat_map(|row| (0..seq).map(move |token| [row, token]));
        let visible = tokens.filter(|[row, token]| rows.visible[*row][*token]).collect();
        Self { batch, seq, heads, width, packed: None, visible, tap }
    }

    /// The same of columns in a tensor that holds queries, keys and values side by side.
    pub(crate) fn packed(self, config: &Qwen3Config) -> Self {
        let (queries, keys) =
            (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
        let start = match self.tap {
            Tap::QProj => 0,
            Tap::KProj => queries,
            _ => queries + keys,
        };
        Self { packed: Some((start, queries + 2 * keys)), ..self }
    }

    fn of_axis(&self, axis: Axis) -> usize {
        match axis {
            Batch => self.batch,
            Token => self.seq,
            Head => self.heads,
            Feature => self.width,
        }
    }

    /// The order in which a reference has them.
    fn canonical(&self) -> [Axis; 4] {
        if self.tap.sequence_axis() == 2 { ORDERS[1] } else { ORDERS[0] }
    }

    /// May its features be in pairs that RoPE turns?
    fn may_be_in_pairs(&self) -> bool {
        matches!(self.tap, Tap::QProj | Tap::KProj | Tap::QNorm | Tap::KNorm | Tap::QRope | Tap::KRope)
    }
}

/// How the values of one tensor lie in a file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    sizes: Sizes,
    order: [Axis; 4],
    /// Is the shape written innermost axis first, as ggml does?
    backwards: bool,
    /// Are there values of the tokens alone that are no padding, and none of the others?
    without_padding: bool,
    /// Do the two features that RoPE turns together lie side by side?
    in_pairs: bool,
    /// The shape in the file.
    shape: Vec<usize>,
}

impl Layout {
    /// The layouts that a tensor of this shape may have, the likeliest first; `strictly` those of a tensor whose axes
    /// are in the order that its key says.
    pub(crate) fn possible(sizes: &Sizes, shape: &[usize], strictly: bool) -> Vec<Self> {
        let canonical = sizes.canonical();
        let others = ORDERS.into_iter().filter(|order| *order != canonical && !strictly);
        let mut found: Vec<Self> = Vec::new();
        for order in [canonical].into_iter().chain(others) {
            for (backwards, without_padding) in [(false, false), (false, true), (true, false), (true, true)] {
                let padded = sizes.visible.len() < sizes.batch * sizes.seq;
                if (backwards && strictly) || (without_padding && !padded) {
                    continue;
                }
                let layout = Self {
                    sizes: sizes.clone(),
                    order,
                    backwards,
                    without_padding,
                    in_pairs: false,
                    shape: shape.into(),
                };
                if layout.fits() && !found.iter().any(|known| known.strides() == layout.strides()) {
                    found.push(layout);
                }
            }
        }
        found
    }

    /// The same with the features that RoPE turns together side by side, where it turns them.
    pub(crate) fn in_pairs(&self) -> Option<Self> {
        self.sizes.may_be_in_pairs().then(|| Self { in_pairs: true, ..self.clone() })
    }

    /// Is it what the key says, to the letter?
    pub(crate) fn is_plain(&self, expected: &[usize]) -> bool {
        self.shape == expected && self.order == self.sizes.canonical() && !self.in_pairs && !self.backwards
    }

    /// The sizes of the file's axes before any are merged, the outermost first, with what they are.
    fn axes(&self) -> Vec<(Axis, usize)> {
        let columns = self.sizes.packed.map(|(_, columns)| columns);
        let size = |axis: Axis| match (axis, columns) {
            (Feature, Some(columns)) => columns,
            (Head, Some(_)) => 1,
            _ if self.without_padding && axis == Batch => 1,
            _ if self.without_padding && axis == Token => self.sizes.visible.len(),
            _ => self.sizes.of_axis(axis),
        };
        self.order.into_iter().map(|axis| (axis, size(axis))).collect()
    }

    /// Has the file's tensor a shape that neighbouring axes make when some are merged, and axes of 1 are left out?
    fn fits(&self) -> bool {
        let mut shape: Vec<usize> = self.shape.iter().copied().filter(|size| *size != 1).collect();
        if self.backwards {
            shape.reverse();
        }
        let mut axes = self.axes().into_iter().filter(|(_, size)| *size != 1).peekable();
        for size in shape {
            let (mut product, mut merged) = (1_usize, Vec::new());
            while product < size {
                let Some((axis, length)) = axes.next() else {
                    return false;
                };
                product = product.saturating_mul(length);
                merged.push(axis);
            }
            // Tokens and features in one axis are a list of which nobody can tell what it is.
            let mixed = merged.contains(&Feature) && (merged.contains(&Token) || merged.contains(&Batch));
            if product != size || mixed {
                return false;
            }
        }
        axes.peek().is_none()
    }

    /// How far apart neighbours along each of `ORDERS[0]`'s axes lie; 0 along those that have no neighbours.
    fn strides(&self) -> [usize; 4] {
        let axes = self.axes();
        let stride = |wanted: Axis| {
            let at = axes.iter().position(|(axis, _)| *axis == wanted).expect("every axis is in an order");
            let behind: usize = axes[at + 1..].iter().map(|(_, size)| size).product();
            if axes[at].1 == 1 { 0 } else { behind }
        };
        ORDERS[0].map(stride)
    }

    /// The values in the order that the key says; zero for padding of which there are none.
    pub(crate) fn apply(&self, values: &[f32]) -> Vec<f32> {
        let sizes = &self.sizes;
        let [batch, token, head, feature] = self.strides();
        // A packed tensor's heads are columns.
        let (head, first) = match sizes.packed {
            Some((first, _)) => (sizes.width * feature.max(1), first * feature.max(1)),
            None => (head, 0),
        };
        let feature = if sizes.width == 1 { 0 } else { feature };
        let half = sizes.width / 2;
        let column = |index: usize| if self.in_pairs { 2 * (index % half) + index / half } else { index };
        let mut place = vec![None; sizes.batch * sizes.seq];
        for (index, [row, at]) in sizes.visible.iter().enumerate() {
            place[row * sizes.seq + at] = Some(index * token);
        }
        let start = |row: usize, at: usize| match self.without_padding {
            true => place[row * sizes.seq + at],
            false => Some(row * batch + at * token),
        };
        let mut found = Vec::with_capacity(sizes.batch * sizes.seq * sizes.heads * sizes.width);
        let mut of_head = |row: usize, at: usize, number: usize| match start(row, at) {
            Some(start) => {
                let start = start + first + number * head;
                found.extend((0..sizes.width).map(|index| values[start + column(index) * feature]));
            }
            None => found.extend(std::iter::repeat_n(0.0, sizes.width)),
        };
        for row in 0..sizes.batch {
            if sizes.canonical() == ORDERS[1] {
                (0..sizes.heads).for_each(|head| (0..sizes.seq).for_each(|at| of_head(row, at, head)));
            } else {
                (0..sizes.seq).for_each(|at| (0..sizes.heads).for_each(|head| of_head(row, at, head)));
            }
        }
        found
    }
}

/// What is unusual about it, in words; nothing where that is only an axis that is left out or two that are one.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = &self.sizes;
        let mut words: Vec<String> = Vec::new();
        if let Some((first, columns)) = sizes.packed {
            words.push(format!("columns {first}..{} of {columns}", first + sizes.heads * sizes.width));
        }
        if self.order != sizes.canonical() {
            let heads = sizes.heads > 1 && sizes.packed.is_none();
            let several = |axis: &Axis| match axis {
                Batch => sizes.batch > 1,
                Head => heads,
                Token | Feature => true,
            };
            let name = |axis: Axis| match axis {
                Batch => "rows",
                Token => "tokens",
                Head => "heads",
                Feature => "features",
            };
            let order: Vec<&str> = self.order.into_iter().filter(several).map(name).collect();
            words.push(format!("{} in this order", order.join(", ")));
        }
        if self.backwards {
            words.push("the shape is written innermost axis first".into());
        }
        if self.without_padding {
            words.push("without padding".into());
        }
        let last = self.shape.iter().rev().find(|size| **size != 1).copied().unwrap_or(1);
        let (together, apart) = (sizes.heads * sizes.width, sizes.width);
        if sizes.heads > 1 && sizes.packed.is_none() && self.order == sizes.canonical() {
            let split = matches!(sizes.tap, Tap::QNorm | Tap::KNorm | Tap::QRope | Tap::KRope);
            if split && last == together {
                words.push("heads together".into());
            } else if !split && last == apart {
                words.push("heads apart".into());
            }
        }
        if self.in_pairs {
            words.push("in pairs that RoPE turns, as interleaved RoPE and some GGUF files have them".into());
        }
        f.write_str(&words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2 rows of 3 tokens, the first of the second row padding; 4 heads of 2, 2 of keys, hidden size 5 or so.
    fn sizes(tap: Tap) -> Sizes {
        let config = Qwen3Config {
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 6,
            ..Qwen3Config::tiny()
        };
        let rows = Rows::of_mask(vec![vec![true; 3], vec![false, true, true]]);
        Sizes::of(tap, &config, &rows)
    }

    /// The value at a place, which is told by its digits.
    fn value(row: usize, token: usize, head: usize, feature: usize) -> f32 {
        (row * 1000 + token * 100 + head * 10 + feature) as f32
    }

    /// Values of a tensor whose axes are in an order.
    fn values(sizes: &Sizes, order: [Axis; 4]) -> Vec<f32> {
        let all = |axis: Axis| 0..sizes.of_axis(axis);
        let mut found = Vec::new();
        for a in all(order[0]) {
            for b in all(order[1]) {
                for c in all(order[2]) {
                    for d in all(order[3]) {
                        let index = [a, b, c, d];
                        let at = |axis: Axis| index[order.iter().position(|known| *known == axis).unwrap()];
                        found.push(value(at(Batch), at(Token), at(Head), at(Feature)));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn every_order_is_read_as_the_key_says() {
        for tap in [Tap::QProj, Tap::QNorm, Tap::KRope, Tap::Mlp] {
            let sizes = sizes(tap);
            let right = values(&sizes, sizes.canonical());
            for order in ORDERS {
                let shape: Vec<usize> = order.iter().map(|axis| sizes.of_axis(*axis)).collect();
                let stored = values(&sizes, order);
                let read: Vec<Vec<f32>> = Layout::possible(&sizes, &shape, false)
                    .iter()
                    .map(|layout| layout.apply(&stored))
                    .collect();
                assert!(read.contains(&right), "{tap:?} {order:?}");
                let canonical = sizes.canonical().map(|axis| sizes.of_axis(axis));
                let long =
                    |shape: &[usize]| shape.iter().copied().filter(|size| *size > 1).collect::<Vec<_>>();
                let strictly = Layout::possible(&sizes, &shape, true).len();
                assert_eq!(strictly, usize::from(long(&shape) == long(&canonical)), "{tap:?} {order:?}");
            }
        }
    }

    #[test]
    fn axes_may_be_merged_or_left_out_but_for_tokens_and_features() {
        let fits = |tap, shape: &[usize]| !Layout::possible(&sizes(tap), shape, true).is_empty();
        for shape in
            [&[2, 3, 24][..], &[6, 24], &[2, 3, 4, 6], &[6, 4, 6], &[2, 1, 3, 24], &[5, 24], &[24, 6][..0]]
        {
            assert_eq!(fits(Tap::QProj, shape), !shape.is_empty(), "{shape:?}");
        }
        for shape in [&[144][..], &[3, 48], &[2, 72], &[2, 4, 3, 6], &[6, 23]] {
            assert!(!fits(Tap::QProj, shape), "{shape:?}");
        }
    }

    #[test]
    fn padding_may_be_left_out() {
        let sizes = sizes(Tap::QNorm);
        let right = values(&sizes, ORDERS[0]);
        let per_token = 4 * 6;
        // Without the first token of the second row.
        let stored = [&right[..3 * per_token], &right[4 * per_token..]].concat();
        let layout = &Layout::possible(&sizes, &[5, 4, 6], true)[0];
        let read = layout.apply(&stored);
        assert_eq!(read[..3 * per_token], right[..3 * per_token]);
        assert_eq!(read[3 * per_token..4 * per_token], [0.0; 24]);
        assert_eq!(read[4 * per_token..], right[4 * per_token..]);
        assert_eq!(layout.to_string(), "without padding");
    }

    #[test]
    fn columns_of_a_packed_tensor() {
        let config = Qwen3Config {
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 6,
            ..Qwen3Config::tiny()
        };
        let rows = Rows::of_mask(vec![vec![true; 2]]);
        let sizes = Sizes::of(Tap::KProj, &config, &rows).packed(&config);
        let stored: Vec<f32> = (0..2 * 48).map(|index| index as f32).collect();
        let layout = &Layout::possible(&sizes, &[2, 48], false)[0];
        let columns = |token: usize| (24..36).map(move |column| (token * 48 + column) as f32);
        assert_eq!(layout.apply(&stored), columns(0).chain(columns(1)).collect::<Vec<_>>());
        assert_eq!(layout.to_string(), "columns 24..36 of 48");
    }

    #[test]
    fn pairs_are_put_in_halves() {
        let sizes = sizes(Tap::QNorm);
        let right = values(&sizes, ORDERS[0]);
        let paired: Vec<f32> = right.chunks(6).flat_map(|x| [x[0], x[3], x[1], x[4], x[2], x[5]]).collect();
        let layout = Layout::possible(&sizes, &[2, 3, 4, 6], true)[0].in_pairs().unwrap();
        assert_eq!(layout.apply(&paired), right);
        assert!(Layout::possible(&self::sizes(Tap::VProj), &[2, 3, 12], true)[0].in_pairs().is_none());
    }
}
