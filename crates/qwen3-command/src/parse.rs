//! The command line of a program.

use clap::Parser;

use crate::printable_lines;

/// The arguments of this program. Where they are no arguments of its, it ends with exit code 2 and the usage, in
/// which what was given is printed and not obeyed; with `--help` or `--version` it ends with 0.
pub fn arguments<T: Parser>() -> T {
    T::try_parse().unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        eprint!("{}", printable_lines(&error.render().to_string()));
        std::process::exit(error.exit_code());
    })
}
