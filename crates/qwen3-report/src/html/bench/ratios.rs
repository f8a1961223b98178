//! How many times as fast as each peer.

use maud::{Markup, html};
use qwen3_trace::Precision;

use crate::bench::{Lane, Ratio, Standing, Workload};
use crate::html::scroll::card;
use crate::html::text::{NOTHING, NUM, heads, num};
use crate::measure::three_digits;
use crate::{BenchReport, Label};

/// A column: ours, its standing, and the peer.
type Pair<'a> = (Label, Standing, &'a str);

/// The section's body; `None` when there is no ratio.
pub fn section(report: &BenchReport) -> Option<Markup> {
    let (mut workloads, mut peers): (Vec<Workload>, Vec<(&str, Precision)>) = (Vec::new(), Vec::new());
    for ratio in &report.ratios {
        if !workloads.contains(&ratio.workload) {
            workloads.push(ratio.workload);
        }
        if !peers.contains(&(&ratio.peer, ratio.dtype)) {
            peers.push((&ratio.peer, ratio.dtype));
        }
    }
    workloads.sort_unstable();
    let lanes = report.lanes();
    (!peers.is_empty()).then(|| {
        html! {
            p.lead {
                "Above 1 ours is faster. Both ran on the same machine, weights and sizes in the same run, which is \
                 what makes a ratio worth more than either speed."
            }
            @for (peer, dtype) in &peers { (table(report, &lanes, &workloads, peer, *dtype)) }
        }
    })
}

fn table(
    report: &BenchReport,
    lanes: &[Lane],
    workloads: &[Workload],
    peer: &str,
    dtype: Precision,
) -> Markup {
    let of_peer = |ratio: &&Ratio| ratio.peer == peer && ratio.dtype == dtype;
    let ratios: Vec<&Ratio> = report.ratios.iter().filter(of_peer).collect();
    let compared = |lane: &&Lane| ratios.iter().any(|ratio| ratio.label() == lane.label);
    let pairs: Vec<Pair> =
        lanes.iter().filter(compared).map(|lane| (lane.label.clone(), lane.standing, peer)).collect();
    let name = |(label, standing, _): &Pair| match standing {
        Standing::Wrong => format!("{label} (WRONG)"),
        Standing::Right | Standing::Unchecked => label.to_string(),
    };
    let names: Vec<String> = pairs.iter().map(name).collect();
    let mut columns = vec![("workload", None)];
    columns.extend(names.iter().map(|name| (name.as_str(), NUM)));
    let find = |workload: Workload, label: &Label| {
        let here = |ratio: &&&Ratio| ratio.workload == workload && ratio.label() == *label;
        ratios.iter().find(here).map(|ratio| ratio.ratio)
    };
    let rows = workloads.iter().filter(|workload| ratios.iter().any(|ratio| ratio.workload == **workload));
    html! {
        (card(&format!("Ratios over {peer} {dtype}"), &html! {
            table {
                caption { "over " (peer) " " (dtype) }
                (heads(&columns))
                tbody {
                    @for workload in rows {
                        tr {
                            th scope="row" { (workload) }
                            @for (label, standing, _) in &pairs {
                                @match (find(*workload, label), *standing) {
                                    (None, _) => (num(NOTHING.into())),
                                    (Some(ratio), Standing::Wrong) => {
                                        td."num wrong-speed" { (three_digits(ratio)) }
                                    }
                                    (Some(ratio), _) => (num(three_digits(ratio))),
                                }
                            }
                        }
                    }
                }
            }
        }))
    }
}
