//! Arguments back as the words of a command line.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

/// Words that are put together flag by flag.
#[derive(Default)]
pub(crate) struct Words(pub(crate) Vec<OsString>);

impl Words {
    /// `--flag FILE`, when there is one.
    pub(crate) fn file(&mut self, flag: &str, file: Option<&Path>) {
        self.0.extend(file.iter().flat_map(|file| [flag.into(), file.into()]));
    }

    /// `--flag=TEXT`, when there is one: one word, for the text may begin with a hyphen.
    pub(crate) fn text(&mut self, flag: &str, text: Option<&str>) {
        self.0.extend(text.iter().map(|text| format!("{flag}={text}").into()));
    }

    /// `--flag=A,B`, when there are any.
    pub(crate) fn list<T: Display>(&mut self, flag: &str, list: &[T]) {
        let list: Vec<_> = list.iter().map(T::to_string).collect();
        self.text(flag, (!list.is_empty()).then(|| list.join(",")).as_deref());
    }

    /// `--flag`, when it is set.
    pub(crate) fn flag(&mut self, flag: &str, set: bool) {
        self.0.extend(set.then(|| flag.into()));
    }
}
