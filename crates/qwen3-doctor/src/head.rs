//! A head that is the embedding, or a matrix of its own.

use qwen3_checkpoint::CheckpointError;
use qwen3_config::{EMBEDDING, HEAD};
use qwen3_report::doctor::{Ailment, Finding, Health};

use crate::formats::agreement;
use crate::groups::finding;
use crate::source::Source;

/// What became of the head, where one of both has none of its own, or its config takes the embedding for it.
///
/// # Errors
/// When one of them cannot be read.
pub fn head(model: &Source, original: &Source) -> Result<Option<Finding>, CheckpointError> {
    let own = |source: &Source| source.tensors().contains_key(HEAD) && !source.config().tie_word_embeddings;
    let tied = |source: &Source| source.config().tie_word_embeddings;
    // Embeddings of another shape have findings of their own.
    let alike = |a: &Source, key: &str| {
        let shape = |source: &Source, key: &str| source.tensors().get(key).map(|tensor| tensor.shape.clone());
        shape(a, key).is_some() && shape(a, key) == shape(original, EMBEDDING)
    };
    let same = |source: &Source| -> Result<bool, CheckpointError> {
        if !alike(source, HEAD) {
            return Ok(false);
        }
        let (head, embedding) = (source.values(HEAD)?, original.values(EMBEDDING)?);
        let tensor = &source.tensors()[HEAD];
        Ok(agreement(&head, &embedding, tensor.columns(), &tensor.encoding).is_some())
    };
    Ok(match (tied(model), tied(original)) {
        (true, false) if own(original) => Some(match same(original)? {
            true => Finding {
                health: Health::Layout,
                ..finding(
                    Ailment::TiedHead,
                    HEAD,
                    "the head is tied to the embedding, which the original's equals",
                )
            },
            false => finding(
                Ailment::TiedHead,
                HEAD,
                "the head is tied to the embedding, and the original has another one: its head is lost",
            ),
        }),
        (_, true) if model.tensors().contains_key(HEAD) && !original.tensors().contains_key(HEAD) => {
            Some(match same(model)? {
                true => Finding {
                    health: Health::Layout,
                    ..finding(
                        Ailment::UntiedHead,
                        HEAD,
                        "the head is stored by itself, and is the original's embedding",
                    )
                },
                false => finding(
                    Ailment::UntiedHead,
                    HEAD,
                    "the head is stored by itself, and is not the embedding, which is the original's head",
                ),
            })
        }
        (false, true) if !model.tensors().contains_key(HEAD) => Some(finding(
            Ailment::UntiedHead,
            HEAD,
            "the config says that the head is not the embedding (tie_word_embeddings), and no head is in the files: whoever \
             reads them starts with a random one",
        )),
        _ => None,
    })
}
