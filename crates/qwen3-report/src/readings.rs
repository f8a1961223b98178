//! What the tensors of somebody's file were taken for, in words.

use std::collections::BTreeMap;

use qwen3_trace::Taken;

/// More are counted.
const MOST: usize = 12;

/// What tensors were taken for, those alike in all layers and steps together; nothing without any. Names are a file's:
/// control characters are escaped.
pub fn taken(taken: &[Taken]) -> Vec<String> {
    let mut kinds: Vec<(String, usize)> = Vec::new();
    for Taken { name, key, layout } in taken {
        let (name, key) = (numberless(name), numberless(key));
        let layout = if layout.is_empty() { String::new() } else { format!(" ({layout})") };
        let words = match name == key {
            true => format!("{key}{layout}"),
            false => format!("{} is {key}{layout}", name.escape_debug()),
        };
        match kinds.iter_mut().find(|(known, _)| *known == words) {
            Some((_, count)) => *count += 1,
            None => kinds.push((words, 1)),
        }
    }
    let count = |count: usize| if count > 1 { format!(", {count} times") } else { String::new() };
    kinds.into_iter().map(|(words, times)| format!("read: {words}{}", count(times))).collect()
}

/// Tensors that were compared with nothing, by the reason, in words; nothing without any.
pub fn left(left: &BTreeMap<String, String>) -> Vec<String> {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, reason) in left {
        reasons.entry(reason).or_default().push(name);
    }
    let line = |(reason, names): (&str, Vec<&str>)| {
        let mut shown: Vec<String> =
            names.iter().take(MOST).map(|name| name.escape_debug().to_string()).collect();
        if names.len() > MOST {
            shown.push(format!("and {} more", names.len() - MOST));
        }
        format!("not compared {}, {}: {}", names.len(), reason.escape_debug(), shown.join(", "))
    };
    reasons.into_iter().map(line).collect()
}

/// A name with `N` in the place of the numbers of layers and steps.
fn numberless(name: &str) -> String {
    let mut found = String::new();
    let mut last = ' ';
    for c in name.chars() {
        let number = c.is_ascii_digit() && (!last.is_alphanumeric() || last == 'N');
        last = if number { 'N' } else { c };
        if !(number && found.ends_with('N')) {
            found.push(last);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_are_read_alike_are_told_once() {
        let one = |name: &str, key: &str, layout: &str| Taken {
            name: name.into(),
            key: key.into(),
            layout: layout.into(),
        };
        let all = [
            one("l_out-0", "layer_00_output", ""),
            one("l_out-11", "layer_11_output", ""),
            one("model.layers.3.self_attn.q_norm", "layer_03.self_attn.q_norm", "heads together"),
            one("step_001.layer_00.mlp", "step_001.layer_00.mlp", "without padding"),
            one("a\u{1b}", "logits", ""),
        ];
        assert_eq!(
            taken(&all),
            [
                "read: l_out-N is layer_N_output, 2 times",
                "read: model.layers.N.self_attn.q_norm is layer_N.self_attn.q_norm (heads together)",
                "read: step_N.layer_N.mlp (without padding)",
                "read: a\\u{1b} is logits",
            ]
        );
        assert!(taken(&[]).is_empty());
    }

    #[test]
    fn what_is_left_is_told_by_its_reason() {
        let names = (0..20).map(|layer| (format!("kq-{layer:02}"), "between two tensors".to_string()));
        let all: BTreeMap<String, String> =
            names.chain([("l_out-3".into(), "shape [1, 64]".into())]).collect();
        let lines = left(&all);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("not compared 20, between two tensors: kq-00, kq-01, "), "{}", lines[0]);
        assert!(lines[0].ends_with("kq-11, and 8 more"), "{}", lines[0]);
        assert_eq!(lines[1], "not compared 1, shape [1, 64]: l_out-3");
    }
}
