//! One line a run: what it ran on, how it ended, and what it took.

use serde_json::Value;

use super::text::{NOTHING, chip, duration, esc, megabytes, ratio};
use crate::verify::view::{Run, number, text};

/// The section's body; `None` when there are no runs.
pub fn section(runs: &[Run]) -> Option<String> {
    if runs.is_empty() {
        return None;
    }
    let mut out = String::from(
        "<div class=\"card scroll\"><table class=\"runs\"><thead><tr><th scope=\"col\">backend</th><th scope=\"col\">dtype</th><th scope=\"col\">switches</th>\
         <th scope=\"col\">verdict</th><th scope=\"col\" class=\"num\">within limit</th><th scope=\"col\" class=\"num\">worst \u{d7} limit</th>\
         <th scope=\"col\" class=\"num\">time</th><th scope=\"col\" class=\"num\">peak memory</th></tr></thead>\n<tbody>\n",
    );
    for run in runs {
        let total = run.tensors().count();
        let passed = run.tensors().filter(|tensor| tensor.pass()).count();
        let within = match total {
            0 => NOTHING.into(),
            _ => format!("{passed} of {total}"),
        };
        let variant = text(run.0, "variant");
        out += &format!(
            "<tr><th scope=\"row\">{}{}</th><td>{}</td><td>{}</td><td>{}</td><td class=\"num\">{within}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>\n",
            esc(run.backend()),
            variant.map_or(String::new(), |variant| format!(
                " <span class=\"quiet\">{}</span>",
                esc(variant)
            )),
            esc(run.dtype()),
            switches(run.0.get("switches").unwrap_or(&Value::Null)),
            chip(run.status()),
            esc(&run
                .worst()
                .and_then(|worst| worst.ratio())
                .map_or(NOTHING.into(), ratio)),
            duration(number(run.0, "elapsed_ms")),
            megabytes(number(run.0, "peak_rss_mb")),
        );
        if let Some(reason) = text(run.0, "reason") {
            out += &format!(
                "<tr class=\"reason\"><td colspan=\"8\">{}</td></tr>\n",
                esc(reason)
            );
        }
    }
    Some(out + "</tbody></table></div>\n")
}

/// A verdict on a compiling backend holds for these switches only.
fn switches(switches: &Value) -> String {
    let shown =
        ["fusion", "autotune"].map(|name| match switches.get(name).and_then(Value::as_bool) {
            Some(true) => format!("{name} on"),
            Some(false) => format!("<b>{name} off</b>"),
            None => String::new(),
        });
    let shown = shown
        .into_iter()
        .filter(|switch| !switch.is_empty())
        .collect::<Vec<_>>();
    match shown.is_empty() {
        true => NOTHING.into(),
        false => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_run_without_tensors_has_a_line_and_its_reason() {
        let run = json!({"backend": "cuda", "dtype": "f16", "status": "unavailable", "reason": "no <device>", "tensors": []});
        let html = section(&[Run(&run)]).unwrap();
        assert!(html.contains("unavailable") && html.contains("no &lt;device&gt;"));
        assert!(section(&[]).is_none());
    }

    #[test]
    fn switches_that_are_off_stand_out() {
        assert_eq!(
            switches(&json!({"fusion": true, "autotune": false})),
            "fusion on, <b>autotune off</b>"
        );
        assert_eq!(switches(&json!({"fusion": true})), "fusion on");
        assert_eq!(switches(&Value::Null), NOTHING);
    }
}
