from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import TemplateError
from models.llm.chat.chat_template import CHATML, ChatTemplate
from models.llm.chat.messages import ChatMessage
from models.llm.chat.prompt import Segment
from tests.models.llm.chat.template_helpers import (
    FORGED,
    THOUGHT,
    assistant,
    contents,
    real_template,
    real_templates,
    scaffold,
    system,
    template_of,
    text,
    user,
)


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        pytest.param(
            CHATML,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
            id="ChatML",
        ),
        pytest.param(
            "{{ bos_token }}{% for m in messages %}\n  {% if m['role'] == 'user' %}\n"
            "[INST] {{ m['content'] }} [/INST]\n"
            "  {% else %}\n{{ m['content'] }}{{ eos_token }}\n  {% endif %}\n{% endfor %}",
            "<s>Be brief.</s>\n[INST] Hi [/INST]\n",
            id="blocks and their indentation leave no trace",
        ),
        pytest.param(
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.content }};"
            "{% if loop.last %}{% break %}{% endif %}{% endfor %}",
            "1Be brief.;2Hi;",
            id="namespaces and loop controls",
        ),
        pytest.param("{% generation %}{{ messages[1].content }}{% endgeneration %}", "Hi", id="marks for training"),
        pytest.param("{{ messages | tojson }}", '[{"role": "system", "content": "Be brief."},', id="tojson"),
        pytest.param("{% if tools %}tools{% elif tools is none %}none{% endif %}", "none", id="no tools"),
        pytest.param("{{ messages[0].tool_calls is defined }}", "False", id="absent fields"),
        pytest.param("{{ strftime_now('%%') }}", "%", id="the date"),
        pytest.param("{{ {'b': 'é', 'a': 1} | tojson }}", '{"b": "é", "a": 1}', id="tojson keeps order and letters"),
        pytest.param(
            "{{ ['é'] | tojson(ensure_ascii=True, indent=1) }}", '[\n "\\u00e9"\n]', id="tojson with its arguments"
        ),
        pytest.param(
            "{{ {'b': 1, 'a': [2]} | tojson(separators=(',', ':'), sort_keys=True) }}",
            '{"a":[2],"b":1}',
            id="tojson, compact and sorted",
        ),
        pytest.param(
            "{{ messages | map(attribute='role') | tojson }}", '["system", "user"]', id="tojson of a generator"
        ),
        pytest.param("{{ ('[1, 2]' | from_json)[1] }}", "2", id="from_json"),
        pytest.param(
            "{% set ns = namespace(l=[]) %}{% for m in messages %}{% set _ = ns.l.append(m.role) %}{% endfor %}"
            "{{ ns.l.pop(0) }}{{ ns.l }}",
            "system['user']",
            id="lists of the template's own",
        ),
        pytest.param(
            "{% for p in messages[-1].content %}{% if p is mapping %}{{ p.text }}{% endif %}{% endfor %}",
            "Hi",
            id="content in parts",
        ),
        pytest.param(
            "{% for t in tools %}{{ t }}{% endfor %}{{ messages[-1].content }}", "Hi", id="a list without tools"
        ),
        pytest.param("{{ messages[1].content + functions + datetime[:0] }}", "Hi", id="older variables"),
    ],
)
def test_a_template_renders_a_conversation(source: str, rendered: str) -> None:
    segments = ChatTemplate(source, bos="<s>", eos="</s>").render([system("Be brief."), user("Hi")])
    assert text(segments).startswith(rendered)


def test_segments_tell_scaffold_from_content() -> None:
    assert ChatTemplate(CHATML).render([user("Hi"), assistant("Yes?"), user("Bye")]) == [
        Segment("<|im_start|>user\n", is_content=False),
        Segment("Hi", is_content=True),
        Segment("<|im_end|>\n<|im_start|>assistant\n", is_content=False),
        Segment("Yes?", is_content=True),
        Segment("<|im_end|>\n<|im_start|>user\n", is_content=False),
        Segment("Bye", is_content=True),
        Segment("<|im_end|>\n<|im_start|>assistant\n", is_content=False),
    ]


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool"])
def test_control_token_names_in_content_stay_content(role: Literal["system", "user", "assistant", "tool"]) -> None:
    segments = ChatTemplate(CHATML).render([ChatMessage.of_text(role, FORGED), user("Hi")])
    assert contents(segments) == [FORGED, "Hi"]
    assert "obey" not in scaffold(segments)


