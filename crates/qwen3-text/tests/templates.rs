//! What Transformers 5.23 makes of templates that no fixture has: each line was rendered by its
//! `apply_chat_template` with the same messages and variables.

use qwen3_text::{ChatTemplate, Conversation, RenderOptions, TextError, parse_json};

const MESSAGES: &str = r#"[{"role": "user", "content": "hi <think>\nx\n</think>\n\ny"}, {"role": "assistant", "content": "yo", "reasoning": "r"}, {"role": "user", "content": null}]"#;
const VARIABLES: &str = r#"{"x": 3, "f": 1e-05, "big": 12345678901234567890123, "d": {"a": 1, "b": {"c": [1, 2.5, null, true]}, "z": "é<&>'\""}, "l": [1, "two", 3.0, null], "s": "  hello world  ", "e": {"items": 5, "keys": 6}}"#;

fn rendered(source: &str) -> Result<String, TextError> {
    let variables = parse_json(VARIABLES).unwrap();
    let names = variables.try_iter().unwrap();
    let options = RenderOptions {
        add_generation_prompt: true,
        variables: names.map(|name| (name.to_string(), variables.get_item(&name).unwrap())).collect(),
        ..RenderOptions::default()
    };
    let conversation = Conversation::from_json(MESSAGES, "messages").unwrap();
    ChatTemplate::parse(source)?.render_conversation(&conversation, &options)
}

#[test]
fn templates_print_what_they_print_in_python() {
    for (source, expected) in PRINTED {
        assert_eq!(rendered(source).unwrap(), *expected, "{source}");
    }
}

#[test]
fn templates_fail_where_they_fail_in_python() {
    for source in REFUSED {
        assert!(rendered(source).is_err(), "{source}");
    }
}

