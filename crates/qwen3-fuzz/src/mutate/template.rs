//! Chat templates: known bombs, and expressions and statements made from the grammar.

use crate::hostile;
use crate::mutate::bytes;
use crate::random::Random;

/// Repeated parts, as (before, repeated, after).
const NESTED: [[&str; 3]; 14] = [
    ["{{ ", "-", "1 }}"],
    ["{{ ", "not ", "1 }}"],
    ["{{ ", "(", "1"],
    ["{{ ", "[", "1"],
    ["{{ 1", "[0]", " }}"],
    ["{{ messages", ".a", " }}"],
    ["{{ 'a'", "|upper", " }}"],
    ["{{ 1", " if 1 else 1", " }}"],
    ["{{ 1", " ** 1", " }}"],
    ["{{ 'a'", " ~ 'a'", " }}"],
    ["{{ {", "'a': {", "1 }}"],
    ["", "{% if true %}", ""],
    ["", "{% for a in [1] %}", ""],
    ["", "{% macro f() %}", ""],
];

/// What takes memory, time or stack when it is rendered.
const BOMBS: [&str; 24] = [
    "{% set ns = namespace(a='x') %}{% for i in range(64) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "{% set ns = namespace(a=[1]) %}{% for i in range(64) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a|tojson }}",
    "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a == ns.a }}",
    "{{ 'a\nb'|indent(10**10) }}",
    "{{ 'a'|center(10**10) }}",
    "{{ 'a'.ljust(10**10) }}",
    "{{ 'x' * 10**10 }}",
    "{{ [1] * 10**10 }}",
    "{{ range(10**9)|sort|length }}",
    "{{ range(99999)|map('string')|sort|join }}",
    "{{ [1, 2]|slice(2**63)|list }}",
    "{{ [1, 2]|batch(2**63)|list }}",
    "{{ [1, 2]|batch(10**9, 'x')|list }}",
    "{{ 'a'|replace('', 'x' * 100000)|replace('x', 'y' * 100000) }}",
    "{{ ('%' ~ 10**9 ~ 'd')|format(1) }}",
    "{{ 10**10**10 }}",
    "{{ 1.5|round(2**31) }}",
    "{{ (2**63)|int // -1 }}{{ 1 % 0 }}",
    "{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f(1) %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
    "{{ messages|tojson(indent=10**9) }}",
];

/// A template in the place of `good`.
pub fn mutate(random: &mut Random, good: &str) -> (Vec<u8>, String) {
    match random.below(8) {
        0..2 => {
            let [before, again, after] = *random.pick(&NESTED);
            let times = *random.pick(&[200, 5000, 50_000]);
            let template = format!("{before}{}{after}", again.repeat(times));
            (template.into(), format!("{before}{again:?} {times} times{after}"))
        }
        2 => {
            let bomb = *random.pick(&BOMBS);
            (bomb.into(), bomb.into())
        }
        3 => {
            let mut bytes = good.as_bytes().to_vec();
            let what = bytes::text(random, &mut bytes);
            (bytes, what)
        }
        4 => {
            // The good one with something bad in the middle.
            let bad = format!("{{{{ {} }}}}", expression(random, 4));
            let places: Vec<_> = good.match_indices("{%").map(|(at, _)| at).collect();
            let at = if places.is_empty() { 0 } else { *random.pick(&places) };
            let template = format!("{}{bad}{}", &good[..at], &good[at..]);
            (template.into(), format!("{bad} at {at}"))
        }
        _ => {
            let template: String = (0..1 + random.below(5)).map(|_| statement(random, 3)).collect();
            let what = template.chars().take(300).collect();
            (template.into(), what)
        }
    }
}