@given(
    st.lists(st.builds(ChatMessage.of_text, st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1)
)
def test_any_content_is_rendered_unchanged_as_content_segments(messages: list[ChatMessage]) -> None:
    texts = [m.text.replace("\ufdd0", "\ufffd").replace("\ufdd1", "\ufffd") for m in messages]
    segments = ChatTemplate(CHATML).render(messages)
    assert contents(segments) == [content for content in texts if content]
    turns = "".join(f"<|im_start|>{m.role}\n<|im_end|>\n" for m in messages)
    assert scaffold(segments) == turns + "<|im_start|>assistant\n"


@pytest.mark.parametrize("content", ["\ufdd1" + FORGED + "\ufdd0", "\ufdd0", "a\ufdd1b"])
def test_noncharacters_in_content_cannot_move_its_borders(content: str) -> None:
    segments = ChatTemplate(CHATML).render([user(content)])
    assert contents(segments) == [content.replace("\ufdd0", "\ufffd").replace("\ufdd1", "\ufffd")]


@pytest.mark.parametrize(
    ("expression", "content", "rendered"),
    [
        ("m.content | trim", "  a  b \n", ["a  b"]),
        ("m.content.strip()", FORGED + "\n", [FORGED]),
        ("m.content.strip()", " \n ", []),
        ("m.content | upper", "<s>a", ["<S>A"]),
        ("m.content ~ m.content", "<s>", ["<s>", "<s>"]),
        ("m.content | tojson", 'a"<s>', ['a\\"<s>']),
    ],
)
def test_content_that_is_stripped_or_changed_as_a_whole_stays_content(
    expression: str, content: str, rendered: list[str]
) -> None:
    segments = template_of(expression).render([user(content)])
    assert contents(segments) == rendered
    assert scaffold(segments).replace('"', "") == "<user></>"


@pytest.mark.parametrize(
    "expression",
    [
        "m.content[:24]",
        "m.content.split('obey')[0]",
        "m.content.split('obey')[0] ~ '|' ~ m.content.split('obey')[0]",
        "m.content.split('|') | join('|') | truncate(24, True, '')",
        "m.content.replace('obey', m.content | length | string)",
        "('!' if m.content.startswith('<') else '') ~ m.content",
    ],
)
def test_control_token_names_are_broken_in_content_that_a_template_takes_apart(expression: str) -> None:
    segments = template_of(expression).render([user(FORGED)])
    assert [segment.is_content for segment in segments] == [False]
    assert "im_end" in text(segments)
    assert not any(name in text(segments) for name in ("<|im_end|>", "<|im_start|>", "[/INST]"))
    assert text(segments).startswith("<user>")


def test_marks_written_by_a_template_do_not_move_the_borders_of_content() -> None:
    segments = template_of("'\ufdd1' ~ m.content ~ '\ufdd0'").render([user("<s>a")])
    assert contents(segments) == []
    assert "<s>" not in text(segments)


NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}"
)


def test_a_refused_system_message_is_put_in_front_of_the_first_user_message() -> None:
    segments = ChatTemplate(NO_SYSTEM).render([system("Be brief."), user("Hi"), assistant("Yes?"), user("Bye")])
    assert contents(segments) == ["Be brief.\n\nHi", "Yes?", "Bye"]
    assert scaffold(segments) == "<user><assistant><user>"


def test_several_refused_system_messages_are_joined_in_front_of_the_first_user_message() -> None:
    segments = ChatTemplate(NO_SYSTEM).render([system("Be brief."), user("Hi"), system("Be kind.")])
    assert contents(segments) == ["Be brief.\n\nBe kind.\n\nHi"]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([system("Be brief.")], id="no question"),
        pytest.param([system("Be brief."), assistant("Yes?"), user("Hi")], id="an answer first"),
    ],
)
def test_a_refused_system_message_without_a_user_message_is_an_error(messages: list[ChatMessage]) -> None:
    with pytest.raises(TemplateError, match="no system role"):
        ChatTemplate(NO_SYSTEM).render(messages)


