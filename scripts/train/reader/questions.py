"""Questions generated from sentences by rules: each is one that the sentence answers."""

import re
from collections.abc import Callable
from random import Random

from reader.corpus import IdfWeights, content_words, stem

_KEYWORD_TEMPLATES = (
    "what is {}?", "What is {}?", "what does the text say about {}?", "tell me about {}", "how does {} work?",
    "How do I {}?", "how to {}", "when {}?", "why {}?", "{}", "{}?", "which {}?", "Where is {}?", "what about {}?",
    "Explain {}", "who {}?", "How many {}?", "what happens when {}?", "What are {}", "Describe {}.",
    "What did {}?", "In what {}?", "What kind of {}?", "Who was {}?", "What was {}?", "Where did {}?", "How much {}?",
)  # fmt: skip
_FUNCTION_WORDS = ("of", "the", "in", "for", "with", "to", "and", "on", "a", "is", "are", "was", "did", "by")
_ENDINGS = (
    ("ing", ("", "e", "s", "ed")), ("ed", ("", "e", "ing", "s")), ("ies", ("y",)), ("es", ("", "e")), ("s", ("",)),
    ("tion", ("te", "tions")), ("ly", ("",)),
)  # fmt: skip
_IS = re.compile(r"^(?P<a>[^,;:()]{3,60}?) (?P<be>is|are|was|were) (?P<b>.{8,})[.]$")
_BECAUSE = re.compile(r"^(?P<a>.{10,90}?),? (?:because|since|due to|so that) (?P<b>.{5,})$")
_TO = re.compile(r"\bto (?P<b>[a-z]{3,}\b[^,;.:()]{5,70})")
_IF = re.compile(r"^(?P<if>If|When|While|After|Before) (?P<a>[^,]{8,90}), ")
_DOES = re.compile(
    r"^(?P<a>(?:The |This |An? )?[\w\-. ]{2,40}?) (?P<v>[a-z]{3,}s) (?P<b>(?:the|a|an|all|each) [^,;.]{5,80})"
)
_BY = re.compile(r"^(?P<a>.{5,60}?) (?P<be>is|are|was|were) (?P<v>[a-z]+ed) by (?P<b>[^,;]{3,60})")
_IN = re.compile(r"\b(?:in|on|since|until) (?:\w+ )?(?P<d>1\d{3}|20\d{2})\b")


def _what_is(rng: Random, sentence: str) -> str | None:
    if not (match := _IS.match(sentence)):
        return None
    if rng.random() < 0.5:
        return f"{rng.choice(('What', 'what', 'Who', 'Which'))} {match['be']} {_without_capital(match['a'])}?"
    return f"{rng.choice(('What', 'what', 'Who', 'Which one'))} {match['be']} {' '.join(match['b'].split()[:10])}?"


def _why(_: Random, sentence: str) -> str | None:
    return f"Why {_without_capital(match['a'])}?" if (match := _BECAUSE.match(sentence)) else None


def _how_to(rng: Random, sentence: str) -> str | None:
    if not (match := _TO.search(sentence)):
        return None
    return f"{rng.choice(('How do I', 'How can I', 'how to', 'What is used to', 'What do I need to'))} {match['b']}?"


def _what_if(rng: Random, sentence: str) -> str | None:
    if not (match := _IF.match(sentence)):
        return None
    return f"{rng.choice(('What happens', 'what happens', 'What must be done'))} {match['if'].lower()} {match['a']}?"


def _what_does(rng: Random, sentence: str) -> str | None:
    if not (match := _DOES.match(sentence)):
        return None
    if rng.random() < 0.5:
        return f"{rng.choice(('What', 'what', 'Which one'))} {match['v']} {match['b']}?"
    return f"What does {_without_capital(match['a'])} {match['v'][:-1]}?"


def _by_whom(_: Random, sentence: str) -> str | None:
    return f"Who {match['v']} {_without_capital(match['a'])}?" if (match := _BY.match(sentence)) else None


def _when(rng: Random, sentence: str) -> str | None:
    if not (match := _IN.search(sentence)):
        return None
    rest = sentence[: match.start()] if match.start() > 20 else sentence[match.end() :]
    subject = rest.strip(" ,.")
    return f"{rng.choice(('When', 'In what year', 'when'))} {rng.choice(('did', 'was'))} {_without_capital(subject)}?"


_RULES: tuple[Callable[[Random, str], str | None], ...] = (
    _what_is, _why, _how_to, _what_if, _what_does, _by_whom, _when
)  # fmt: skip


def _without_capital(text: str) -> str:
    """Return the text without the capital of its first word where that word is no name."""
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first.lower() in {"the", "a", "an", "this", "it", "these"} else text


def inflect(rng: Random, word: str) -> str:
    """Return the word, in a quarter of the cases with another ending, in half of the others in lower case."""
    if rng.random() < 0.75 or len(word) < 5:
        return word if rng.random() < 0.5 else word.lower()
    word = word.lower()
    for ending, others in _ENDINGS:
        if word.endswith(ending):
            return word[: -len(ending)] + rng.choice(others)
    return word + rng.choice(("s", "ing", "ed", "es", ""))


def keyword_question(rng: Random, sentence: str, idf: IdfWeights) -> str | None:
    """Return some content words of a sentence, preferably rare ones, in a question template; None for too few words."""
    unique = list(dict.fromkeys(content_words(sentence)))
    if len(unique) < 2:
        return None
    size = min(len(unique), rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6)))
    ranked = sorted(unique, key=lambda word: -idf.weight(stem(word)) * rng.uniform(0.4, 1.6))
    keywords = rng.sample(ranked[: max(size + 1, int(len(unique) * 0.7))], size)
    if rng.random() < 0.6:
        keywords.sort(key=unique.index)
    keywords = [inflect(rng, word) for word in keywords]
    for _ in range(rng.choice((0, 1, 1, 2))):
        keywords.insert(rng.randrange(len(keywords) + 1), rng.choice(_FUNCTION_WORDS))
    return rng.choice(_KEYWORD_TEMPLATES).format(" ".join(keywords))


def generate_question(rng: Random, sentence: str, idf: IdfWeights) -> str | None:
    """Return a question that the sentence answers; None where no rule applies and the sentence has too few words."""
    if rng.random() < 0.5:
        questions = [each for rule in rng.sample(_RULES, len(_RULES)) if (each := rule(rng, sentence))]
        if questions:
            words = questions[0].split()
            return " ".join(inflect(rng, w) if rng.random() < 0.15 else w for w in words if rng.random() > 0.04)
    return keyword_question(rng, sentence, idf)
