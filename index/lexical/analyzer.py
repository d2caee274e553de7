"""Analyzes text into terms, in the same way for both lexical engines.

A term consists of letters, digits, combining marks and `._-` only, so that an engine that splits at white space stores
it as it is. Words are folded (Unicode compatibility, case, diacritics) and stemmed by Snowball. Identifiers, paths,
version numbers and error codes give terms for the whole and for the parts. Scripts without spaces between words give
pairs of characters.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import Stemmer

from index.lexical.languages import DEFAULT, LATIN, STOP_WORDS, guess_latin, language_of_word

VERSION = 1  # of the terms; an index of another version is filled again
_MAX_TERM = 64  # characters; what is longer is neither a word nor an identifier
_MAX_CACHED = 200_000  # words

# Combining marks, which \w does not match: without them most words of Indian scripts would be split.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed\u0900-\u0963\u0981-\u0df3\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    "\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u0f71-\u0f84\u102b-\u103e\u1056-\u1059\u17b4-\u17d3\u3099\u309a"
)
_SPACELESS = (  # Thai, Lao, Tibetan, Burmese, Khmer; kana, bopomofo, Han; Hangul, whose particles stick to the words
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff"
    "\u3005-\u3007\u3041-\u30ff\u3105-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_LETTER = rf"[\w{_MARKS}]"
_COMPOUND = re.compile(rf"{_LETTER}+(?:[.\-]{_LETTER}+)*")
_SPACELESS_RUN = re.compile(f"[{_SPACELESS}]+")
_PART = re.compile(r"[^._\-]+")
_HUMP = re.compile(r"(?<=[^\W\d_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z]{2})")
_DIACRITIC = re.compile("[\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed]")
_INVISIBLE = dict.fromkeys([0xAD, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x0640])  # soft hyphen, joiners, tatweel


class Analysis(NamedTuple):
    terms: str  # separated by a space, with repeats: the words in order, then what its names add
    language: str  # the Latin one its words were stemmed in


class Analyzer:
    """Caches the terms of each word. For one thread at a time."""

    def __init__(self) -> None:
        self._words = {language: _Words(language, is_question=False) for language in LATIN}
        self._question_words = {language: _Words(language, is_question=True) for language in LATIN}

    def document(self, text: str) -> Analysis:
        """Return the terms of a text for the index."""
        compounds = _COMPOUND.findall(_normal(text))
        distinct = set(compounds)
        language = guess_latin(distinct, least=3)
        words = self._words[language]
        terms = " ".join(filter(None, map(words.__getitem__, compounds)))
        # Each name counts once, and not where a word is the same term: code repeats names, and must not outweigh prose.
        if names := set().union(*filter(None, map(words.names.__getitem__, distinct))):
            terms = " ".join((terms, *sorted(names.difference(terms.split()))))
        return Analysis(terms.strip(), language)

    def question(self, text: str, languages: Collection[str] = (DEFAULT,)) -> Counter[str]:
        """Return the terms of a question with their counts, for a corpus in these Latin languages.

        Function words are left out unless there is nothing else.
        """
        compounds = _COMPOUND.findall(_normal(text))
        return self._count(_content_words(compounds), languages) or self._count(compounds, languages)

    def coverage(self, question: str, text: str) -> float:
        """Return the share of the question's words that the text has in some form, in 0..1.

        Each word counts once. Function words count only if there is nothing else.
        """
        compounds = _COMPOUND.findall(_normal(question))
        document = self.document(text)
        terms, words = set(document.terms.split()), self._question_words[document.language]
        forms = [{*words[word].split(), *words.names[word]} for word in set(_content_words(compounds) or compounds)]
        forms = [each for each in forms if each]
        return sum(not each.isdisjoint(terms) for each in forms) / len(forms) if forms else 0.0

    def _count(self, compounds: Iterable[str], languages: Collection[str]) -> Counter[str]:
        counts: Counter[str] = Counter()
        for compound in compounds:
            counts.update({term for language in languages for term in self._question_words[language][compound].split()})
            counts.update({term for language in languages for term in self._question_words[language].names[compound]})
        return counts


class _Words(dict[str, str]):
    """Maps compounds, as they stand in a text, to the terms of their words, separated by spaces."""

    def __init__(self, language: str, *, is_question: bool) -> None:
        super().__init__()
        self.names = _Names(self._whole_and_humps)
        self.is_question = is_question
        self._stem = _stemmer(language)
        self._folds_first = language == DEFAULT  # the stemmers of other languages look at diacritics
        self._of_script: dict[str, Stemmer.Stemmer] = {}

    def __missing__(self, compound: str) -> str:
        terms = " ".join(self._terms(compound))
        if len(compound) <= _MAX_TERM:
            if len(self) >= _MAX_CACHED:
                self.clear()
            self[compound] = terms
        return terms

    def _terms(self, compound: str) -> Iterator[str]:
        for part in _PART.findall(compound):
            end = 0
            for run in _SPACELESS_RUN.finditer(part):
                yield from self._stems(part[end : run.start()])
                yield from self._pairs(run.group())
                end = run.end()
            yield from self._stems(part[end:])

    def _stems(self, word: str) -> Iterator[str]:
        folded = word.casefold()
        if not folded:
            return
        stemmer = self._stem
        if (of_script := language_of_word(folded)) is not None:
            stemmer = self._of_script.get(of_script) or self._of_script.setdefault(of_script, _stemmer(of_script))
        elif self._folds_first:
            folded = _fold(folded)
        term = _fold(stemmer.stemWord(folded))[:_MAX_TERM]
        if term:
            yield term
        if self.is_question and (plain := _fold(folded)) != folded:
            other = _fold(stemmer.stemWord(plain))[:_MAX_TERM]
            if other not in ("", term):
                yield other

    def _pairs(self, run: str) -> Iterator[str]:
        """Yield pairs of neighbours; in documents also single characters, for questions of one character."""
        if len(run) == 1 or not self.is_question:
            yield from run
        yield from map("".join, pairwise(run))

    def _whole_and_humps(self, compound: str) -> Iterator[str]:
        """Yield the terms that an identifier, a path, a version or an error code adds to its words."""
        if _SPACELESS_RUN.search(compound):
            return
        parts = _PART.findall(compound)
        if len(parts) > 1 and len(compound) <= _MAX_TERM and _is_name(compound):
            yield _fold(compound.casefold()).strip("._-")
        for part in parts:
            humps = _HUMP.split(part)
            # A capitalized word of two humps is a proper name: TypeScript is not about scripts.
            if len(humps) > (1 if part[0].islower() else 2):
                for hump in humps:
                    yield from self._stems(hump)


class _Names(dict[str, frozenset[str]]):
    """Maps compounds to the terms that they add as names: none, for most."""

    def __init__(self, terms: Callable[[str], Iterable[str]]) -> None:
        super().__init__()
        self._terms = terms

    def __missing__(self, compound: str) -> frozenset[str]:
        if compound.islower() and compound.isalpha():
            return frozenset()
        terms = frozenset(filter(None, self._terms(compound)))
        if len(compound) <= _MAX_TERM:
            if len(self) >= _MAX_CACHED:
                self.clear()
            self[compound] = terms
        return terms


def _stemmer(language: str) -> Stemmer.Stemmer:
    """Return the stemmer of a language; for English Porter's first, which measured no worse than his second."""
    return Stemmer.Stemmer("porter" if language == "english" else language, 0)  # no cache: `_Words` is one


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_INVISIBLE)


def _fold(word: str) -> str:
    """Return the word without diacritics. Marks that are vowels in their script stay."""
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", _DIACRITIC.sub("", unicodedata.normalize("NFD", word)))


def _is_name(compound: str) -> bool:
    """Return whether a compound is a term as a whole, which hyphenated ordinary words are not."""
    return "_" in compound or "." in compound or any(character.isdigit() for character in compound)


def _content_words(compounds: list[str]) -> list[str]:
    """Return the compounds that are no function words."""
    lower = [compound.lower() for compound in compounds]
    functional = function_words(set(lower))
    return [compound for compound, low in zip(compounds, lower, strict=True) if low not in functional]


def function_words(lower: set[str]) -> frozenset[str]:
    """Return the function words of the Latin language that these words seem to be in, and those of other scripts."""
    words = STOP_WORDS[guess_latin(lower, least=1)]
    others = {language for word in lower if (language := language_of_word(word)) is not None}
    return words.union(*(STOP_WORDS[language] for language in others))
