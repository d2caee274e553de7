from reader.corpus import Corpus, Page, Rarity, spans, stem, stems, words


def test_sentences_are_those_of_the_product() -> None:
    text = "One thing is here. Another thing!\nA third line\n---\n"

    assert [text[a:b] for a, b in spans(text)] == ["One thing is here.", "Another thing!", "A third line"]


def test_held_out_text_is_not_learned_from(corpus: Corpus) -> None:
    learned, held = {page.path for page in corpus.pages}, {page.path for page in corpus.held_pages}

    assert held and not learned & held
    assert corpus.held_asked and not learned & {each.page.path for each in corpus.held_asked}


def test_a_question_of_a_paper_keeps_the_sentence_with_its_answer(corpus: Corpus) -> None:
    for each in (*corpus.asked, *corpus.held_asked):
        start, end = each.sentence
        assert each.question == "Who built the wheel?"  # the title holds no paragraph
        assert each.page.paragraphs[each.paragraph][start:end] == "Its wheel was built by the miller's son."


def test_inflections_share_a_stem() -> None:
    assert len({stem(word) for word in ("start", "starts", "Started", "starting")}) == 1
    assert words("What is the Parental leave?") == ["Parental", "leave"]


def test_what_stands_everywhere_tells_little() -> None:
    pages = [Page(str(i), [f"kettle number{i}"]) for i in range(9)]
    rarity = Rarity(pages)

    assert rarity.of("kettl") < rarity.of("number3")
    assert rarity.shared(stems("kettle number3"), stems("number3")) == rarity.of(stem("number3"))
