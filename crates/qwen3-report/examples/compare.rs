//! Compares two reports and writes the later one, of a verification or a benchmark, as a page:
//! `cargo run -p qwen3-report --example compare -- OLD.json NEW.json PAGE.html`

use std::path::Path;
use std::process::ExitCode;

use qwen3_report::{AnyReport, diff, html};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [old, new, page] = &files[..] else {
        return Err("three files: two reports to read, and a page to write".into());
    };
    let (before, after) = (AnyReport::read(Path::new(old))?, AnyReport::read(Path::new(new))?);
    let diff = diff::compare(&before, &after, [old, new])?;
    print!("{diff}");
    match &after {
        AnyReport::Verify(report) => std::fs::write(page, html::render(report))?,
        AnyReport::Bench(report) => std::fs::write(page, html::render_bench(report))?,
        AnyReport::Parity(_) => {}
    }
    Ok(ExitCode::from(diff.exit_code()))
}
