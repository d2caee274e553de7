import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.lexical.analyzer import Analyzer
from index.lexical.languages import LATIN, STOP_WORDS, guess_latin
from tests.index.conftest import unhurried

_HOSTILE = st.lists(
    st.sampled_from(['"', "'", "*", "^", "(", ")", "{", "}", ":", "+", "-", ",", "AND", "OR", "NOT", "NEAR(a b)"])
    | st.sampled_from(
        ["terms :", "scope", "a", "the", "_", ".", "\0", "\ud800", "²", "½", "e\u0301", "字", "\U0001e922"]
    )
    | st.sampled_from(["\u00a0", "\u2028", "\u3000", "\u200d", "ไทย", "ﬁ", "İ", "ß", "HTTPServer", "x" * 200]),
    max_size=20,
)
TEXTS = st.one_of(st.text(st.characters()), _HOSTILE.map("".join), _HOSTILE.map(" ".join))
# What FTS5's ascii tokenizer with these token characters, and tantivy's at white space, store as one term.
_SAFE = re.compile(r"[a-z0-9._\-\u0080-\U0010ffff]+")

_analyzer = Analyzer()


def terms(text: str) -> list[str]:
    return _analyzer.document(text).terms.split()


@unhurried
@given(text=TEXTS)
def test_terms_of_any_text_are_safe_for_both_engines(text: str) -> None:
    analysis = _analyzer.document(text)
    stored = analysis.terms.split(" ") if analysis.terms else []
    for term in stored + list(_analyzer.question(text, LATIN)):
        assert _SAFE.fullmatch(term) and term.split() == [term]
        assert len(term) <= 64
        term.encode()


@unhurried
@given(text=TEXTS)
def test_a_document_is_found_by_its_own_words(text: str) -> None:
    analysis = _analyzer.document(text)
    terms = _analyzer.question(text, [analysis.language])
    assert bool(terms) == bool(analysis.terms)
    if terms:
        assert terms.keys() & set(analysis.terms.split())


@unhurried
@given(text=TEXTS)
def test_the_cache_of_an_analyzer_does_not_change_its_terms(text: str) -> None:
    assert _analyzer.document(text) == Analyzer().document(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Kestrels were flying", "the kestrel were fly"),
        ("Café, RÉSUMÉ naïve", "cafe resum naiv"),
        ("e\u0301lan ﬁle Ⅳ", "elan file iv"),
        ("soft\u00adware", "softwar"),
        ("well-known", "well known"),
        ("snake_case", "snake case snake_case"),
        ("maxTokens", "maxtoken max token"),
        ("HttpServletRequest", "httpservletrequest http request servlet"),
        ("TypeScript GPUs", "typescript gpu"),
        ("os.path.join", "o path join os.path.join"),
        ("ERR_CONN_RESET", "err conn reset err_conn_reset"),
        ("ORA-00942, E1234", "ora 00942 e1234 ora-00942"),
        ("v3.51.2", "v3 51 2 v3.51.2"),
        ("__init__", "init"),
        ("max_max max", "max max max max_max"),
        ("我喜欢", "我 喜 欢 我喜 喜欢"),
        ("用GPU加速", "用 gpu 加 速 加速"),
        ("日本語がわ", "日 本 語 が わ 日本 本語 語が がわ"),
        ("서울에", "서 울 에 서울 울에"),
        ("ไทย", "ไ ท ย ไท ทย"),
        ("хорошие собаки", "хорош собак"),
        ("हिन्दी", "हिन्द"),
        ("?! … 🙂", ""),
        ("", ""),
    ],
)
def test_a_text_is_analyzed_to_these_terms(text: str, expected: str) -> None:
    assert _analyzer.document(text).terms == expected


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("german", "Die Häuser sind nicht mehr so schön wie in der Stadt, und das ist schade", "Haus"),
        ("french", "Les maisons sont dans la ville, mais elles ne sont pas avec nous", "maison"),
        ("spanish", "Las canciones de los niños son para el día en que no hay clase", "canción"),
        ("italian", "I gatti sono nella casa e non con il cane che è di Maria", "gatto"),
        ("portuguese", "As cartas não são para você, mas para os amigos dos meus pais", "carta"),
        ("dutch", "De boeken zijn niet in het huis, maar ze waren er wel met een man", "boek"),
        ("swedish", "Bilarna är inte på gatan, men de var där och det är som du vet", "bil"),
        ("polish", "Nie ma tego w domach, ale to jest dla nas i się nie zmieni", "dom"),
        ("english", "The horses were not in the house, but they are with us", "horse"),
    ],
)
def test_words_are_stemmed_in_the_language_of_the_text(language: str, text: str, question: str) -> None:
    analysis = _analyzer.document(text)
    assert analysis.language == language
    assert _analyzer.question(question, ["english", language]).keys() & set(analysis.terms.split())


@pytest.mark.parametrize("text", ["x = f(y)", "4711 0815", "Kubernetes", "", "de la Cruz"])
def test_a_text_with_few_function_words_is_analyzed_as_english(text: str) -> None:
    assert _analyzer.document(text).language == "english"


@pytest.mark.parametrize("language", LATIN)
def test_a_language_is_guessed_by_its_function_words(language: str) -> None:
    assert guess_latin(STOP_WORDS[language], least=3) == language


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How long is parental leave?", {"long": 1, "parent": 1, "leav": 1}),
        ("leave, LEAVE and leave", {"leav": 3}),
        ("What is it?", {"what": 1, "i": 1, "it": 1}),
        ('say "x" OR NOT y*', {"sai": 1, "x": 1, "y": 1}),
        ("snake_case", {"snake": 1, "case": 1, "snake_case": 1}),
        ("maxTokens", {"maxtoken": 1, "max": 1, "token": 1}),
        ("§ 7.2", {"7": 1, "2": 1, "7.2": 1}),
        ("字", {"字": 1}),
        ("我喜欢", {"我喜": 1, "喜欢": 1}),
        ("?!", {}),
        ("___", {}),
        ("", {}),
    ],
)
def test_questions_keep_repeats_and_lose_function_words_unless_there_are_no_others(
    question: str, expected: dict[str, int]
) -> None:
    assert _analyzer.question(question) == expected


def test_a_question_has_the_stems_of_every_language_of_the_corpus() -> None:
    assert _analyzer.question("Häuser", ["english"]).keys() == {"hauser"}
    assert _analyzer.question("Häuser", ["english", "german"]).keys() == {"hauser", "haus"}


def test_function_words_are_those_of_the_question_s_language() -> None:
    assert _analyzer.question("Wie lange ist der Urlaub?").keys() == {"lang", "urlaub"}
    assert "die" in _analyzer.question("Who shall die?")


@pytest.mark.parametrize(
    ("question", "text", "share"),
    [
        ("How do kestrels hover?", "The kestrel hovers.", 1.0),
        ("kestrel kestrel pike", "The kestrel hovers.", 0.5),
        ("where is it", "it is here", 2 / 3),
        ("Wie fliegen die Falken im Wald?", "Der Falke fliegt und der Bussard ist nicht zu sehen.", 1 / 3),
        ("engine.n_ctx", "set n_ctx of the engine", 1.0),
        ("?!", "anything", 0.0),
        ("kestrel", "", 0.0),
    ],
)
def test_coverage_is_the_share_of_the_question_s_words_in_the_text(question: str, text: str, share: float) -> None:
    assert Analyzer().coverage(question, text) == pytest.approx(share)
