//! A template's source as the engine takes it.

/// Jinja2 reads every line end as `\n`. And Transformers' `{% generation %}` blocks, which mark what
/// the assistant said for a training mask, become `{% with %}` blocks, which print the same and keep
/// their variables to themselves as well. Lines and white space stay as they are.
pub(crate) fn prepare(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = next_tag(rest) {
        let (text, tag) = rest.split_at(at);
        out.push_str(text);
        let length = match &tag[..2] {
            "{#" => tag.find("#}").map_or(tag.len(), |end| end + 2),
            "{{" => tag_length(tag, "}}"),
            _ => tag_length(tag, "%}"),
        };
        let (tag, after) = tag.split_at(length);
        rest = after;
        match statement(tag) {
            Some((at, "generation")) => replace_word(&mut out, tag, at, "generation", "with"),
            Some((at, "endgeneration")) => replace_word(&mut out, tag, at, "endgeneration", "endwith"),
            Some((_, "raw")) => {
                let length = raw_length(rest);
                out.push_str(tag);
                out.push_str(&rest[..length]);
                rest = &rest[length..];
            }
            _ => out.push_str(tag),
        }
    }
    out.push_str(rest);
    out
}

fn next_tag(text: &str) -> Option<usize> {
    let mut pairs = text.as_bytes().windows(2);
    pairs.position(|pair| pair[0] == b'{' && matches!(pair[1], b'%' | b'{' | b'#'))
}

fn replace_word(out: &mut String, tag: &str, at: usize, word: &str, with: &str) {
    out.push_str(&tag[..at]);
    out.push_str(with);
    out.push_str(&tag[at + word.len()..]);
}

/// Bytes up to the end of a tag that starts here: `end` inside a string literal does not count.
fn tag_length(tag: &str, end: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in tag.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '"' || character == '\'' => quote = Some(character),
            None if tag[at..].starts_with(end) => return at + end.len(),
            None => {}
        }
    }
    tag.len()
}

/// Where a `{% .. %}` tag's name is, and the name.
fn statement(tag: &str) -> Option<(usize, &str)> {
    let inside = tag.strip_prefix("{%")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let inside = inside.trim_start();
    let length = inside.find(|c: char| !c.is_alphanumeric() && c != '_');
    let name = &inside[..length.unwrap_or(inside.len())];
    Some((tag.len() - inside.len(), name))
}

/// Bytes before the `{% endraw %}` that closes a raw block.
fn raw_length(text: &str) -> usize {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        if let Some((_, "endraw")) = statement(&text[from + at..]) {
            return from + at;
        }
        from += at + 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn only_generation_tags_change() {
        let same = [
            "plain {{ '{% generation %}' }} {# {% generation %} #}",
            "{% raw %}{% generation %}{%- endraw %}",
            "{% set generation = \"%}{% generation %}\" %}",
            "{% if x %}",
            "{% ",
            "{{ 'open",
            "{#",
            "{",
            "",
        ];
        for source in same {
            assert_eq!(prepare(source), source);
        }
        assert_eq!(
            prepare("a{%- generation -%}\r\n{{ x }}\r{%endgeneration%}b"),
            "a{%- with -%}\n{{ x }}\n{%endwith%}b"
        );
    }
}
