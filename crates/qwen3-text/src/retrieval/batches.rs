/// Which of texts of these lengths to read side by side, the longest first: as many as have no more than `tokens`
/// tokens when all are as long as the longest, and one at least. Every text is in one of the batches.
pub(super) fn batches(lengths: &[usize], tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<_> = (0..lengths.len()).collect();
    order.sort_by_key(|text| std::cmp::Reverse(lengths[*text]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for text in order {
        match batches.last_mut() {
            Some(batch) if (batch.len() + 1).saturating_mul(lengths[batch[0]]) <= tokens => batch.push(text),
            _ => batches.push(vec![text]),
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_about_one_length_are_read_together() {
        assert_eq!(batches(&[3, 9, 4, 1], 10), [vec![1], vec![2, 0], vec![3]]);
        assert_eq!(batches(&[3, 9, 4, 1], 1), [vec![1], vec![2], vec![0], vec![3]]);
        assert_eq!(batches(&[2, 2, 2], 6), [vec![0, 1, 2]]);
        assert_eq!(batches(&[2, 2, 2], usize::MAX), [vec![0, 1, 2]]);
        assert!(batches(&[], 6).is_empty());
    }
}
