//! The tokens that a post-processor puts around a text.

use std::collections::HashMap;

use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper};

/// What stands before and behind a text that stands alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Around {
    pub(crate) before: Vec<u32>,
    pub(crate) after: Vec<u32>,
}

/// Two tokens in a text's place, which no vocabulary has.
const TEXT: [u32; 2] = [u32::MAX - 1, u32::MAX];

impl Around {
    /// What `processor` puts around a text, or why that cannot be said.
    pub(crate) fn of(processor: Option<&PostProcessorWrapper>) -> Result<Self, String> {
        let Some(processor) = processor else {
            return Ok(Self::default());
        };
        let encodings =
            processor.process_encodings(vec![in_place()], true).map_err(|error| error.to_string())?;
        let ids: Vec<u32> = encodings.iter().flat_map(|encoding| encoding.get_ids()).copied().collect();
        let odd = || "its post_processor does not put a text between tokens, once and whole".to_string();
        let at = ids.windows(2).position(|pair| pair == TEXT).ok_or_else(odd)?;
        let (before, after) = (ids[..at].to_vec(), ids[at + 2..].to_vec());
        if before.iter().chain(&after).any(|id| TEXT.contains(id)) {
            return Err(odd());
        }
        Ok(Self { before, after })
    }
}

fn in_place() -> Encoding {
    let (zeros, ones) = (vec![0; 2], vec![1; 2]);
    let (words, offsets) = (vec![None; 2], vec![(0, 0); 2]);
    let tokens = vec!["a".to_string(); 2];
    let ranges = HashMap::from([(0, 0..2)]).into_iter().collect();
    Encoding::new(TEXT.into(), zeros.clone(), tokens, words, offsets, zeros, ones, Vec::new(), ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(json: &str) -> Result<Around, String> {
        Around::of(Some(&serde_json::from_str(json).unwrap()))
    }

    const END: &str = r#"{"e": {"id": "e", "ids": [7, 8], "tokens": ["e", "f"]}}"#;

    fn template(single: &str) -> String {
        format!(
            r#"{{"type": "TemplateProcessing", "single": [{single}], "pair": [], "special_tokens": {END}}}"#
        )
    }

    const A: &str = r#"{"Sequence": {"id": "A", "type_id": 0}}"#;
    const E: &str = r#"{"SpecialToken": {"id": "e", "type_id": 0}}"#;
    const BYTES: &str =
        r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#;

    #[test]
    fn what_stands_around_a_text_is_found() {
        let of = |before: &[u32], after: &[u32]| Ok(Around { before: before.into(), after: after.into() });
        assert_eq!(Around::of(None), of(&[], &[]));
        assert_eq!(around(BYTES), of(&[], &[]));
        assert_eq!(around(&template(&format!("{A}, {E}"))), of(&[], &[7, 8]));
        assert_eq!(around(&template(&format!("{E}, {A}, {E}"))), of(&[7, 8], &[7, 8]));
        let both = template(&format!("{A}, {E}"));
        let both = format!(r#"{{"type": "Sequence", "processors": [{BYTES}, {both}]}}"#);
        assert_eq!(around(&both), of(&[], &[7, 8]));
        let bert = r#"{"type": "BertProcessing", "sep": ["s", 2], "cls": ["c", 1]}"#;
        assert_eq!(around(bert), of(&[1], &[2]));
    }

    #[test]
    fn a_text_that_is_not_there_once_is_refused() {
        for single in [E.to_string(), format!("{A}, {A}"), format!("{A}, {E}, {A}")] {
            assert!(around(&template(&single)).unwrap_err().contains("once and whole"), "{single}");
        }
    }
}
