//! Pages to look at: of the made-up reports, and of any reports given:
//! `cargo run -p qwen3-report --features sample --example pages -- FOLDER [REPORT.json ..]`

use std::path::Path;

use qwen3_report::{AnyReport, html, sample};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, reports @ ..] = &arguments[..] else {
        return Err("a folder for the pages, and reports to read".into());
    };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    let write = |name: &str, page: String| std::fs::write(folder.join(name).with_extension("html"), page);
    write("verify-several", html::render(&sample::report(28)))?;
    write("verify-observed", html::render(&sample::observed(28)))?;
    write("bench", html::render_bench(&sample::bench()))?;
    for file in reports.iter().map(Path::new) {
        let page = match AnyReport::read(file)? {
            AnyReport::Verify(report) => html::render(&report),
            AnyReport::Bench(report) => html::render_bench(&report),
            AnyReport::Parity(_) => return Err(format!("{}: parity has no page", file.display()).into()),
        };
        let name = file.file_stem().ok_or("a report has a name")?;
        write(&name.to_string_lossy(), page)?;
    }
    Ok(())
}
