//! Templates that would end the process, fill the memory or never end, by class.

/// Name and source of each.
pub fn templates() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    all.extend(plain().into_iter().map(|(name, source)| (name.into(), source)));
    all.extend(deep(DEEP).into_iter().map(|(name, source)| (format!("{name}, deep"), source)));
    // As deep as the limits let them be, or a little deeper.
    all.extend(deep(1000).into_iter().map(|(name, source)| (format!("{name}, less deep"), source)));
    let names: std::collections::BTreeSet<&String> = all.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), all.len(), "a name twice");
    all
}

const DEEP: usize = 20_000;

/// Each construct of the language within itself.
fn deep(depth: usize) -> Vec<(&'static str, String)> {
    let nest = |open: &str, inside: &str, close: &str| open.repeat(depth) + inside + &close.repeat(depth);
    let print = |text: String| format!("{{{{ {text} }}}}");
    let chain = |first: &str, more: &str| print(first.to_string() + &more.repeat(depth));
    vec![
        ("unary minuses", print(nest("-", "1", ""))),
        ("unary minuses apart", print(nest("- ", "x", ""))),
        ("nots", print(nest("not ", "x", ""))),
        ("parentheses", print(nest("(", "1", ")"))),
        ("parentheses left open", print(nest("(", "", ""))),
        ("lists", print(nest("[", "", "]"))),
        ("tuples", print(nest("(", "1", ",)"))),
        ("dictionaries", print(nest("{1:", "1", "}"))),
        ("subscripts within", print(nest("x[", "1", "]"))),
        ("calls within", print(nest("f(", "1", ")"))),
        ("filters within", print(nest("1|default(", "1", ")"))),
        ("keyword arguments within", print(nest("f(a=", "1", ")"))),
        ("conditions to the right", print(nest("1 if x else ", "1", ""))),
        ("conditions to the left", chain("1", " if x")),
        ("sums", chain("1", " + 1")),
        ("concatenations", chain("'a'", " ~ 'a'")),
        ("products of text", chain("'a'", " * 9")),
        ("powers", chain("1", " ** 1")),
        ("ands", chain("x", " and x")),
        ("comparisons", chain("1", " < 2")),
        ("memberships", chain("'a'", " in 'a'")),
        ("filters", chain("'a'", "|trim")),
        ("tests", chain("x", " is defined")),
        ("attributes", chain("x", ".a")),
        ("subscripts", chain("x", "[0]")),
        ("slices", chain("'a'", "[:]")),
        ("calls", chain("x", "()")),
        ("methods", chain("'a'", ".strip()")),
        ("many arguments", print(nest("f(1, ", "", ""))),
        ("a long list", print(format!("[{}]", "1,".repeat(depth)))),
        ("adjacent texts", chain("'a'", " 'a'")),
        ("ifs", nest("{% if true %}", "a", "{% endif %}")),
        ("ifs left open", nest("{% if true %}", "a", "")),
        ("elifs", format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(depth))),
        ("elses", nest("{% if x %}{% else %}", "a", "{% endif %}")),
        ("fors", nest("{% for a in [1] %}", "a", "{% endfor %}")),
        ("withs", nest("{% with %}", "a", "{% endwith %}")),
        ("generations", nest("{% generation %}", "a", "{% endgeneration %}")),
        ("set blocks", nest("{% set a %}", "a", "{% endset %}")),
        ("filter blocks", nest("{% filter trim %}", "a", "{% endfilter %}")),
        ("autoescapes", nest("{% autoescape true %}", "a", "{% endautoescape %}")),
        ("macros", nest("{% macro a() %}", "a", "{% endmacro %}")),
        ("call blocks", nest("{% call a() %}", "a", "{% endcall %}")),
        ("blocks", nest("{% block a %}", "a", "{% endblock %}")),
        ("targets", format!("{{% set {} = 1 %}}", nest("(", "a", ",)"))),
        ("comments left open", "{#".repeat(depth)),
        ("a large source", "a".repeat(2 << 20)),
        ("a tag left open", "{{ 'a".to_string() + &"a".repeat(depth)),
    ]
}

const DOUBLE: &str = "{% for i in range(60) %}{% set ns.a = DOUBLED %}{% endfor %}";

