//! What was in memory: the process's peak beside the whole model and the parts that it held one at a time.

use maud::{Markup, html};

use super::text::mebibytes;
use crate::VerifyReport;

/// The section's body; `None` when no model was run: somebody's activations say nothing of what their program took.
pub fn section(report: &VerifyReport) -> Option<Markup> {
    let memory = &report.memory;
    let bars = [
        ("peak, resident", memory.peak_rss_mb),
        ("whole model", Some(memory.model_mb)),
        ("embedding", Some(memory.embedding_mb)),
        ("one layer", Some(memory.layer_mb)),
        ("head", Some(memory.head_mb)),
    ];
    let bars = bars.into_iter().filter_map(|(name, mb)| Some((name, mb?)));
    let largest = bars.clone().map(|bar| bar.1).fold(0.0, f64::max);
    let ran = report.observed.is_none() && report.runs.iter().any(|run| run.status.ran());
    (ran && largest > 0.0).then(|| {
        html! {
            div.card {
                table.bars {
                    caption.sr { "Memory" }
                    tbody {
                        @for (name, mb) in bars {
                            @let share = 100.0 * mb.max(0.0) / largest;
                            @let class = name.starts_with("peak").then_some("peak");
                            tr class=[class] {
                                th scope="row" { (name) }
                                td.num { (mebibytes(mb)) }
                                td.bar { i style=(format_args!("width:{share:.1}%")) {} }
                            }
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Status, sample};

    #[test]
    fn memory_is_told_of_what_ran_here() {
        let html = section(&sample::report(4)).unwrap().into_string();
        assert!(html.contains(">903 MiB<") && !html.contains(" MB<"), "{html}");
        let observed = VerifyReport { observed: Some("mine.npz".into()), ..sample::report(4) };
        assert!(section(&observed).is_none());
        let unavailable = sample::run("cuda", Status::Unavailable, Vec::new());
        assert!(section(&sample::report_of(vec![unavailable])).is_none());
    }
}
