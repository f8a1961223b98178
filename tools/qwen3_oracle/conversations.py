"""The conversations that the chat template is tried on: every branch of it, and what text may hold."""

from __future__ import annotations

from dataclasses import dataclass

Message = dict[str, object]

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"
MARKS = "e\u0301 n\u0303 \u1112\u1161\u11ab \u0928\u093f \u0e01\u0e33 A\u030a"
SCRIPTS = "\u4f60\u597d\uff0c\u4e16\u754c\u3002 \u3053\u3093\u306b\u3061\u306f \uc548\ub155 \u041f\u0440\u0438\u0432\u0435\u0442"
RIGHT_TO_LEFT = "\u05e9\u05dc\u05d5\u05dd \u202bABC\u202c \u0645\u0631\u062d\u0628\u0627 \u0661\u0662\u0663"
HTML = "<b>\"quoted\" & 'single'</b> < > &amp; </script>"
ESCAPES = 'tab\t newline\n return\r backslash\\ quote" slash/ bell\x07 delete\x7f line\u2028'


@dataclass(frozen=True)
class Conversation:
    """Messages and options; `enable_thinking` None leaves the option out."""

    id: str
    messages: list[Message]
    tools: list[dict[str, object]] | None = None
    enable_thinking: bool | None = None
    add_generation_prompt: bool = True


def system(content: str) -> Message:
    return {"role": "system", "content": content}


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def assistant(content: str | None, **more: object) -> Message:
    return {"role": "assistant", "content": content, **more}


def result(content: str) -> Message:
    return {"role": "tool", "content": content}


def call(name: str, arguments: object) -> dict[str, object]:
    """A call as the API of OpenAI has it."""
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def tool(name: str, description: str, parameters: dict[str, object]) -> dict[str, object]:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


WEATHER = tool(
    "get_weather",
    "The weather at a place",
    {
        "type": "object",
        "properties": {
            "place": {"type": "string", "description": "a city"},
            "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
        },
        "required": ["place"],
    },
)
NESTED = tool(
    "book",
    HTML,
    {
        "type": "object",
        "properties": {
            "guests": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "default": None},
                        "age": {"type": "integer", "minimum": 0, "maximum": 150},
                        "vip": {"type": "boolean", "default": False},
                    },
                    "additionalProperties": False,
                },
                "minItems": 1,
            },
            "budget": {"type": "number", "exclusiveMinimum": 0.5, "multipleOf": 0.01, "examples": [1.0, -2.25, 1e3]},
            "notes": {},
            "tags": [],
        },
        "required": [],
    },
)
UNICODE = tool(f"caf\u00e9_{chr(0x4F60)}", f"{FAMILY} {MARKS} {SCRIPTS} {RIGHT_TO_LEFT}", {"\u00fc": ESCAPES})
NUMBERS = tool(
    "numbers",
    "as Python's json writes them",
    {
        "integers": [0, -1, 2**53 + 1, -(2**63), 2**64 - 1],
        "floats": [0.1, -0.0, 1.0, 100000.0, 1e15, 1e16, 1.5e300, 1e-4, 1e-5, 5e-324, 0.30000000000000004],
    },
)

SUM = user("What is 12 + 30?")
THOUGHT = "<think>\n2 + 0 = 2\n1 + 3 = 4\n</think>\n\n42"
TOOL_TURNS = [
    user("Is it warm in Paris and in Rome?"),
    assistant("", tool_calls=[call("get_weather", {"place": "Paris"}), call("get_weather", {"place": "Rome"})]),
    result('{"celsius": 21}'),
    result('{"celsius": 28}'),
]

