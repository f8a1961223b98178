//! What happened to rows, in words.

use std::collections::HashSet;

use qwen3_config::Qwen3Config;
use qwen3_report::doctor::{Ailment, Finding};

use crate::groups::finding;
use crate::pair::Pair;
use crate::rows::{RowFate, fates};
use crate::whole::number;

/// So many rows of a finding are listed.
pub const LISTED: usize = 16;

/// What happened to the `bad` rows; nothing where all rows differ, and nothing explains it.
pub fn of_rows(pair: &Pair, bad: &[usize], config: &Qwen3Config) -> Vec<Finding> {
    let fates = fates(pair, bad);
    let of = |is: &dyn Fn(&RowFate) -> bool| -> Vec<usize> {
        fates.iter().filter(|(_, fate)| is(fate)).map(|(row, _)| *row).collect()
    };
    let zero = of(&|fate| *fate == RowFate::Zero);
    let scaled = of(&|fate| matches!(fate, RowFate::Scaled(_)));
    let mut differ = of(&|fate| *fate == RowFate::Differs);
    // Those of which nothing is known.
    let known: HashSet<usize> = fates.iter().map(|(row, _)| *row).collect();
    differ.extend(bad.iter().filter(|row| !known.contains(row)));
    let holds: Vec<(usize, usize)> = fates
        .iter()
        .filter_map(|(row, fate)| if let RowFate::Holds(other) = fate { Some((*row, *other)) } else { None })
        .collect();
    let is_bad = |row: &usize| bad.binary_search(row).is_ok();
    let (mut moved, mut stale): (Vec<_>, Vec<_>) = holds.into_iter().partition(|(_, other)| is_bad(other));
    // The first of rows that are all shifted holds one that is where it should be.
    let shift = |(row, other): &(usize, usize)| *other as i64 - *row as i64;
    if moved.iter().chain(&stale).all(|held| moved.len() > 1 && shift(held) == shift(&moved[0])) {
        moved.append(&mut stale);
        moved.sort_unstable();
    }

    let mut findings = Vec::new();
    let mut add = |id, rows: Vec<usize>, what: String, factor| {
        if rows.is_empty() {
            return;
        }
        let count = rows.len();
        let explanation = format!("{}: {count} of {} rows {what}", pair.key, pair.rows());
        let rows = rows.into_iter().take(LISTED).collect();
        let finding = finding(id, pair.key, explanation);
        findings.push(Finding { rows, row_count: Some(count), factor, ..finding });
    };
    add(Ailment::ZeroRows, zero.clone(), format!("are zero, {}", first(&zero)), None);
    let (rows, what) = moved_words(&moved, pair.key, config);
    add(Ailment::RowsExchanged, rows, what, None);
    let rows: Vec<usize> = stale.iter().map(|(row, _)| *row).collect();
    let what = stale.first().map(|(row, other)| {
        format!("hold other rows, which are where they should be, too: row {row} holds row {other}")
    });
    add(Ailment::StaleRows, rows, what.unwrap_or_default(), None);
    let factors: Vec<f64> = fates
        .iter()
        .filter_map(|(_, fate)| if let RowFate::Scaled(factor) = fate { Some(*factor) } else { None })
        .collect();
    let (least, most) = factors.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), factor| {
        (least.min(*factor), most.max(*factor))
    });
    let one = most - least <= 1e-3 * most.abs();
    let by = if one { number(least) } else { format!("{} to {}", number(least), number(most)) };
    let what = format!("are multiplied with {by}, {}", first(&scaled));
    add(Ailment::ScaledRows, scaled, what, one.then_some(least));
    if differ.len() < pair.rows() {
        let what = format!("differ, and nothing known explains them, {}", first(&differ));
        add(Ailment::RowsDiffer, differ, what, None);
    }
    findings
}

/// The first of some rows.
fn first(rows: &[usize]) -> String {
    match rows {
        [] => String::new(),
        [row] => format!("row {row}"),
        [first, .., last] if last - first + 1 == rows.len() => format!("rows {first} to {last}"),
        [first, ..] => format!("the first is row {first}"),
    }
}

/// Rows that hold other rows, and in which way.
fn moved_words(moved: &[(usize, usize)], key: &str, config: &Qwen3Config) -> (Vec<usize>, String) {
    let rows = moved.iter().map(|(row, _)| *row).collect();
    let Some(&(row, other)) = moved.first() else { return (rows, String::new()) };
    let by = other as i64 - row as i64;
    if moved.len() > 2 && moved.iter().all(|(row, other)| *other as i64 - *row as i64 == by) {
        let place = if by < 0 { "before" } else { "behind" };
        return (rows, format!("hold the row {} {place} them, {}", by.abs(), first(&[row])));
    }
    let head = config.head_dim;
    let of_heads = ["q_proj.", "k_proj.", "v_proj."].iter().any(|name| key.contains(name));
    let within = moved.iter().all(|(row, other)| row % head == other % head);
    if of_heads && within {
        let mut heads: Vec<(usize, usize)> =
            moved.iter().map(|(row, other)| (row / head, other / head)).collect();
        heads.dedup();
        let heads: Vec<String> =
            heads.iter().map(|(head, other)| format!("head {head} holds head {other}")).collect();
        return (rows, format!("are in another order: {}", heads.join(", ")));
    }
    (rows, format!("are in another order: row {row} holds row {other}"))
}
