"""The budget of chat templates: expensive ones are stopped early, and real ones never are."""

import resource
import time

import pytest

from models.errors import TemplateError
from models.llm.chat.chat_template import CHATML, ChatTemplate
from models.llm.chat.messages import ChatMessage

TOO_MUCH = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' }}{% endfor %}{% endfor %}",
    "{% macro f(n) %}{% for i in range(9) %}{{ f(n) }}{% endfor %}{% endmacro %}{{ f(1) }}",
    "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
    "{% set n = namespace(s='ab') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
    "{% set n = namespace(s=['ab']) %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s | length }}",
    "{% set n = namespace(s=[]) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "{% set n = namespace(s={}) %}{% for i in range(60) %}{% set n.s = {'a': n.s, 'b': n.s} %}{% endfor %}{{ n.s }}",
    "{% set n = namespace(s=()) %}{% for i in range(60) %}{% set n.s = (n.s, n.s) %}{% endfor %}{{ n.s == n.s[0] }}",
    "{% set l = [1] %}{% for i in range(60) %}{% set _ = l.append(l) %}{% endfor %}{{ l | string }}",
    "{{ 'x' * 10 ** 10 }}",
    "{{ ['x'] * 10 ** 10 }}",
    "{{ 10 ** 10 * 'x' }}",
    "{{ 9 ** 99999999 }}",
    "{% set n = namespace(i=9) %}{% for i in range(60) %}{% set n.i = n.i * n.i %}{% endfor %}{{ n.i }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 1000000000) }}",
    "{{ 'x'.center(10 ** 9) }}",
    "{{ 'x'.ljust(10 ** 9) }}",
    "{{ 'x'.zfill(10 ** 9) }}",
    "{{ '\t'.expandtabs(10 ** 9) }}",
    "{{ ('x' * 99999).replace('x', 'y' * 99999) }}",
    "{{ ('x' * 99999) | replace('x', 'y' * 99999) }}",
    "{{ ('x' * 99999) | replace('', 'y' * 99999) }}",
    "{{ ('x' * 99999).join('y' * 99999) }}",
    "{{ range(99999) | join('x' * 99999) }}",
    "{{ range(99999) | map('string') | map('replace', '1', 'x' * 9999) | join }}",
    "{{ ('\n' * 99999) | indent('x' * 99999) }}",
    "{{ ('\n' * 99999) | indent(10 ** 9, true) }}",
    "{{ [1] | tojson(indent=10 ** 9) }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ [1] | batch(10 ** 9, 'x') | list }}",
    "{% set s = 'x' * 999999 %}{% set l = [] %}{% for i in range(9999) %}{% set _ = l.append(s[:-1]) %}{% endfor %}",
    "{% set s = 'x' * 999999 %}{% for i in range(9999) %}{{ s }}{% endfor %}",
    "{% set s = 'x' * 999999 %}{% macro f() %}{% for i in range(9999) %}{{ s }}{% endfor %}{% endmacro %}{{ f() }}",
    "{% set s %}{% for i in range(99999) %}{{ 'x' * 999 }}{% endfor %}{% endset %}{{ s | length }}",
    "{% for i in range(99999) %}{% if ('x' * 999).strip().upper().lower().title() %}{% endif %}{% endfor %}",
]


@pytest.mark.parametrize("source", TOO_MUCH)
def test_a_template_that_takes_too_much_time_or_memory_is_stopped(source: str) -> None:
    start_s, peak = time.thread_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TemplateError):
        ChatTemplate(source).render([ChatMessage.of_text("user", "Hi")])
    assert time.thread_time() - start_s < 6  # once to probe its capabilities, once for the conversation
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000  # KiB


def test_a_template_that_is_too_long_is_refused() -> None:
    with pytest.raises(TemplateError, match="characters"):
        ChatTemplate("x" * 600_000)


def test_each_rendering_has_a_budget_of_its_own() -> None:
    template, messages = ChatTemplate(CHATML), [ChatMessage.of_text("user", "Hi")]
    for _ in range(50):
        with pytest.raises(TemplateError):
            ChatTemplate("{{ 'x' * 10 ** 10 }}").render(messages)
    assert template.render(messages)


@pytest.mark.parametrize(
    "expression",
    [
        "m.content.replace('a', 'b') + m.content.upper()",
        "m.content | trim | replace('a', 'bcd') | indent(4)",
        "m.content.split('a') | join('a')",
        "'%s' % m.content",
        "'{:>10}{}'.format('x', m.content)",
        "m | tojson(indent=4)",
        "[m.role, m.content] | join(': ')",
    ],
)
def test_long_conversations_are_rendered_within_the_budget(expression: str) -> None:
    messages = [ChatMessage.of_text("user" if i % 2 == 0 else "assistant", "aha, " * 2000) for i in range(50)]
    template = ChatTemplate(f"{{% for m in messages %}}{{{{ {expression} }}}}{{% endfor %}}")
    start_s = time.thread_time()
    assert sum(len(segment.text) for segment in template.render(messages)) >= 500_000
    assert time.thread_time() - start_s < 5
