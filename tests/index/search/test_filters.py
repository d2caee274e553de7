import pytest

from index.errors import InvalidFilter
from index.search.filters import compile_filter
from index.types import Filters

_FILES = {"a.md": 1, "notes/a.md": 2, "notes/draft/b.PDF": 3, "notes/draft/c.md.txt": 4, "x/draft/d.md": 5}


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (Filters(), [1, 2, 3, 4, 5]),
        (Filters(paths=("*.md",)), [1, 2, 5]),
        (Filters(paths=("/*.md",)), [1]),
        (Filters(paths=("notes/",)), [2, 3, 4]),
        (Filters(paths=("notes/*.md", "x/**")), [2, 5]),
        (Filters(paths=("!draft/", "*.md")), [1, 2]),
        (Filters(paths=("!draft/",)), [1, 2]),
        (Filters(paths=("A.md",)), []),
        (Filters(kinds=("md",)), [1, 2, 5]),
        (Filters(kinds=(".pdf", "Md")), [1, 2, 3, 5]),
        (Filters(modified_after=2e-9, modified_before=4e-9), [2, 3]),
        (Filters(modified_after=1.7e308), []),
        (Filters(modified_before=-1.7e308), []),
        (Filters(kinds=("md",), paths=("notes/",), modified_after=2e-9), [2]),
    ],
)
def test_a_file_passes_if_it_meets_all_conditions(filters: Filters, passing: list[int]) -> None:
    passes = compile_filter(filters)
    assert [number for path, number in _FILES.items() if passes(path, number)] == passing


@pytest.mark.parametrize("pattern", ["\\", "!\\"])
def test_an_invalid_pattern_is_named(pattern: str) -> None:
    with pytest.raises(InvalidFilter) as error:
        compile_filter(Filters(paths=("*.md", pattern)))
    assert error.value.pattern == pattern.removeprefix("!")
