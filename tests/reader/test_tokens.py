from hypothesis import assume, given
from hypothesis import strategies as st
from reader.corpus import Corpus
from reader.examples import Examples, Message
from reader.tokens import END, SPECIAL, Kinship, encode, families, prompt_ids, telling
from tokenizers import Tokenizer


def test_any_text_comes_back(tokenizer: Tokenizer) -> None:
    @given(st.text())
    def comes_back(text: str) -> None:
        assume(not any(name in text for name in SPECIAL))  # which is what they are to the trainer
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    comes_back()


def test_source_numbers_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert all(len(tokenizer.encode(f"[{number}]").ids) == 3 for number in range(1, 100))


def test_copied_tokens_spell_what_is_said(corpus: Corpus, tokenizer: Tokenizer) -> None:
    examples, kinship, copied, odd = Examples(corpus, 4), Kinship(tokenizer), 0, 0
    for _ in range(60):
        each = encode(tokenizer, examples.next(), kinship)
        for at in (each.copied >= 0).nonzero()[0]:
            said, source = (tokenizer.decode([int(each.ids[i])]).strip() for i in (at + 1, each.copied[at]))
            copied += 1
            odd += not (said.startswith(source) or source.startswith(said))
            assert each.copied[at] <= at and each.chosen[at] <= at and each.is_answer[at + 1]
    assert copied > 500 and odd < 0.02 * copied  # a first word may be cut otherwise without the space before it


def test_what_is_learned_is_the_answers_with_their_end(tokenizer: Tokenizer) -> None:
    messages = [Message("user", "Question: why?", question=(10, 14)), Message("assistant", "Because.")]

    each = encode(tokenizer, messages, Kinship(tokenizer))

    learned = [int(id) for id in each.ids[each.is_answer]]
    assert tokenizer.decode(learned[:-1]) == "Because." and learned[-1] == END
    asked = each.ids[each.asked[each.is_answer.argmax()] : each.asked_end[each.is_answer.argmax()] + 1]
    assert tokenizer.decode([int(id) for id in asked]).strip() == "why?"


def test_sources_are_read_with_the_question_in_mind(corpus: Corpus, tokenizer: Tokenizer) -> None:
    examples, kinship, num_like, num_right = Examples(corpus, 9), Kinship(tokenizer), 0, 0
    kin = families(tokenizer)
    for _ in range(60):
        each = encode(tokenizer, examples.next(), kinship)
        for at in (each.like >= 0).nonzero()[0]:
            said, asked = (kin[int(each.ids[i])] for i in (at, each.like[at]))
            assert said[1] == asked[1] and each.lead[at] <= each.like[at] < each.start[at]
            num_like += 1
        for at in (each.right == 1).nonzero()[0]:
            assert at in each.chosen
            num_right += 1
        assert (each.lead[each.right >= 0] >= 0).all()
    assert num_like > 500 and num_right > 50


def test_prompts_are_what_was_learned(tokenizer: Tokenizer) -> None:
    messages = [Message("system", "Cite."), Message("user", "Question: why?"), Message("assistant", "So.")]

    each = encode(tokenizer, messages, Kinship(tokenizer))
    prompt = prompt_ids(tokenizer, [(m.role, m.text) for m in messages[:2]])

    assert list(each.ids[: len(prompt)]) == prompt and each.is_answer[len(prompt)]


def test_small_words_tell_nothing(tokenizer: Tokenizer) -> None:
    tells = telling(tokenizer)

    assert not tells[[tokenizer.token_to_id(token) for token in (*SPECIAL, "Ġthe", ".")]].any()
    assert tells[tokenizer.encode(" kettle").ids].all()
