//! The page of a benchmark as a whole.

use super::render_bench;
use crate::html::tests::{HOSTILE, assert_balanced};
use crate::sample;

#[test]
fn a_benchmark_has_every_section() {
    let html = render_bench(&sample::bench());
    for id in ["speed", "limit", "ratios", "accuracy", "figures", "limits", "skipped"] {
        assert!(html.contains(&format!("<section id=\"{id}\"")), "{id}");
        assert!(html.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    for part in [
        "<title>synthetic 0.6b \u{2013} benchmark</title>",
        "Fastest among what parity passes: decode by flex bf16 with 8.30 tok/s (decode of 32 at 128, batch 1);",
        "Prefill, by the length of the prompt",
        "Decoding 32 tokens, by what the cache holds",
        "Decoding 32 tokens at 128, by batch",
        "limit of flex f32",
        "<title>flex f32: prefill of 128: 210 tok/s (206 to 212), 62 % of the limit</title>",
        "(5.03 to 5.18), 62 % of the limit, disturbed",
        "5.13 tok/s*",
        "style=\"width:62.5%\"",
        "reading memory, huge pages",
        "prefill of 512, batch 4",
        "cargo xtask bench",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert_eq!(html.matches("<figure").count(), 3);
    assert_eq!(html, render_bench(&sample::bench()));
    assert_balanced(&html);
}

#[test]
fn a_wrong_speed_is_marked_wherever_it_stands() {
    let html = render_bench(&sample::bench());
    // In each plot's legend; its line is pale.
    assert_eq!(html.matches("</svg> wgpu f32 (WRONG)</span>").count(), 3);
    assert_eq!(html.matches("path class=\"line s2 solid wrong\"").count(), 6);
    assert_eq!(html.matches(" tok/s WRONG</td>").count() + html.matches(" s WRONG</td>").count(), 8);
    assert_eq!(html.matches("<tr class=\"wrong-speed\">").count(), 6, "its bars");
    assert!(html.contains(">1 of 3 wrong</span>") && html.contains("does not count, however fast it is"));
    assert!(!html.contains("by wgpu"), "it does not win");
    let mut right = sample::bench();
    right.rows.retain(|row| row.backend == "flex");
    right.compare();
    assert!(
        !render_bench(&right).contains("WRONG") && render_bench(&right).contains("header class=\"passed\"")
    );
}

#[test]
fn backends_of_one_limit_have_one_dashed_line() {
    let html = render_bench(&sample::bench());
    // Prefill has one limit in both dtypes, decoding one for each.
    let legend = |name: &str| html.matches(&format!("</svg> limit of {name}</span>")).count();
    assert_eq!((legend("flex f32"), legend("flex bf16"), legend("wgpu f32")), (3, 2, 0));
}

#[test]
fn no_name_of_a_benchmark_becomes_markup() {
    let mut report = sample::bench();
    report.model.name = HOSTILE.into();
    report.machine.cpu = HOSTILE.into();
    report.machine.devices = vec![HOSTILE.into()];
    report.rows.iter_mut().for_each(|row| row.backend += HOSTILE);
    report.peers.iter_mut().for_each(|row| row.peer += HOSTILE);
    report.compare();
    let html = render_bench(&report);
    for markup in ["<img", "<script>alert", "\u{202e}", "\0", "\u{1b}"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    assert_eq!(html.matches("</script>").count(), 1);
    assert!(html.matches("&lt;img src=x onerror").count() > 20);
    for outside in ["http:", "https:", " src=\"", "<link", "@import", "url(//"] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_balanced(&html);
}

#[test]
fn a_benchmark_of_nothing_is_a_page() {
    let html = render_bench(&crate::BenchReport::default());
    assert!(html.contains("Nothing was measured.") && !html.contains("<section"));
    assert_balanced(&html);
    let mut report = sample::bench();
    report.rows[2].figures.samples.clear();
    assert!(!render_bench(&report).contains("NaN"));
}
