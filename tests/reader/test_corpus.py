from reader.corpus import Corpus, IdfWeights, Page, content_words, sentence_spans, stem, stems


def test_sentence_spans_are_the_sentences_of_the_server() -> None:
    text = "One thing is here. Another thing!\nA third line\n---\n"

    assert [text[a:b] for a, b in sentence_spans(text)] == ["One thing is here.", "Another thing!", "A third line"]


def test_held_out_pages_and_questions_are_not_in_the_training_set(corpus: Corpus) -> None:
    training, held_out = {page.path for page in corpus.pages}, {page.path for page in corpus.held_out_pages}

    assert held_out and not training & held_out
    assert corpus.held_out_questions and not training & {each.page.path for each in corpus.held_out_questions}


def test_each_question_about_a_paper_has_the_sentence_with_its_answer(corpus: Corpus) -> None:
    for each in (*corpus.questions, *corpus.held_out_questions):
        start, end = each.sentence
        assert each.question == "Who built the wheel?"  # the other one's answer is the title, which is no paragraph
        assert each.page.paragraphs[each.paragraph][start:end] == "Its wheel was built by the miller's son."


def test_inflections_share_a_stem_and_stop_words_are_left_out() -> None:
    assert len({stem(word) for word in ("start", "starts", "Started", "starting")}) == 1
    assert content_words("What is the Parental leave?") == ["Parental", "leave"]


def test_a_stem_of_every_page_weighs_less_than_a_rare_one() -> None:
    pages = [Page(str(i), [f"kettle number{i}"]) for i in range(9)]
    idf = IdfWeights(pages)

    assert idf.weight("kettl") < idf.weight("number3")
    assert idf.overlap(stems("kettle number3"), stems("number3")) == idf.weight(stem("number3"))