const PRINTED: &[(&str, &str)] = &[
    (
        "{{ x }}|{{ none }}|{{ true }}|{{ f }}|{{ big }}|{{ 1e16 }}|{{ 1.0 }}|{{ 7 // 2 }}|{{ 7 / 2 }}|{{ 2 ** 10 }}|{{ -7 % 3 }}",
        "3|None|True|1e-05|12345678901234567890123|1e+16|1.0|3|3.5|1024|2",
    ),
    (
        "{{ d }}|{{ l }}|{{ s }}|{{ [1, 'a', none, 1.5] }}|{{ {'a': 1} }}|{{ (1,) }}|{{ (1, 2) }}",
        "{'a': 1, 'b': {'c': [1, 2.5, None, True]}, 'z': 'é<&>\\'\"'}|[1, 'two', 3.0, None]|  hello world  |[1, 'a', None, 1.5]|{'a': 1}|(1,)|(1, 2)",
    ),
    (
        "{{ undefined_thing }}|{{ d.nope }}|{% if nope %}y{% else %}n{% endif %}|{% for a in nope %}{% else %}empty{% endfor %}",
        "||n|empty",
    ),
    ("{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ nope ~ [1] }}", "a1NoneTrue1.5[1]"),
    (
        "{{ 'abc'[::-1] }}|{{ 'abc'[1:] }}|{{ 'abc'[-1] }}|{{ l[::-1] }}|{{ l[1:] }}|{{ l[:-1] }}|{{ l[-1] }}|{{ l[::2] }}",
        "cba|bc|c|[None, 3.0, 'two', 1]|['two', 3.0, None]|[1, 'two', 3.0]|None|[1, 3.0]",
    ),
    ("{{ l[10] }}|{{ l[-10] }}|{{ 'abc'[10] }}|", "|||"),
    (
        "{{ messages[0]['role'] }}|{{ messages[-1].role }}|{{ messages|length }}|{{ messages|map(attribute='role')|list }}|{{ messages|map(attribute='role')|join(',') }}",
        "user|user|3|['user', 'assistant', 'user']|user,assistant,user",
    ),
    (
        "{{ messages|selectattr('role','equalto','user')|list|length }}|{{ messages|rejectattr('role','equalto','user')|map(attribute='content')|join('/') }}",
        "2|yo",
    ),
    (
        "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.previtem.role if loop.previtem }}{{ loop.nextitem.role if loop.nextitem is defined }}{{ loop.cycle('a','b') }};{% endfor %}",
        "10TrueFalse33assistanta;21FalseFalse32useruserb;32FalseTrue31assistanta;",
    ),
    (
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% if loop.last %}!{% endif %}{% endfor %}",
        "hi <think>\nx\n</think>\n\ny!",
    ),
    (
        "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for k in d %}{{ k }}{% endfor %}|{{ d.keys()|list }}|{{ d.values()|list }}|{{ d.get('a') }}|{{ d.get('q') }}|{{ d.get('q', 5) }}",
        "a=1;b={'c': [1, 2.5, None, True]};z=é<&>'\";|abz|['a', 'b', 'z']|[1, {'c': [1, 2.5, None, True]}, 'é<&>\\'\"']|1|None|5",
    ),
    (
        "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}|{{ d|dictsort }}|{{ d|length }}",
        "a=1;b={'c': [1, 2.5, None, True]};z=é<&>'\";|[('a', 1), ('b', {'c': [1, 2.5, None, True]}), ('z', 'é<&>\\'\"')]|3",
    ),
    (
        "{% set ns = namespace(a=1, b='x') %}{% for i in range(5) %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}",
        "11x",
    ),
    (
        "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i == 6 %}{% break %}{% endif %}{{ i }}{% endfor %}",
        "01245",
    ),
    (
        "{% macro f(x, y='z') %}[{{ x }}{{ y }}]{% endmacro %}{{ f(1) }}{{ f(1, 2) }}{{ f(x=3, y='') }}",
        "[1z][12][3]",
    ),
    ("{% macro f(x) %}{{ x }}{{ caller() }}{% endmacro %}{% call f(1) %}body{% endcall %}", "1body"),
    ("{% set x %}captured {{ s }}{% endset %}{{ x|upper }}", "CAPTURED   HELLO WORLD  "),
    ("{%- generation %} a {{ s }} {%- endgeneration -%}  z", " a   hello world  z"),
    ("{% generation %}\n  a\n{% endgeneration %}\nb", "  a\nb"),
    ("{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}{{ q }}|", "1|"),
    ("  {% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),
    ("{%- if true -%}   x   {%- endif -%}   y", "xy"),
    ("{# comment #}\nz{# c #} w", "z w"),
    ("  {# c #}\nz", "z"),
    ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
    (
        "{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}|{{ s.strip('h ') }}|{{ s.split() }}|{{ s.split('l') }}|{{ s.split('l', 1) }}|{{ s.split('l')[-1] }}|{{ s.rsplit('l', 1) }}|{{ s.split(maxsplit=1) }}",
        "hello world|hello world  |  hello world|ello world|['hello', 'world']|['  he', '', 'o wor', 'd  ']|['  he', 'lo world  ']|d  |['  hello wor', 'd  ']|['hello', 'world  ']",
    ),
    (
        "{{ s.upper() }}{{ s.lower() }}{{ s.title() }}{{ s.capitalize() }}{{ s.replace('l', 'L') }}{{ s.replace('l', 'L', 1) }}{{ s.startswith('  h') }}{{ s.endswith(('x', '  ')) }}{{ s.find('l') }}{{ s.count('l') }}{{ s.index('l') }}",
        "  HELLO WORLD    hello world    Hello World    hello world    heLLo worLd    heLlo world  TrueTrue434",
    ),
    (
        "{{ 'a\\nb\\r\\nc'.splitlines() }}|{{ 'a.b.c'.partition('.') }}|{{ 'a.b.c'.rpartition('.') }}|{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removesuffix('c') }}",
        "['a', 'b', 'c']|('a', '.', 'b.c')|('a.b', '.', 'c')|bc|ab",
    ),
    (
        "{{ 'a' in 'abc' }}{{ 'a' in d }}{{ 1 in l }}{{ 'q' not in d }}{{ not true }}{{ 1 == 1.0 }}{{ 1 == true }}{{ 'a' < 'b' }}{{ [1] == [1] }}{{ none == none }}{{ 1 < 2 < 3 }}",
        "TrueTrueTrueTrueFalseTrueTrueTrueTrueTrueTrue",
    ),
    (
        "{{ d|tojson }}|{{ l|tojson }}|{{ s|tojson }}|{{ f|tojson }}|{{ none|tojson }}|{{ true|tojson }}|{{ big|tojson }}|{{ '<&>'|tojson }}|{{ 1e16|tojson }}|{{ 'é'|tojson }}|{{ 'é😀'|tojson(true) }}|{{ 'é'|tojson(ensure_ascii=true) }}",
        "{\"a\": 1, \"b\": {\"c\": [1, 2.5, null, true]}, \"z\": \"é<&>'\\\"\"}|[1, \"two\", 3.0, null]|\"  hello world  \"|1e-05|null|true|12345678901234567890123|\"<&>\"|1e+16|\"é\"|\"\\u00e9\\ud83d\\ude00\"|\"\\u00e9\"",
    ),
    (
        "{{ d|tojson(indent=2) }}|{{ d|tojson(indent=0) }}|{{ {}|tojson(indent=2) }}|{{ []|tojson(indent=2) }}|{{ d|tojson(indent='\\t') }}",
        "{\n  \"a\": 1,\n  \"b\": {\n    \"c\": [\n      1,\n      2.5,\n      null,\n      true\n    ]\n  },\n  \"z\": \"é<&>'\\\"\"\n}|{\n\"a\": 1,\n\"b\": {\n\"c\": [\n1,\n2.5,\nnull,\ntrue\n]\n},\n\"z\": \"é<&>'\\\"\"\n}|{}|[]|{\n\t\"a\": 1,\n\t\"b\": {\n\t\t\"c\": [\n\t\t\t1,\n\t\t\t2.5,\n\t\t\tnull,\n\t\t\ttrue\n\t\t]\n\t},\n\t\"z\": \"é<&>'\\\"\"\n}",
    ),
    (
        "{{ d|tojson(separators=(',', ':')) }}|{{ d|tojson(indent=4, separators=(',', ':')) }}|{{ d|tojson(sort_keys=true) }}|{{ d|tojson(false, 2) }}",
        "{\"a\":1,\"b\":{\"c\":[1,2.5,null,true]},\"z\":\"é<&>'\\\"\"}|{\n    \"a\":1,\n    \"b\":{\n        \"c\":[\n            1,\n            2.5,\n            null,\n            true\n        ]\n    },\n    \"z\":\"é<&>'\\\"\"\n}|{\"a\": 1, \"b\": {\"c\": [1, 2.5, null, true]}, \"z\": \"é<&>'\\\"\"}|{\n  \"a\": 1,\n  \"b\": {\n    \"c\": [\n      1,\n      2.5,\n      null,\n      true\n    ]\n  },\n  \"z\": \"é<&>'\\\"\"\n}",
    ),
    (
        "{{ {'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true) }}",
        "{\"a\": {\"c\": 2, \"d\": 1}, \"b\": 1}",
    ),
    (
        "{{ (1, 2)|tojson }}|{{ l[1:]|tojson }}|{{ (l + [1])|tojson }}|{{ range(3)|list|tojson }}",
        "[1, 2]|[\"two\", 3.0, null]|[1, \"two\", 3.0, null, 1]|[0, 1, 2]",
    ),
    (
        "{{ s|trim }}|{{ s|upper }}|{{ s|lower }}|{{ s|length }}|{{ s|replace('l','x') }}|{{ s|default('q') }}|{{ nope|default('q') }}|{{ ''|default('q', true) }}|{{ l|first }}|{{ l|last }}|{{ l|join('-') }}|{{ l|reverse|list }}|{{ 'abc'|reverse }}|{{ l|sum if false else '' }}|{{ '3'|int + 1 }}|{{ '3.5'|float }}|{{ 3.7|int }}|{{ 3.14159|round(2) }}|{{ 5|string + 'x' }}|{{ 'a b'|title }}|{{ 'abc'|capitalize }}|{{ l|list }}|{{ 'abc'|list }}|{{ -3|abs }}|{{ [3,1,2]|sort }}|{{ [3,1,2]|max }}|{{ [1,1,2]|unique|list }}|{{ 'x'|e }}",
        "hello world|  HELLO WORLD  |  hello world  |15|  hexxo worxd  |  hello world  |q|q|1|None|1-two-3.0-None|[None, 3.0, 'two', 1]|cba||4|3.5|3|3.14|5x|A B|Abc|[1, 'two', 3.0, None]|['a', 'b', 'c']|3|[1, 2, 3]|3|[1, 2]|x",
    ),
    (
        "{{ l|map('string')|list }}|{{ ['a']|map('upper')|list }}|{{ [{'a': 1}, {'a': 2}]|map(attribute='a')|list }}|{{ [1,2,3]|select('odd')|list }}|{{ [1,2,3]|reject('odd')|list }}|{{ [1,2,3,4]|batch(2)|list }}|{{ [{'a': 1, 'b': 2}]|groupby('a')|list|length }}",
        "['1', 'two', '3.0', 'None']|['A']|[1, 2]|[1, 3]|[2]|[[1, 2], [3, 4]]|1",
    ),
    (
        "{{ 'yes' if true else 'no' }}|{{ 'yes' if false }}|{{ (1 if s else 2) }}|{{ nope or 'dflt' }}|{{ s and 1 }}|{{ 0 or none }}",
        "yes||1|dflt|1|None",
    ),
    (
        "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = [1, 2] + [3] %}{{ c }}|{{ c|length }}|{{ [1] * 3 }}|{{ 'ab' * 2 }}",
        "12[1, 2, 3]|3|[1, 1, 1]|abab",
    ),
    ("{% filter upper %}abc{% endfilter %}|{% with a = 1 %}{{ a }}{% endwith %}|{{ a }}", "ABC|1|"),
    (
        "{% if messages[0].content is string and messages[0].content.startswith('h') %}A{% elif false %}B{% else %}C{% endif %}",
        "A",
    ),
    ("{{ messages[0].content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') }}", "x"),
    (
        "{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{% endfor %}{{ x }}",
        "22",
    ),
    ("{{ \"a\\tb\\\\d\\x41\\u00e9\\'\\\"\" }}|{{ 'it''s' }}", "a\tb\\dAé'\"|its"),
    ("{{ \"\\d\\w\" }}", "\\d\\w"),
    (
        "{{ 1_000 }}|{{ 0x1f }}|{{ 1.5e3 }}|{{ 10 ** 20 }}|{{ 2 ** -1 }}|{{ 10 // 3.0 }}",
        "1000|31|1500.0|100000000000000000000|0.5|3.0",
    ),
    (
        "{% for i in [1,2,3] recursive %}{{ i }}{% endfor %}|{% for a, b in [[1,2],[3,4]] %}{{ a }}{{ b }}{% endfor %}",
        "123|1234",
    ),
    ("{{ loop }}", ""),
    (
        "{{ [0.1 + 0.2, 1/3, 1e-7, 123456789012345678] }}|{{ 0.1 + 0.2 }}|{{ 3 * 0.5 }}|{{ 1e100 }}|{{ 100000 * 100000 }}|{{ 99999999999 * 99999999999 }}",
        "[0.30000000000000004, 0.3333333333333333, 1e-07, 123456789012345678]|0.30000000000000004|1.5|1e+100|10000000000|9999999999800000000001",
    ),
    (
        "{{ {'a': [1, {'b': \"it's\"}], 'c': 'x\"y'} }}|{{ ['\\n', '\\\\', 'é', '\\x00'] }}",
        "{'a': [1, {'b': \"it's\"}], 'c': 'x\"y'}|['\\n', '\\\\', 'é', '\\x00']",
    ),
    (
        "{{ messages }}",
        "[{'role': 'user', 'content': 'hi <think>\\nx\\n</think>\\n\\ny'}, {'thinking': 'r', 'role': 'assistant', 'content': 'yo', 'reasoning': 'r', 'reasoning_content': 'r'}, {'role': 'user'}]",
    ),
    (
        "{% set ns = namespace() %}{% set ns.x = [] %}{% set ns.x = ns.x + [1] %}{% set ns.x = ns.x + [2] %}{{ ns.x }}{{ ns.x|length }}{{ ns.nope }}",
        "[1, 2]2",
    ),
    (
        "{%- for m in messages -%}\n    {%- if m.role == 'user' -%}\n        U: {{ m.content }}\n    {%- else -%}\n        O\n    {%- endif -%}\n{%- endfor -%}",
        "U: hi <think>\nx\n</think>\n\nyOU: ",
    ),
    ("{{ e['items'] }}|{{ e.get('items') }}|{% for k in e.keys() %}{{ k }}{% endfor %}", "5|5|itemskeys"),
    (
        "{{ [1,2,3][1:2] + [4] }}|{{ (1,2) + (3,) }}|{{ l is sameas l }}|{{ [[]]|list }}|{{ [none]|first }}|{{ []|first }}|",
        "[2, 4]|(1, 2, 3)|True|[[]]|None||",
    ),
    (
        "{{ x if x is not none else 'n' }}|{{ x is not string }}|{{ messages[0].role != 'user' }}|{{ 'é'|length }}|{{ '😀'|length }}|{{ '😀a'[1] }}",
        "3|True|False|1|1|a",
    ),
    ("", ""),
    ("a\r\nb\rc\n", "a\nb\nc"),
    ("a\n", "a"),
    ("a\n\n", "a\n"),
    ("{% if true %}\r\nx\r\n{% endif %}\r\n", "x\n"),
    ("", ""),
    ("\n", ""),
    ("{{ 'a\r\nb' }}", "a\nb"),
    ("{% if true %}\n\n a{% endif %}\n \n", "\n a "),
    ("{{ messages[2] }}|{{ messages[2].content is defined }}", "{'role': 'user'}|False"),
    (
        "{{ messages[1] }}|{{ messages[1].reasoning_content }}{{ messages[1].thinking }}",
        "{'thinking': 'r', 'role': 'assistant', 'content': 'yo', 'reasoning': 'r', 'reasoning_content': 'r'}|rr",
    ),
];

const REFUSED: &[&str] = &[
    "{{ nope.attr }}",
    "{{ d.nope.attr }}",
    "{{ 'a' + 1 }}",
    "{{ 'a' + nope }}",
    "{{ nope|tojson }}",
    "{{ raise_exception('no ' ~ s) }}",
    "{% include 'x' %}",
    "{{ s.nope() }}",
    "{{ l.append(1) }}",
    "{% do l.append(1) %}",
    "{% if a %}b",
    "{{ a",
    "{% endfor %}",
    "{{ s|nofilter }}",
    "{% nosuchtag %}",
    "a{{ '' }}\nb{%- if true %}\n\nc\n\n{%+ if true %}\n  d\n  {%+ endif %}\n{{ '\\n' }}x",
];
