"""Text to terms: the one analysis both lexical engines are given.

A term consists of letters, digits, combining marks and `._-` only, so that engines that split at white space store
it as it is. Words are folded (Unicode compatibility, case, diacritics) and stemmed by Snowball. Identifiers, paths,
version numbers and error codes stand whole and in parts. Scripts written without spaces become pairs of characters.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import Stemmer

from index.lexical.languages import DEFAULT, LATIN, STOP_WORDS, guess_latin, language_of_word

VERSION = 1  # of the terms; another one means that everything is analyzed anew
_LONGEST = 64  # characters of a term; more is neither a word nor an identifier
_MOST_CACHED = 200_000  # words

# Marks that belong to letters, which \w leaves out: without them words of most Indian scripts would fall apart.
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
    """Keeps what it made of each word. Not to be shared between threads."""

    def __init__(self) -> None:
        self._words = {language: _Words(language, is_question=False) for language in LATIN}
        self._asked = {language: _Words(language, is_question=True) for language in LATIN}

    def document(self, text: str) -> Analysis:
        """The terms of a text to be found."""
        compounds = _COMPOUND.findall(_normal(text))
        distinct = set(compounds)
        language = guess_latin(distinct, least=3)
        words = self._words[language]
        terms = " ".join(filter(None, map(words.__getitem__, compounds)))
        # Once each, and only where no word says it already: names that code repeats must not outweigh the prose.
        if named := set().union(*filter(None, map(words.names.__getitem__, distinct))):
            terms = " ".join((terms, *sorted(named.difference(terms.split()))))
        return Analysis(terms.strip(), language)

    def question(self, text: str, languages: Collection[str] = (DEFAULT,)) -> Counter[str]:
        """The terms to look for, each with how often it was asked for, in a corpus with these Latin languages.

        Function words are left out unless there is nothing else.
        """
        compounds = _COMPOUND.findall(_normal(text))
        return self._count(_telling(compounds), languages) or self._count(compounds, languages)

    def coverage(self, question: str, text: str) -> float:
        """The share of the question's words, each counted once, that stand in the text in some form; 0 without any.
        Function words count only if there is nothing else."""
        compounds = _COMPOUND.findall(_normal(question))
        document = self.document(text)
        terms, asked = set(document.terms.split()), self._asked[document.language]
        forms = [{*asked[word].split(), *asked.names[word]} for word in set(_telling(compounds) or compounds)]
        forms = [each for each in forms if each]
        return sum(not each.isdisjoint(terms) for each in forms) / len(forms) if forms else 0.0

    def _count(self, compounds: Iterable[str], languages: Collection[str]) -> Counter[str]:
        asked: Counter[str] = Counter()
        for compound in compounds:
            asked.update({term for language in languages for term in self._asked[language][compound].split()})
            asked.update({term for language in languages for term in self._asked[language].names[compound]})
        return asked


class _Words(dict[str, str]):
    """Compounds as they stand in a text, to the terms of their words, separated by a space."""

    def __init__(self, language: str, *, is_question: bool) -> None:
        super().__init__()
        self.names = _Names(self._whole_and_humps)
        self.is_question = is_question
        self._stem = _stemmer(language)
        self._folds_first = language == DEFAULT  # the other stemmers look at diacritics
        self._of_script: dict[str, Stemmer.Stemmer] = {}

    def __missing__(self, compound: str) -> str:
        terms = " ".join(self._terms(compound))
        if len(compound) <= _LONGEST:
            if len(self) >= _MOST_CACHED:
                self.clear()
            self[compound] = terms
        return terms

    def _terms(self, compound: str) -> Iterator[str]:
        for part in _PART.findall(compound):
            end = 0
            for run in _SPACELESS_RUN.finditer(part):
                yield from self._stemmed(part[end : run.start()])
                yield from self._pairs(run.group())
                end = run.end()
            yield from self._stemmed(part[end:])

    def _stemmed(self, word: str) -> Iterator[str]:
        folded = word.casefold()
        if not folded:
            return
        stemmer = self._stem
        if (of_script := language_of_word(folded)) is not None:
            stemmer = self._of_script.get(of_script) or self._of_script.setdefault(of_script, _stemmer(of_script))
        elif self._folds_first:
            folded = _fold(folded)
        term = _fold(stemmer.stemWord(folded))[:_LONGEST]
        if term:
            yield term
        if self.is_question and (plain := _fold(folded)) != folded:
            other = _fold(stemmer.stemWord(plain))[:_LONGEST]
            if other not in ("", term):
                yield other

    def _pairs(self, run: str) -> Iterator[str]:
        """Pairs of neighbours; in documents single characters too, for questions that are one character."""
        if len(run) == 1 or not self.is_question:
            yield from run
        yield from map("".join, pairwise(run))

    def _whole_and_humps(self, compound: str) -> Iterator[str]:
        """What an identifier, a path, a version or an error code adds to its words."""
        if _SPACELESS_RUN.search(compound):
            return
        parts = _PART.findall(compound)
        if len(parts) > 1 and len(compound) <= _LONGEST and _is_name(compound):
            yield _fold(compound.casefold()).strip("._-")
        for part in parts:
            humps = _HUMP.split(part)
            # A word of two humps that begins with a capital is a proper name: TypeScript is not about scripts.
            if len(humps) > (1 if part[0].islower() else 2):
                for hump in humps:
                    yield from self._stemmed(hump)


class _Names(dict[str, frozenset[str]]):
    """Compounds to what they add as names; nothing, for most."""

    def __init__(self, terms: Callable[[str], Iterable[str]]) -> None:
        super().__init__()
        self._terms = terms

    def __missing__(self, compound: str) -> frozenset[str]:
        if compound.islower() and compound.isalpha():
            return frozenset()
        terms = frozenset(filter(None, self._terms(compound)))
        if len(compound) <= _LONGEST:
            if len(self) >= _MOST_CACHED:
                self.clear()
            self[compound] = terms
        return terms


def _stemmer(language: str) -> Stemmer.Stemmer:
    """Porter's first stemmer for English: at or above his second one on the sets measured."""
    return Stemmer.Stemmer("porter" if language == "english" else language, 0)  # 0: `_Words` is the cache


def _normal(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_INVISIBLE)


def _fold(word: str) -> str:
    """Without diacritics. Marks that are vowels in their script stay."""
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", _DIACRITIC.sub("", unicodedata.normalize("NFD", word)))


def _is_name(compound: str) -> bool:
    """Whether a compound is looked for as a whole too: not where hyphens join ordinary words."""
    return "_" in compound or "." in compound or any(character.isdigit() for character in compound)


def _telling(compounds: list[str]) -> list[str]:
    """Those that are no function words."""
    lower = [compound.lower() for compound in compounds]
    functional = function_words(set(lower))
    return [compound for compound, low in zip(compounds, lower, strict=True) if low not in functional]


def function_words(lower: set[str]) -> frozenset[str]:
    """Those of the language a question seems to be in; of other scripts, all."""
    words = STOP_WORDS[guess_latin(lower, least=1)]
    others = {language for word in lower if (language := language_of_word(word)) is not None}
    return words.union(*(STOP_WORDS[language] for language in others))
