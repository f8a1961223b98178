//! What a model is called on the hub.

use std::fmt;

#[cfg(feature = "client")]
use hf_hub::{Repo, RepoType};

/// A model on the hub, and which state of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubModel {
    name: String,
    revision: String,
}

impl HubModel {
    /// The branch that is meant where none is named.
    pub const MAIN: &str = "main";

    /// The model, if the text could be a name on the hub, `owner/model`; of the branch [`MAIN`](Self::MAIN).
    pub fn parse(name: &str) -> Option<Self> {
        let name_of = |owner, model| is_part(owner) && is_part(model);
        let named =
            matches!(name.split('/').collect::<Vec<_>>()[..], [owner, model] if name_of(owner, model));
        named.then(|| Self { name: name.into(), revision: Self::MAIN.into() })
    }

    /// The same in another state: a branch, a tag, a commit, or a reference as `refs/pr/1`; `None` when no state can
    /// be called that.
    pub fn at(self, revision: &str) -> Option<Self> {
        revision.split('/').all(is_part).then(|| Self { revision: revision.into(), ..self })
    }

    /// `owner/model`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag, commit or reference.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same for the hub's client.
    #[cfg(feature = "client")]
    pub(crate) fn repo(&self) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, self.revision.clone())
    }
}

impl fmt::Display for HubModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.revision == Self::MAIN { Ok(()) } else { write!(f, " at {}", self.revision) }
    }
}

/// Is it one part of a name: no path, nothing hidden, nothing for a terminal?
pub(crate) fn is_part(name: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        assert_eq!(HubModel::parse("Qwen/Qwen3-0.6B").unwrap().name(), "Qwen/Qwen3-0.6B");
        for path in ["Qwen3", "./Qwen3", "/a/b", "a/b/c", "../b", "a/", "a\\b/c", ""] {
            assert_eq!(HubModel::parse(path), None, "{path}");
        }
    }

    #[test]
    fn a_state_leads_out_of_no_folder() {
        let model = HubModel::parse("a/b").unwrap();
        assert_eq!(model.to_string(), "a/b");
        for state in ["v1.0", "refs/pr/1", "0123abc"] {
            assert_eq!(model.clone().at(state).unwrap().revision(), state);
        }
        assert_eq!(model.clone().at("v1").unwrap().to_string(), "a/b at v1");
        for path in ["", "..", "a/../b", "/a", "a//b", "a b", "a\u{1b}"] {
            assert_eq!(model.clone().at(path), None, "{path}");
        }
    }
}