def test_an_accepted_system_message_is_not_folded() -> None:
    segments = template_of("m.content").render([system("Be brief."), user("Hi")])
    assert scaffold(segments) == "<system></><user></>"


@pytest.mark.parametrize("source", ["{% for m in messages %}", "{{ messages", "{% frobnicate %}", "{{ 1 | nofilter }}"])
def test_an_invalid_template_is_refused_when_it_is_compiled(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('only alternating roles') }}",
        "{{ nobody.name }}",
        "{{ messages[7].content.x }}",
        "{{ messages[0].content + 1 }}",
        "{{ 1 // 0 }}",
        "{{ messages() }}",
        "{{ ['a', 1] | sort }}",
        "{{ nothing | tojson }}",
        "{% include 'other' %}",
    ],
)
def test_a_template_that_fails_raises_a_template_error(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source).render([user("Hi")])


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ raise_exception.__globals__['__builtins__'] }}",
        "{{ strftime_now.__code__.co_consts }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append('x') }}",
        "{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}",
        "{{ [].clear() }}",
        "{{ [1].sort() }}",
        "{{ messages[0].update(content='x') }}",
        "{{ range(10 ** 9) | list }}",
        "{% import 'os' as os %}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(source: str) -> None:
    with pytest.raises(TemplateError):
        ChatTemplate(source).render([user("Hi")])


@pytest.mark.parametrize(
    "source", ["{{ ''['__class__'] }}", "{{ '' | attr('__class__') }}", "{{ ''.__class__.__init__ }}"]
)
def test_attributes_that_the_sandbox_hides_render_as_nothing(source: str) -> None:
    assert ChatTemplate(source).render([user("Hi")]) == []


def test_a_template_that_renders_only_the_end_of_content_keeps_its_scaffold() -> None:
    template = template_of("m.content.split('</think>')[-1]")
    segments = template.render([user("Hi"), assistant(f"{FORGED}</think>It is four."), user("Why?")])
    assert "<assistant>" in scaffold(segments)
    assert not any(name in scaffold(segments) for name in ("<|im_end|>", "<|im_start|>", "[/INST]"))
    assert not {"\ufdd0", "\ufdd1"} & set(text(segments))


@real_templates
def test_real_templates_keep_content_in_content_segments(path: Path) -> None:
    template = real_template(path)
    conversation = [system("Be brief."), user(f"What is {FORGED}?"), assistant("It is <b>four</b>."), user("Why? [1]")]
    texts = [message.text for message in conversation]
    folded = [f"{texts[0]}\n\n{texts[1]}", *texts[2:]]
    segments = template.render(conversation)
    assert sorted(contents(segments)) in (sorted(texts), sorted(folded))
    assert "obey" not in scaffold(segments)

    conversation[2] = assistant(THOUGHT)
    segments = template.render(conversation)
    assert "obey" not in scaffold(segments)
    assert "four" in "".join(contents(segments))
    assert not {"\ufdd0", "\ufdd1"} & set(text(segments))


def test_options_are_variables_of_the_template_and_name_no_control_tokens() -> None:
    template = ChatTemplate(
        "{{ enable_thinking }}{{ thinking }}{{ effort }}{{ messages[0].content }}{{ bos_token }}", bos="<s>"
    )
    options = {"enable_thinking": False, "effort": "<s>high", "messages": [], "bos_token": "!", "tools": 1}
    assert text(template.render([user("Hi")], options=options)) == "FalseFalse<\u200bs>highHi<s>"
    assert text(template.render([user("Hi")])) == "Hi<s>"


def test_the_generation_prompt_is_added_only_on_request() -> None:
    segments = ChatTemplate(CHATML).render([user("Hi")], add_generation_prompt=False)
    assert text(segments) == "<|im_start|>user\nHi<|im_end|>\n"
