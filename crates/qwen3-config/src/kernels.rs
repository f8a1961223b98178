use std::fmt;

/// Whether products, attention and norms are this project's kernels, on a backend that there are any for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernels {
    /// They are: the usual.
    On,
    /// They are composed of Burn's own operations.
    Off,
}

impl Kernels {
    /// Both, the usual first.
    pub const ALL: [Self; 2] = [Self::On, Self::Off];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
        }
    }

    /// What tells a run from the usual one in reports.
    pub fn variant(self) -> Option<String> {
        (self == Self::Off).then(|| "without kernels".into())
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