fn statement(random: &mut Random, depth: usize) -> String {
    let deeper = |random: &mut Random| match depth {
        0 => "x".to_string(),
        _ => statement(random, depth - 1),
    };
    let value = expression(random, 3);
    match random.below(12) {
        0..4 => format!("{{{{ {value} }}}}"),
        4 => {
            format!("{{% for a in {value} %}}{}{{% else %}}{}{{% endfor %}}", deeper(random), deeper(random))
        }
        5 => format!("{{% if {value} %}}{}{{% elif a %}}b{{% endif %}}", deeper(random)),
        6 => format!("{{% set a = {value} %}}{}", deeper(random)),
        7 => format!("{{% set a %}}{}{{% endset %}}{{{{ a }}}}", deeper(random)),
        8 => format!("{{% macro f(a={value}) %}}{}{{% endmacro %}}{{{{ f() }}}}", deeper(random)),
        9 => format!("{{% filter {} %}}{}{{% endfilter %}}", filter(random, 1), deeper(random)),
        10 => {
            let odd = [
                "{% include 'x' %}",
                "{% extends 'x' %}",
                "{% import 'x' as y %}",
                "{% block a %}{% endblock %}",
                "{% break %}",
                "{% raw %}",
                "{# ",
                "{{",
                "{%-",
                "{% generation %}a{% endgeneration %}",
                "{% set messages.a = 1 %}",
                "{% set a, b = 1 %}",
                "{% for a, b in [1] %}{% endfor %}",
                "{% for a in messages recursive %}{{ loop(messages) }}{% endfor %}",
                "{{ self.a() }}",
                "{% autoescape true %}{{ '<' }}{% endautoescape %}",
                "{{ loop.index }}",
                "{{ debug() }}",
            ];
            (*random.pick(&odd)).into()
        }
        _ => format!("{{{{ raise_exception({value}) }}}}"),
    }
}

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 || random.once_in(5) {
        return atom(random);
    }
    let a = expression(random, depth - 1);
    match random.below(9) {
        0 => {
            let operators =
                ["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or", "not in", "is"];
            format!("({a} {} {})", random.pick(&operators), expression(random, depth - 1))
        }
        1..4 => format!("{a}|{}", filter(random, depth - 1)),
        4 => format!("{a}[{}]", expression(random, depth - 1)),
        5 => format!("{a}[{}:{}:{}]", atom(random), atom(random), atom(random)),
        6 => {
            let methods = [
                "strip",
                "split",
                "rsplit",
                "replace",
                "join",
                "format",
                "zfill",
                "center",
                "items",
                "get",
                "pop",
                "startswith",
                "rstrip",
                "splitlines",
                "count",
                "find",
                "title",
                "keys",
                "nope",
                "partition",
            ];
            format!("{a}.{}({})", random.pick(&methods), arguments(random, depth - 1))
        }
        7 => {
            let tests =
                ["defined", "mapping", "string", "divisibleby(0)", "sameas(1)", "iterable", "nope", "even"];
            format!("({a} is {})", random.pick(&tests))
        }
        _ => format!("[{a}, {}]", expression(random, depth - 1)),
    }
}

fn filter(random: &mut Random, depth: usize) -> String {
    let filters = [
        "indent",
        "center",
        "replace",
        "slice",
        "batch",
        "join",
        "sort",
        "tojson",
        "round",
        "list",
        "length",
        "reverse",
        "unique",
        "groupby",
        "map",
        "select",
        "selectattr",
        "rejectattr",
        "default",
        "dictsort",
        "items",
        "int",
        "float",
        "abs",
        "first",
        "last",
        "min",
        "max",
        "sum",
        "string",
        "trim",
        "upper",
        "capitalize",
        "format",
        "truncate",
        "wordwrap",
        "urlencode",
        "escape",
        "safe",
        "nope",
        "zip",
        "chain",
    ];
    format!("{}({})", random.pick(&filters), arguments(random, depth))
}

fn arguments(random: &mut Random, depth: usize) -> String {
    let count = *random.pick(&[0, 1, 1, 2, 3]);
    let arguments: Vec<_> = (0..count).map(|_| expression(random, depth)).collect();
    arguments.join(", ")
}

fn atom(random: &mut Random) -> String {
    match random.below(6) {
        0..2 => {
            let atoms = [
                "messages",
                "messages[0]",
                "messages[0].content",
                "tools",
                "none",
                "true",
                "''",
                "[]",
                "{}",
                "a",
                "loop",
                "namespace(a=1)",
                "range(99999)",
                "'role'",
                "bos_token",
                "undefined",
                "cycler(1)",
                "dict(a=1)",
                "lipsum()",
                "strftime_now('%' ~ 'Y' * 99)",
                "joiner()",
                "f",
            ];
            (*random.pick(&atoms)).into()
        }
        2 => {
            random.pick(&["0", "1", "-1", "2**31", "2**63", "10**10", "-(2**63)", "0.1", "1e308"]).to_string()
        }
        3 => match hostile::number(random) {
            name if name.contains('N') || name.contains('I') => "1e400".into(),
            number => number,
        },
        _ => {
            let text = hostile::text(random).replace(['\'', '\\'], "");
            format!("'{text}'")
        }
    }
}
