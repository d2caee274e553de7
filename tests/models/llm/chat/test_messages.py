import msgspec

from models.llm.chat.messages import ChatMessage, TextPart, ToolCall, replace_text


def test_text_of_a_message_is_the_text_of_all_its_parts() -> None:
    assert ChatMessage("user", (TextPart("What "), TextPart("now?"))).text == "What now?"
    assert ChatMessage("user").text == ""


def test_an_empty_text_makes_a_message_without_parts() -> None:
    assert ChatMessage.of_text("assistant", "") == ChatMessage("assistant")


def test_replacing_the_text_keeps_everything_else() -> None:
    calls = [ToolCall("1", "now", "{}")]
    message = ChatMessage.of_text("assistant", "a", calls, reasoning="Hm.")
    assert replace_text(message, "b") == ChatMessage.of_text("assistant", "b", calls, reasoning="Hm.")


def test_parts_name_their_type_when_they_are_encoded() -> None:
    message = ChatMessage.of_text("user", "Hi")
    assert msgspec.json.decode(msgspec.json.encode(message), type=ChatMessage) == message
    assert b'"content":[{"type":"text","text":"Hi"}]' in msgspec.json.encode(message)