/// What a small template can ask for.
fn plain() -> Vec<(&'static str, String)> {
    let print = |text: &str| format!("{{{{ {text} }}}}");
    let doubled = |first: &str, doubled: &str, then: &str| {
        let double = DOUBLE.replace("DOUBLED", doubled);
        format!("{{% set ns = namespace(a={first}) %}}{double}{then}")
    };
    let nested = |inner: &str, then: &str| {
        let around = "{% for i in range(99999) %}{% for j in range(9) %}{% set ns.a = INNER %}{% endfor %}{% endfor %}";
        format!("{{% set ns = namespace(a=1) %}}{}{then}", around.replace("INNER", inner))
    };
    let slow = |body: &str| {
        format!(
            "{{% set s = 'a' * 8000000 %}}{{% for i in range(99999) %}}{{% for j in range(99999) %}}{body}{{% endfor %}}{{% endfor %}}"
        )
    };
    vec![
        // One step that asks for much.
        ("a text repeated", print("'x' * 10**10")),
        ("a number times a text", print("10**10 * 'x'")),
        ("texts repeated and joined", print("('x' * 10**8) ~ ('x' * 10**8) ~ ('x' * 10**8) ~ ('x' * 10**8)")),
        ("texts repeated and added", print("('x' * 10**8) + ('x' * 10**8) + ('x' * 10**8) + ('x' * 10**8)")),
        ("a list repeated", print("[0] * 10**9")),
        ("a list repeated to its length", print("([0] * 10**9)|length")),
        ("a list of lists repeated", print("[[0] * 10**8] * 10**8")),
        ("a tuple repeated", print("(1,) * 10**8")),
        ("a tuple repeated twice", print("((1,) * 9999) * 9999")),
        ("indent", print("'a\nb'|indent(10**10)")),
        ("indent by keyword", print("'a\nb'|indent(width=10**10, first=true)")),
        ("indent of many lines", print("('\n' * 8000000)|indent(1000, true, true)")),
        ("slice", print("[1]|slice(2**63)")),
        ("slice of fewer", print("[1]|slice(10**9)|list")),
        ("slice filled", print("[1]|slice(10**7, 'x')|list")),
        ("batch", print("[1]|batch(2**63)|list")),
        ("batch filled", print("[1]|batch(10**10, 'x')|list")),
        ("center", print("'a'|center(10**10)")),
        ("center as a method", print("'a'.center(10**10)")),
        ("format", print("'%1000000000d'|format(1)")),
        ("format with a star", print("'%*d'|format(10**9, 1)")),
        ("format with a precision", print("'%.1000000000f'|format(1.5)")),
        ("format as a method", print("'{:>1000000000}'.format(1)")),
        ("format of one text many times", print("('{0}' * 99999).format('x' * 8000000)")),
        ("replace nothing", print("('x' * 8000000)|replace('', 'y' * 1000)")),
        ("replace all", print("('x' * 8000000)|replace('x', 'y' * 8000000)")),
        ("replace as a method", print("('x' * 8000000).replace('x', 'y' * 8000000)")),
        ("join", print("range(99999)|join('x' * 8000000)")),
        ("join as a method", print("('x' * 8000000).join(['a'] * 999999)")),
        ("split", print("('x ' * 4000000).split()|length")),
        ("split at each", print("('x' * 8000000).split('x')|length")),
        ("the characters", print("('x' * 8000000)|list|length")),
        ("the characters sorted", print("('x' * 8000000)|sort|length")),
        ("the characters as arguments", print("dict(*('x' * 8000000))")),
        ("the characters unpacked", "{% set a, b = 'x' * 8000000 %}".into()),
        ("a list unpacked", "{% set a, b = [0] * 10**9 %}".into()),
        ("tojson indented", print("[[[[1]]]]|tojson(indent=10**9)")),
        ("tojson indented by a text", print("[[[[1, 2, 3]]]]|tojson(indent='x' * 8000000)")),
        ("tojson with separators", print("range(99999)|tojson(separators=('x' * 8000000, 'y'))")),
        ("a date", print("strftime_now('%c' * 4000000)")),
        ("a message", print("raise_exception('x' * 8000000)")),
        ("a message of lines", print("raise_exception('a\nb\rc')")),
        ("rounding", print("1.5|round(2000000000)")),
        ("a power", print("10 ** 10 ** 10")),
        ("a sum of lists", print("([[1] * 9999] * 99999)|sum(start=[])|length")),
        ("a sum of texts", print("(['x' * 999] * 99999)|sum(start='')|length")),
        ("chains", print("([1] * 999999)|chain(*([[1] * 999999] * 999))|length")),
        ("zips", print("([1] * 999999)|zip(*([[1] * 999999] * 999))|list|length")),
        ("a range", print("range(10**18)")),
        ("a range of steps", print("range(0, 10**18, 2)|list")),
        ("a range backwards", print("range(0, -2**63, -1)|sort")),
        ("ranges sorted", print("(range(99999)|list * 9999)|sort")),
        ("a negative slice", print("('x' * 8000000)[::-9223372036854775808]")),
        ("a debug print", print("debug()")),
        ("pprint", print("([[1] * 999] * 999)|pprint")),
        // A little more each time.
        ("a text doubled", doubled("'x'", "ns.a ~ ns.a", "{{ ns.a }}")),
        ("a text added", doubled("'x'", "ns.a + ns.a", "{{ ns.a|length }}")),
        ("a text formatted", doubled("'x'", "'%s%s'|format(ns.a, ns.a)", "{{ ns.a }}")),
        ("a text joined", doubled("'x'", "[ns.a, ns.a]|join", "{{ ns.a }}")),
        ("a text replaced", doubled("'x'", "'aa'|replace('a', ns.a)", "{{ ns.a }}")),
        ("a list added", doubled("[1]", "ns.a + ns.a", "{{ ns.a|length }}{{ ns.a|list|length }}")),
        ("a tuple added", doubled("(1,)", "ns.a + ns.a", "{{ ns.a|length }}")),
        ("a list chained", doubled("[1]", "ns.a|chain(ns.a)", "{{ ns.a|length }}")),
        ("a tree printed", doubled("[]", "[ns.a, ns.a]", "{{ ns.a }}")),
        ("a tree as json", doubled("[]", "[ns.a, ns.a]", "{{ ns.a|tojson }}")),
        ("a tree as text", doubled("[]", "[ns.a, ns.a]", "{{ ns.a|string }}{{ ns.a ~ '' }}")),
        ("a tree concatenated", doubled("[]", "[ns.a, ns.a]", "{{ ns.a ~ '' }}")),
        ("a tree of dictionaries", doubled("{}", "{'a': ns.a, 'b': ns.a}", "{{ ns.a }}")),
        ("trees compared", doubled("[]", "[ns.a, ns.a]", "{% set b = [ns.a] %}{{ b[0] == [ns.a[0], ns.a[1]] }}")),
        ("trees ordered", doubled("[]", "[ns.a, ns.a]", "{{ [ns.a, [ns.a[0], ns.a[1]]]|sort }}")),
        ("trees made unique", doubled("[]", "[ns.a, ns.a]", "{{ [ns.a, [ns.a[0], ns.a[1]]]|unique|list }}")),
        ("a tree as a key", doubled("[]", "[ns.a, ns.a]", "{{ {ns.a: 1} }}")),
        ("a tree as a subscript", doubled("[]", "[ns.a, ns.a]", "{{ {1: 1}[ns.a] }}")),
        ("a tree searched", doubled("[]", "[ns.a, ns.a]", "{{ 5 in [ns.a] }}{{ [ns.a[0], ns.a[1]] in [ns.a] }}")),
        ("a tree in a test", doubled("[]", "[ns.a, ns.a]", "{{ [[ns.a[0], ns.a[1]]]|select('eq', ns.a)|list }}")),
        (
            "a tree that changes",
            doubled("[]", "[ns.a, ns.a]", "{% for i in [ns.a, [ns.a[0], ns.a[1]]] %}{{ loop.changed(i) }}{% endfor %}"),
        ),
        ("a tree got", doubled("[]", "[ns.a, ns.a]", "{{ {1: 1}.get(ns.a) }}")),
        ("a tree counted", doubled("[]", "[ns.a, ns.a]", "{{ [ns.a].count([ns.a[0], ns.a[1]]) }}")),
        ("a tree as a number", doubled("[]", "[ns.a, ns.a]", "{{ ns.a|int }}")),
        ("a tree as an attribute", doubled("[]", "[ns.a, ns.a]", "{{ {1: 1}|attr(ns.a) }}")),
        ("a tree included", doubled("[]", "[ns.a, ns.a]", "{% include ns.a %}")),
        ("a tree in pprint", doubled("[]", "[ns.a, ns.a]", "{{ ns.a|pprint }}")),
        ("a tree in a message", doubled("[]", "[ns.a, ns.a]", "{{ raise_exception(ns.a) }}")),
        ("a block doubled", "{% set a = 'x' %}{% for i in range(9) %}{% endfor %}".to_string() + &"{% set a %}{{ a }}{{ a }}{% endset %}".repeat(60)),
        ("a macro doubled", "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% else %}xxxxxxxx{% endif %}{% endmacro %}{{ f(60) }}".into()),
        ("a caller doubled", "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}".to_string() + &"{% call f() %}".repeat(40) + "x" + &"{% endcall %}".repeat(40)),
        ("a filter block doubled", "{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% set a = 'x' %}".to_string() + &"{% set a = f(a) %}".repeat(60) + "{{ a }}"),
        ("raw text in a set block", format!("{{% set a %}}{{% for i in range(99999) %}}{}{{% endfor %}}{{% endset %}}", "x".repeat(9999))),
        ("raw text", format!("{{% for i in range(99999) %}}{}{{% endfor %}}", "x".repeat(9999))),
        ("a macro of raw text", format!("{{% macro f() %}}{}{{% endmacro %}}{{% for i in range(99999) %}}{{% set a = f() %}}{{% endfor %}}", "x".repeat(9999))),
        // Depth that a loop makes.
        ("lists in lists", nested("[ns.a]", "")),
        ("lists in lists printed", nested("[ns.a]", "{{ ns.a }}")),
        ("lists in lists compared", nested("[ns.a]", "{{ ns.a == [ns.a[0]] }}")),
        ("lists in lists as json", nested("[ns.a]", "{{ ns.a|tojson }}")),
        ("many lists in lists", nested(&("[".repeat(100) + "ns.a" + &"]".repeat(100)), "{{ ns.a }}")),
        ("tuples in tuples", nested("(ns.a,)", "")),
        ("dictionaries in dictionaries", nested("{'a': ns.a}", "{{ ns.a }}")),
        ("dict() in dict()", nested("dict(a=ns.a)", "{{ ns.a }}")),
        ("namespaces in namespaces", nested("namespace(a=ns.a)", "{{ ns.a }}")),
        ("slices of slices", nested("([1] if i == 0 else ns.a)[0:]", "{{ ns.a }}")),
        ("reversed lists", nested("([1] if i == 0 else ns.a)|reverse", "{{ ns.a }}")),
        ("mapped lists", nested("([1] if i == 0 else ns.a)|map('trim')", "{{ ns.a|list }}")),
        ("zipped lists", nested("([1] if i == 0 else ns.a)|zip([1])", "{{ ns.a }}")),
        ("added lists", nested("([1] if i == 0 else ns.a) + [1]", "{{ ns.a|length }}")),
        ("loops in lists", "{% set ns = namespace(a=1) %}{% for i in range(99999) %}{% for j in [ns.a] %}{% set ns.a = loop %}{% endfor %}{% endfor %}".into()),
        ("macros in lists", "{% set ns = namespace(a=1) %}{% for i in range(99999) %}{% set b = ns.a %}{% macro f() %}{{ b }}{% endmacro %}{% set ns.a = f %}{% endfor %}{{ ns.a() }}".into()),
        ("a namespace in itself", "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}".into()),
        ("a namespace in itself as json", "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ ns|tojson }}".into()),
        ("a namespace in itself compared", "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{% set m = namespace() %}{% set m.a = [m, m] %}{{ ns == m }}".into()),
        ("a namespace in itself sorted", "{% set ns = namespace() %}{% set ns.a = [ns, ns] %}{{ [ns, ns.a]|sort }}".into()),
        // What never ends.
        ("loops in loops", slow("")),
        ("comparing", slow("{% if s == s ~ '' %}{% endif %}")),
        ("comparing texts", "{% set s = 'a' * 8000000 %}{% set t = 'a' * 8000000 %}{% for i in range(99999) %}{% if s == t %}{% endif %}{% endfor %}".into()),
        ("far characters", slow("{% if s[7000000] %}{% endif %}")),
        ("searching", slow("{% if 'b' in s %}{% endif %}")),
        ("counting", slow("{% if s.count('aa') %}{% endif %}")),
        ("finding", slow("{% if s.find('b') %}{% endif %}")),
        ("upper case", slow("{% if s|upper %}{% endif %}")),
        ("numbers", slow("{% if s|int %}{% endif %}")),
        ("ranges searched", slow("{% if 'x' in range(99999) %}{% endif %}")),
        ("sorting", "{% set a = range(99999)|list %}{% for i in range(99999) %}{% if a|sort(reverse=true) %}{% endif %}{% endfor %}".into()),
        ("grouping", "{% set a = range(99999)|list %}{% for i in range(99999) %}{% if a|map('string')|unique|list %}{% endif %}{% endfor %}".into()),
        ("macro recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into()),
        ("macro recursion of two", "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}".into()),
        ("caller recursion", "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{% call f() %}{% endcall %}".into()),
        ("block recursion", "{% block a %}{{ self.a() }}{% endblock %}".into()),
        ("loop recursion", "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}".into()),
        ("loop recursion twice", "{% for a in [1, 2] recursive %}{{ loop([1, 2]) }}{% endfor %}".into()),
        ("include of itself", "{% include 'default' %}".into()),
        ("include by another name", "{% include ['chat template', 'default', 'chat_template.jinja'] %}".into()),
        ("import of itself", "{% import 'default' as a %}{{ a }}".into()),
        ("from import of itself", "{% from 'chat template' import a %}{{ a }}".into()),
        ("extends itself", "{% extends 'chat template' %}".into()),
    ]
}
