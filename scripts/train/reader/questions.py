"""Questions made from sentences by rules: what a person might ask whom that sentence would answer."""

import re
from collections.abc import Callable
from random import Random

from reader.corpus import Rarity, stem, words

_KEYWORDS = (
    "what is {}?", "What is {}?", "what does the text say about {}?", "tell me about {}", "how does {} work?",
    "How do I {}?", "how to {}", "when {}?", "why {}?", "{}", "{}?", "which {}?", "Where is {}?", "what about {}?",
    "Explain {}", "who {}?", "How many {}?", "what happens when {}?", "What are {}", "Describe {}.",
    "What did {}?", "In what {}?", "What kind of {}?", "Who was {}?", "What was {}?", "Where did {}?", "How much {}?",
)  # fmt: skip
_SMALL = ("of", "the", "in", "for", "with", "to", "and", "on", "a", "is", "are", "was", "did", "by")
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
    if not (found := _IS.match(sentence)):
        return None
    if rng.random() < 0.5:
        return f"{rng.choice(('What', 'what', 'Who', 'Which'))} {found['be']} {_low(found['a'])}?"
    return f"{rng.choice(('What', 'what', 'Who', 'Which one'))} {found['be']} {' '.join(found['b'].split()[:10])}?"


def _why(_: Random, sentence: str) -> str | None:
    return f"Why {_low(found['a'])}?" if (found := _BECAUSE.match(sentence)) else None


def _how_to(rng: Random, sentence: str) -> str | None:
    if not (found := _TO.search(sentence)):
        return None
    return f"{rng.choice(('How do I', 'How can I', 'how to', 'What is used to', 'What do I need to'))} {found['b']}?"


def _what_if(rng: Random, sentence: str) -> str | None:
    if not (found := _IF.match(sentence)):
        return None
    return f"{rng.choice(('What happens', 'what happens', 'What must be done'))} {found['if'].lower()} {found['a']}?"


def _what_does(rng: Random, sentence: str) -> str | None:
    if not (found := _DOES.match(sentence)):
        return None
    if rng.random() < 0.5:
        return f"{rng.choice(('What', 'what', 'Which one'))} {found['v']} {found['b']}?"
    return f"What does {_low(found['a'])} {found['v'][:-1]}?"


def _by_whom(_: Random, sentence: str) -> str | None:
    return f"Who {found['v']} {_low(found['a'])}?" if (found := _BY.match(sentence)) else None


def _when(rng: Random, sentence: str) -> str | None:
    if not (found := _IN.search(sentence)):
        return None
    rest = sentence[: found.start()] if found.start() > 20 else sentence[found.end() :]
    return f"{rng.choice(('When', 'In what year', 'when'))} {rng.choice(('did', 'was'))} {_low(rest.strip(' ,.'))}?"


_RULES: tuple[Callable[[Random, str], str | None], ...] = (
    _what_is, _why, _how_to, _what_if, _what_does, _by_whom, _when
)  # fmt: skip


def _low(text: str) -> str:
    """Without the capital that only stands for the beginning of a sentence."""
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first.lower() in {"the", "a", "an", "this", "it", "these"} else text


def inflected(rng: Random, word: str) -> str:
    """Now and then in another form, or in small letters."""
    if rng.random() < 0.75 or len(word) < 5:
        return word if rng.random() < 0.5 else word.lower()
    word = word.lower()
    for ending, others in _ENDINGS:
        if word.endswith(ending):
            return word[: -len(ending)] + rng.choice(others)
    return word + rng.choice(("s", "ing", "ed", "es", ""))


def keywords(rng: Random, sentence: str, rarity: Rarity) -> str | None:
    """Some of the words of a sentence, the rarer ones rather, in the frame of a question."""
    unique = list(dict.fromkeys(words(sentence)))
    if len(unique) < 2:
        return None
    size = min(len(unique), rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6)))
    ranked = sorted(unique, key=lambda word: -rarity.of(stem(word)) * rng.uniform(0.4, 1.6))
    picked = rng.sample(ranked[: max(size + 1, int(len(unique) * 0.7))], size)
    if rng.random() < 0.6:
        picked.sort(key=unique.index)
    picked = [inflected(rng, word) for word in picked]
    for _ in range(rng.choice((0, 1, 1, 2))):
        picked.insert(rng.randrange(len(picked) + 1), rng.choice(_SMALL))
    return rng.choice(_KEYWORDS).format(" ".join(picked))


def question(rng: Random, sentence: str, rarity: Rarity) -> str | None:
    """A question that the sentence answers; none where the rules find no words for one."""
    if rng.random() < 0.5:
        made = [each for rule in rng.sample(_RULES, len(_RULES)) if (each := rule(rng, sentence))]
        if made:
            asked = made[0].split()
            return " ".join(inflected(rng, w) if rng.random() < 0.15 else w for w in asked if rng.random() > 0.04)
    return keywords(rng, sentence, rarity)