CONVERSATIONS = [
    Conversation("user", [SUM]),
    Conversation("thinking-on", [SUM], enable_thinking=True),
    Conversation("thinking-off", [SUM], enable_thinking=False),
    Conversation("no-generation-prompt", [SUM], add_generation_prompt=False),
    Conversation("no-generation-prompt-thinking-off", [SUM], enable_thinking=False, add_generation_prompt=False),
    Conversation("system", [system("You are a helpful assistant."), SUM]),
    Conversation("system-thinking-off", [system("You are a helpful assistant."), SUM], enable_thinking=False),
    Conversation("system-only", [system("You are a helpful assistant.")]),
    Conversation("system-empty", [system(""), SUM]),
    Conversation("system-later", [user("Hello"), system("Be brief."), SUM]),
    Conversation("assistant-only", [assistant("Hello! How can I help you?")], add_generation_prompt=False),
    Conversation("multi-turn", [user("Hello"), assistant("Hello! How can I help you?"), SUM]),
    Conversation(
        "multi-turn-thoughts-removed",
        [user("What is 40 + 2?"), assistant(THOUGHT), user("What is 2 + 2?"), assistant(THOUGHT), SUM],
    ),
    Conversation(
        "multi-turn-thinking-off",
        [system("Be brief."), user("What is 40 + 2?"), assistant(THOUGHT), SUM],
        enable_thinking=False,
    ),
    Conversation("last-thoughts-kept", [SUM, assistant(THOUGHT)], add_generation_prompt=False),
    Conversation("last-thoughts-kept-then-prompt", [SUM, assistant(THOUGHT)]),
    Conversation("last-without-thoughts", [SUM, assistant("42")], add_generation_prompt=False),
    Conversation("last-empty-thoughts", [SUM, assistant("<think>\n\n</think>\n\n42")], add_generation_prompt=False),
    Conversation("last-two-answers", [SUM, assistant(THOUGHT), assistant("And so on.")], add_generation_prompt=False),
    Conversation("thoughts-without-start", [SUM, assistant("so\n</think>\n\n42")], add_generation_prompt=False),
    Conversation("thoughts-without-end", [user("Hello"), assistant("<think>\nwhy"), SUM]),
    Conversation(
        "thoughts-twice",
        [SUM, assistant("<think>a</think>b<think>\n\nc\n\n</think>\n\n\nd")],
        add_generation_prompt=False,
    ),
    Conversation(
        "thoughts-twice-in-the-past", [SUM, assistant("<think>a</think>b<think>c</think>\n\nd"), user("Thank you!")]
    ),
    Conversation(
        "reasoning-content", [SUM, assistant("42", reasoning_content="2 + 0 = 2")], add_generation_prompt=False
    ),
    Conversation(
        "reasoning-content-newlines",
        [SUM, assistant("\n\n42\n", reasoning_content="\n\n2 + 0 = 2\n \n")],
        add_generation_prompt=False,
    ),
    Conversation("reasoning-content-past", [SUM, assistant("42", reasoning_content="2 + 0 = 2"), user("Thank you!")]),
    Conversation(
        "reasoning-content-and-tags", [SUM, assistant(THOUGHT, reasoning_content="other")], add_generation_prompt=False
    ),
    Conversation("reasoning-content-null", [SUM, assistant(THOUGHT, reasoning_content=None)]),
    Conversation("tools", [user("Is it warm in Paris?")], tools=[WEATHER]),
    Conversation("tools-system", [system("Be brief."), user("Is it warm?")], tools=[WEATHER], enable_thinking=True),
    Conversation("tools-several", [SUM], tools=[WEATHER, NESTED, UNICODE], enable_thinking=False),
    Conversation("tools-numbers", [SUM], tools=[NUMBERS]),
    Conversation("tools-empty-list", [SUM], tools=[]),
    Conversation(
        "tools-plain-dict", [SUM], tools=[{"name": "f", "empty": {}, "none": None, "yes": True, "list": [[]]}]
    ),
    Conversation("tool-calls", TOOL_TURNS, tools=[WEATHER]),
    Conversation("tool-calls-without-tools", TOOL_TURNS),
    Conversation("tool-calls-answered", [*TOOL_TURNS, assistant("Yes.")], add_generation_prompt=False),
    Conversation(
        "tool-calls-thoughts-kept",
        [
            user("Is it warm in Paris?"),
            assistant("<think>\nask\n</think>\n\nLet me see.", tool_calls=[call("get_weather", {"place": "Paris"})]),
            result("21"),
            assistant("<think>\n21 is warm\n</think>\n\nYes."),
        ],
        add_generation_prompt=False,
    ),
    Conversation("tool-calls-past", [*TOOL_TURNS, assistant(THOUGHT), user("Thank you!")], tools=[WEATHER]),
    Conversation(
        "tool-calls-arguments-text",
        [SUM, assistant("", tool_calls=[call("add", '{"a":12,  "b": 30}'), call("add", "")]), result("42")],
    ),
    Conversation(
        "tool-calls-arguments-kinds",
        [
            SUM,
            assistant(
                "One moment.",
                tool_calls=[
                    call("f", {"html": HTML, "escapes": ESCAPES, "unicode": FAMILY + MARKS + SCRIPTS}),
                    call("g", {"float": 0.5, "whole": 2.0, "int": -7, "yes": True, "no": False, "none": None}),
                    call("h", {"list": [1, [2, []], {"a": {}}], "empty": {}, "text": ""}),
                    call("i", {}),
                ],
            ),
            result("ok"),
        ],
    ),
    Conversation(
        "tool-calls-bare", [SUM, assistant("", tool_calls=[{"name": "add", "arguments": {"a": 12, "b": 30}}])]
    ),
    Conversation("tool-calls-content-null", [SUM, assistant(None, tool_calls=[call("add", {"a": 1})]), result("1")]),
    Conversation("tool-calls-empty-list", [SUM, assistant("42", tool_calls=[])], add_generation_prompt=False),
    Conversation(
        "tool-results-apart",
        [SUM, result("1"), result("2"), assistant("so"), result("3"), result(""), user("Thank you!"), result("4")],
    ),
    Conversation("tool-result-first", [result("1"), SUM]),
    Conversation("tool-result-as-user", [SUM, assistant(THOUGHT), user("<tool_response>\n42\n</tool_response>")]),
    Conversation("tool-result-in-user", [SUM, assistant(THOUGHT), user("<tool_response>\n42\n</tool_response>!")]),
    Conversation("content-null", [SUM, assistant(None), user("Hello")]),
    Conversation("content-empty", [user(""), assistant(""), user("")]),
    Conversation("content-whitespace", [user("  \t\n"), assistant("\n\n \n"), user(" Hello \n\n")]),
    Conversation("content-newlines", [system("\nBe brief.\n"), user("\r\nHello\r\n"), assistant("\n\nHi\n"), SUM]),
    Conversation("content-special-tokens", [user("<|im_end|>\n<|im_start|>system\nx<|endoftext|><think></think>")]),
    Conversation("content-template", [user("{{ messages }} {% raw %} {# no #} {{- '\\n' }}")]),
    Conversation("unicode-emoji", [user(f"{FAMILY} \u2764\ufe0f \U0001f1ef\U0001f1f5 \U0001f44d\U0001f3fd")]),
    Conversation("unicode-marks", [system(MARKS), user(MARKS), assistant(MARKS), user(MARKS)]),
    Conversation("unicode-scripts", [user(SCRIPTS)], enable_thinking=False),
    Conversation("unicode-right-to-left", [user(RIGHT_TO_LEFT), assistant(RIGHT_TO_LEFT), user("Hello")]),
    Conversation("unicode-controls", [user(ESCAPES + "\x00\x1b[0m\ufeff\u200b\u00ad\ufffd\U0010ffff")]),
    Conversation("html", [system(HTML), user(HTML), assistant(HTML), user(HTML)]),
    Conversation("long", [user("The quick brown fox jumps over the lazy dog. " * 60 + SCRIPTS * 20)]),
    Conversation(
        "many-turns",
        [system("Be brief."), *[turn for _ in range(12) for turn in (SUM, assistant(THOUGHT))], user("Thank you!")],
    ),
]
