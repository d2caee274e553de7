import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.types import Query
from models.llm.chat.messages import ChatMessage
from server.rag.followups import FollowUpDependence, follow_up_dependence, search_queries
from server.rag.prompts import NO_ANSWER


def conversation(*turns: str) -> list[ChatMessage]:
    """Return messages of a user and an assistant, in turn."""
    return [ChatMessage.of_text("assistant" if at % 2 else "user", text) for at, text in enumerate(turns)]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("And on macOS?", FollowUpDependence.MUCH),
        ("what about the logs of the encoder process?", FollowUpDependence.MUCH),
        ("How large may it be?", FollowUpDependence.MUCH),
        ("Can I change that?", FollowUpDependence.MUCH),
        ("Und unter Windows?", FollowUpDependence.MUCH),
        ("Et sous Windows ?", FollowUpDependence.MUCH),
        ("¿Y en Windows?", FollowUpDependence.MUCH),
        ("E su Windows?", FollowUpDependence.MUCH),
        ("Wie groß ist dessen Speicher?", FollowUpDependence.MUCH),
        ("Several?", FollowUpDependence.SOME),
        ("How many parameters?", FollowUpDependence.SOME),
        ("Does the limit of tokens count for the length of it too?", FollowUpDependence.SOME),
        ("", FollowUpDependence.SOME),
        ("How do I install a C++ compiler?", FollowUpDependence.NONE),
        ("Which files that were deleted stay in the index?", FollowUpDependence.NONE),
        ("Wie installiere ich einen Compiler unter Windows?", FollowUpDependence.NONE),
        ("日本語の文書をどうやって索引に入れますか 設定 方法", FollowUpDependence.NONE),
    ],
)
def test_follow_up_dependence_of_a_question(question: str, expected: FollowUpDependence) -> None:
    assert follow_up_dependence(question) is expected


@given(st.text())
def test_a_first_question_has_one_query(question: str) -> None:
    for messages in (
        conversation(question),
        [ChatMessage.of_text("system", "Be brief."), ChatMessage.of_text("user", question)],
    ):
        assert search_queries(messages) == [Query(question)]


def test_a_follow_up_is_searched_with_the_question_and_the_answer_before() -> None:
    messages = conversation("Where is the index on Linux?", "In the data folder. [1]", "And on macOS?")
    assert search_queries(messages) == [
        Query("And on macOS?", 0.3),
        Query("Where is the index on Linux? In the data folder. And on macOS?", 1.0),
    ]
    assert search_queries(conversation("Where is it?", "There. [1][2]", "Several?"))[0].weight == 1.0


def test_an_independent_question_has_one_query() -> None:
    question = "How do I install a C++ compiler?"
    assert search_queries(conversation("Where is the index?", "In the data folder.", question)) == [Query(question)]


def test_a_follow_up_of_a_follow_up_is_searched_with_both_questions_before() -> None:
    messages = conversation(
        "What fits a GPU?", "Old.", "Where is the index?", "Here.", "And on macOS?", "There.", "Why?"
    )
    assert search_queries(messages)[1].text == "Where is the index? And on macOS? There. Why?"


def test_queries_cut_long_answers_and_leave_refusals_out() -> None:
    text = search_queries(conversation("A question here?", "Long sentence number one. " * 100, "Why?"))[1].text
    assert len(text) < 500
    assert text.endswith("number one. Why?")
    assert search_queries(conversation("Where is it?", NO_ANSWER, "Why?"))[1].text == "Where is it? Why?"


@given(st.lists(st.text(max_size=30), min_size=1, max_size=9).filter(lambda turns: len(turns) % 2 == 1))
def test_the_first_query_is_always_the_question_with_a_weight(turns: list[str]) -> None:
    first, *others = search_queries(conversation(*turns))
    assert first.text == turns[-1]
    assert first.weight > 0
    assert len(others) <= 1
    assert all(other.text.endswith(turns[-1]) and other.text.strip() for other in others)
