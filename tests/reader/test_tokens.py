from hypothesis import assume, given
from hypothesis import strategies as st
from reader.conversation import Message
from reader.corpus import Corpus
from reader.examples import Examples
from reader.tokens import END, SPECIAL, StemIndex, content_token_mask, encode, prompt_ids, token_features
from tokenizers import Tokenizer


def test_decoding_the_tokens_of_a_text_gives_the_text(tokenizer: Tokenizer) -> None:
    @given(st.text())
    def check(text: str) -> None:
        assume(not any(name in text for name in SPECIAL))  # the tokenizer would turn these into special tokens
        assert tokenizer.decode(tokenizer.encode(text).ids) == text

    check()


def test_source_numbers_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert all(len(tokenizer.encode(f"[{number}]").ids) == 3 for number in range(1, 100))


def test_copied_token_labels_point_at_the_same_text(corpus: Corpus, tokenizer: Tokenizer) -> None:
    examples, stem_index, num_copied, num_different = Examples(corpus, 4), StemIndex(tokenizer), 0, 0
    for _ in range(60):
        tokens = encode(tokenizer, examples.next(), stem_index)
        for at in (tokens.copied_token >= 0).nonzero()[0]:
            copy, source = (tokenizer.decode([int(tokens.ids[i])]).strip() for i in (at + 1, tokens.copied_token[at]))
            num_copied += 1
            num_different += not (copy.startswith(source) or source.startswith(copy))
            assert tokens.copied_token[at] <= at and tokens.selected_sentence[at] <= at and tokens.is_answer[at + 1]
    # A first word may be tokenized differently without the space before it.
    assert num_copied > 500 and num_different < 0.02 * num_copied


def test_answers_are_labelled_with_their_end_and_their_question(tokenizer: Tokenizer) -> None:
    messages = [Message("user", "Question: why?", question=(10, 14)), Message("assistant", "Because.")]

    tokens = encode(tokenizer, messages, StemIndex(tokenizer))

    answer = [int(id) for id in tokens.ids[tokens.is_answer]]
    assert tokenizer.decode(answer[:-1]) == "Because." and answer[-1] == END
    first = tokens.is_answer.argmax()
    question = tokens.ids[tokens.question_start[first] : tokens.question_end[first] + 1]
    assert tokenizer.decode([int(id) for id in question]).strip() == "why?"


def test_source_tokens_are_labelled_with_matching_tokens_of_the_leading_question(
    corpus: Corpus, tokenizer: Tokenizer
) -> None:
    examples, stem_index, num_matches, num_relevant = Examples(corpus, 9), StemIndex(tokenizer), 0, 0
    features = token_features(tokenizer)
    for _ in range(60):
        tokens = encode(tokenizer, examples.next(), stem_index)
        for at in (tokens.matching_token >= 0).nonzero()[0]:
            token, match = (features[int(tokens.ids[i])] for i in (at, tokens.matching_token[at]))
            assert token.stem == match.stem
            assert tokens.lead_start[at] <= tokens.matching_token[at] < tokens.sentence_start[at]
            num_matches += 1
        for at in (tokens.is_relevant == 1).nonzero()[0]:
            assert at in tokens.selected_sentence
            num_relevant += 1
        assert (tokens.lead_start[tokens.is_relevant >= 0] >= 0).all()
    assert num_matches > 500 and num_relevant > 50


def test_prompts_have_the_tokens_of_the_training_conversations(tokenizer: Tokenizer) -> None:
    messages = [Message("system", "Cite."), Message("user", "Question: why?"), Message("assistant", "So.")]

    tokens = encode(tokenizer, messages, StemIndex(tokenizer))
    prompt = prompt_ids(tokenizer, [(m.role, m.text) for m in messages[:2]])

    assert list(tokens.ids[: len(prompt)]) == prompt and tokens.is_answer[len(prompt)]


def test_special_tokens_stop_words_and_punctuation_are_not_content(tokenizer: Tokenizer) -> None:
    is_content = content_token_mask(tokenizer)

    assert not is_content[[tokenizer.token_to_id(token) or 0 for token in (*SPECIAL, "Ġthe", ".")]].any()
    assert is_content[tokenizer.encode(" kettle").ids].all()
