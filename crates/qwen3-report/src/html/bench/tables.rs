//! Every figure of a benchmark as a row.

use maud::{Markup, html};

use super::Shown;
use crate::BenchReport;
use crate::bench::{Figures, Limits, Phase};
use crate::html::scroll::card;
use crate::html::text::{NOTHING, NUM, heads, mebibytes, num, standing_chip};
use crate::measure::three_digits;

fn or_dash(value: Option<f64>) -> Markup {
    num(value.map_or(NOTHING.into(), three_digits))
}

/// Bars of the fraction of the limit; `None` when no row has one.
pub fn of_limit(lanes: &[Shown]) -> Option<Markup> {
    let rows = lanes.iter().flat_map(|lane| lane.rows.iter().map(move |row| (lane, *row)));
    let rows: Vec<_> = rows.filter_map(|(lane, row)| Some((lane, row, row.of_limit?))).collect();
    (!rows.is_empty()).then(|| {
        html! {
            p.lead { "The median over what memory (decoding) and arithmetic (reading a prompt) allow at most." }
            (card("Speed over the limit", &html! {
                table."bars share" {
                    caption { "Speed over the limit, in per cent" }
                    tbody {
                        @for (lane, row, share) in rows {
                            @let width = (100.0 * share).clamp(0.0, 100.0);
                            @let class = lane.is_wrong().then_some("wrong-speed");
                            tr class=[class] {
                                th scope="row" { (lane.marked()) }
                                td { (row.workload) }
                                td.bar { i style=(format_args!("width:{width:.1}%")) {} }
                                (num(format!("{:.0} %", 100.0 * share)))
                            }
                        }
                    }
                }
            }))
        }
    })
}

/// What parity says of each of ours; `None` when there are none.
pub fn accuracy(lanes: &[Shown]) -> Option<Markup> {
    let ours = lanes.iter().filter_map(|lane| Some((lane, lane.standing?)));
    let ours: Vec<_> = ours.collect();
    let columns = [
        ("backend", None),
        ("standing", None),
        ("cases", NUM),
        ("failed", NUM),
        ("worst error / limit", NUM),
        ("greedy ids", None),
    ];
    (!ours.is_empty()).then(|| {
        html! {
            p.lead { "The speed of a backend that computes something else is no result." }
            (card("Accuracy", &html! {
                table {
                    (heads(&columns))
                    tbody {
                        @for (lane, standing) in ours {
                            tr {
                                th scope="row" { (lane.name) }
                                td { (standing_chip(standing)) }
                                @if let Some(accuracy) = lane.accuracy {
                                    (num(accuracy.cases.to_string()))
                                    (num(accuracy.failed.to_string()))
                                    (num(accuracy.worst_over_limit.map_or("not finite".into(), three_digits)))
                                    td { (accuracy.greedy_ids) }
                                } @else {
                                    td.num colspan="4" { (NOTHING) }
                                }
                            }
                        }
                    }
                }
            }))
        }
    })
}

/// A table for each backend and engine; `None` when there are none.
pub fn figures(lanes: &[Shown]) -> Option<Markup> {
    (!lanes.is_empty()).then(|| {
        html! {
            p.lead {
                "The median of the samples and their spread; * marks rows of which some samples were taken while \
                 other processes used the machine. The first use, in which kernels are compiled and tuned, is the \
                 warm-up and no sample."
            }
            @for lane in lanes { (table(lane)) }
        }
    })
}

fn table(lane: &Shown) -> Markup {
    let columns = [
        ("phase", None),
        ("tokens", NUM),
        ("context", NUM),
        ("batch", NUM),
        ("median", NUM),
        ("spread", NUM),
        ("samples", NUM),
        ("limit, tok/s", NUM),
        ("of limit", NUM),
        ("warm-up, s", NUM),
        ("peak memory", NUM),
        ("MiB / token", NUM),
    ];
    html! {
        (card(&lane.name, &html! {
            table {
                caption {
                    (lane.name) " "
                    @if let Some(standing) = lane.standing { (standing_chip(standing)) }
                    @if let Some(version) = lane.version { span.quiet { (version) } }
                }
                (heads(&columns))
                tbody { @for row in &lane.rows { (table_row(row, lane.is_wrong())) } }
            }
        }))
    }
}

fn table_row(row: &Figures, wrong: bool) -> Markup {
    let workload = row.workload;
    let count =
        |count: usize| num(if workload.phase == Phase::Load { NOTHING.into() } else { count.to_string() });
    let disturbed = if row.disturbed > 0 { "*" } else { "" };
    let median = format!("{} {}{disturbed}", three_digits(row.median()), row.unit);
    let class = if wrong { "num wrong-speed" } else { "num" };
    let warm_up = row.warm_up_s.iter().copied().reduce(f64::max);
    let share = row.of_limit.map_or(NOTHING.into(), |share| format!("{:.0} %", 100.0 * share));
    html! {
        tr {
            th scope="row" { (workload.phase) }
            (count(workload.tokens))
            (count(workload.context))
            (count(workload.batch))
            td class=(class) { (median) @if wrong { " WRONG" } }
            (num(row.extremes().map(three_digits).join(" to ")))
            (num(row.samples.len().to_string()))
            (or_dash(row.limit_tok_per_s))
            (num(share))
            (or_dash(warm_up))
            (num(row.peak_rss_mb.map_or(NOTHING.into(), mebibytes)))
            (or_dash(row.bytes_per_token.map(|bytes| bytes / f64::from(1 << 20))))
        }
    }
}

/// What was measured of the machine; `None` when nothing was.
pub fn limits(limits: &Limits) -> Option<Markup> {
    let mut rates = Vec::new();
    for (pages, rate) in &limits.read_gb_per_s {
        rates.push((format!("reading memory, {} pages", pages.name()), *rate, "GB/s"));
    }
    for (dtype, rate) in &limits.matmul_gflop_per_s {
        rates.push((format!("multiplying and adding, {dtype}"), *rate, "GFLOP/s"));
    }
    for device in &limits.devices {
        let name = |what| format!("{} {}, {what}", device.backend, device.dtype);
        rates.push((name("memory"), device.gb_per_s, "GB/s"));
        rates.push((name("matrix products"), device.gflop_per_s, "GFLOP/s"));
    }
    (!rates.is_empty()).then(|| {
        html! {
            (card("What the machine allows", &html! {
                table {
                    (heads(&[("limit", None), ("rate", NUM)]))
                    tbody {
                        @for (name, rate, unit) in rates {
                            tr { th scope="row" { (name) } (num(format!("{} {unit}", three_digits(rate)))) }
                        }
                    }
                }
            }))
        }
    })
}

/// What was asked for and cannot be had; `None` when all was measured.
pub fn skipped(report: &BenchReport) -> Option<Markup> {
    (!report.skipped.is_empty()).then(|| {
        html! {
            (card("Not measured", &html! {
                table {
                    (heads(&[("backend or engine", None), ("workload", None), ("why", None)]))
                    tbody {
                        @for skipped in &report.skipped {
                            tr {
                                th scope="row" { (skipped.who) }
                                td {
                                    @if let Some(workload) = skipped.workload { (workload) } @else { "all" }
                                }
                                td { (skipped.reason) }
                            }
                        }
                    }
                }
            }))
        }
    })
}
