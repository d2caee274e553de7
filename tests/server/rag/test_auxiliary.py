"""Auxiliary requests as clients write them (abridged), and questions of people that sound like them."""

import pytest

from models.llm.chat.messages import ChatMessage
from server.rag.auxiliary import is_auxiliary

HISTORY = "### Chat History:\n<chat_history>\nUSER: how long is leave?\nASSISTANT: 16 weeks [1]\n</chat_history>"

AUXILIARY_REQUESTS = [
    # Open WebUI
    f'### Task:\nGenerate a concise, 3-5 word title.\n### Output:\nJSON format: {{ "title": "…" }}\n{HISTORY}',
    f"### Task:\nGenerate 1-3 broad tags categorizing the main themes.\n\n### Guidelines:\n- …\n\n{HISTORY}",
    f"### Task:\nSuggest 3-5 relevant follow-up questions.\n### Guidelines:\n- …\n{HISTORY}",
    f"### Task:\nAnalyze the chat history and generate search queries.\n\n{HISTORY}\n",
    f"### Task:\nGenerate a detailed prompt for am image generation task.\n\n{HISTORY}",
    "### Task:\nYou are an autocompletion system. Continue `<text>`.\n<type>General</type>\n<text>how</text>",
    "Your task is to reflect the speaker's likely facial expression through a fitting emoji.\n\nMessage: ```hi```",
    'You have been provided with a set of responses from various models to the latest user query: "how long?"',
    "Here is the query:\nhow long?\n\nCreate a concise, 3-5 word phrase as a title for the previous query.",
    "Create a concise, 3-5 word title with an emoji as a title for the chat history, in the given language.",
    "Create a concise, 3-5 word title with an emoji as a title for the prompt in the given language.",
    "Based on the chat history, determine whether a search is necessary.",
    # Continue
    "Given the following... please reply with a title for the chat that is 3-4 words in length.\n\n16 weeks.",
    "Given the following... please reply with a short summary that is 4-12 words in length.\n\nhow long is leave?",
    "Create a comprehensive summary of this conversation that captures all essential information.",
    # LibreChat
    "Provide a concise, 5-word-or-less title for the conversation. Only return the title.\n\nConversation:\nUser: hi",
    "Analyze this conversation and provide:\n1. The detected language of the conversation\n2. A concise title\n\nhi",
    "Please generate a concise title (max 40 characters) for a conversation that starts with:\nUser: hi\n\nTitle:",
    "Summarize the conversation by integrating new lines into the current summary.\n\nCurrent summary:\n…",
    # editors
    "Generate a concise 3-7 word title for this conversation, omitting punctuation.",
    "Generate a detailed summary of this conversation. Include:\n1. A brief overview",
    '<explicit_instructions type="condense">\nThe user has asked for a summary.\n</explicit_instructions>',
    "Summarize the conversation so far, as described in the prompt instructions.",
    "Your task is to create a detailed summary of the conversation so far, paying attention to requests.",
    # others
    "Please generate a four to five word title summarizing our conversation without any lead-in.",
    "Summarize the discussion briefly in 200 words or less to use as a prompt for future context.",
    "Based on the chat history, give this conversation a name.",
    "Write a short title for this chat, at most 6 words.",
    "Generate a very short chat title (2-5 words max) based on the user's message.",
    "Create a title for the conversation based on its first message",
]

BY_INSTRUCTION = [
    ("You are an expert in crafting pithy titles for chatbot conversations. …", "Please write a brief title: leave?"),
    ("You are a title generator. You output ONLY a thread title.", "how long is leave?"),
    ("You are an assistant skilled in conversation. Put the user's conversation into a title within 10 words.", "hi"),
    ("Write a concise title for this conversation in the given language.\n\n||>User: hi", "Language: English"),
    ("In this environment you have access to a set of tools you can use to generate the conversation title.", "hi"),
    ("Generate a concise, descriptive title for this conversation based on the user's message.", "how long?"),
    ("- You will generate a short title based on the user's first message\n- At most 80 characters", "how long?"),
    ("Generate a short title (max 50 characters) for a conversation based on the user's first message.", "leave?"),
    ('Available Tools: []\n\nReturn JSON with a "tool_calls" array.', "Query: History: … how long is leave?"),
    ("Your task is to create a detailed summary of the conversation so far.", "how long is leave?"),
]

BY_PEOPLE = [
    "How long is parental leave?",
    "What is the title of the travel policy?",
    "Which tags does the style guide allow?",
    "Generate a concise 3-7 word summary of the leave policy",
    "Summarize the handbook's chapter on leave.",
    "Summarize the conversation with Acme about the renewal.",
    "Give me a summary of what the minutes say about the chat widget.",
    "Write a title for the chapter on parental leave.",
    "Suggest a title for the conversation guide that we hand to new staff.",
    "Write a job title that suits the thread of the story in chapter 2.",
    "Generate a report title page for the discussion paper.",
    "Create a comprehensive summary of the security policy.",
    "Provide a concise answer: who signs travel requests?",
    "Please generate a list of all follow-up questions in the interview guide.",
    "What does '### Task:' mean in our prompt guidelines?",
    "### Task:\nFind the deadline for expense reports.",
    "Our prompt says: you are a title generator. Where is it documented?",
    "Analyze this conversation and provide the decisions: the minutes of May",
    "How do we title conversations in the chat tool?",
    "Which emoji may we use with customers?",
    "",
    # Open WebUI's own retrieval around a person's question
    "### Task:\nRespond to the user query using the provided context.\n<context>\n…\n</context>\nhow long is leave?",
    "### Task:\nRespond to the user query.\n<context>\nPut <chat_history> last.\n</context>\nwhere does it go?",
]


@pytest.mark.parametrize("prompt", AUXILIARY_REQUESTS)
def test_auxiliary_requests_of_clients_are_recognized(prompt: str) -> None:
    earlier = [ChatMessage.of_text("user", "how long is leave?"), ChatMessage.of_text("assistant", "16 weeks [1]")]
    request = ChatMessage.of_text("user", prompt)
    assert is_auxiliary([request])
    assert is_auxiliary([ChatMessage.of_text("system", "Be brief."), *earlier, request])


@pytest.mark.parametrize(("system", "prompt"), BY_INSTRUCTION)
def test_some_auxiliary_requests_are_recognized_by_their_system_message(system: str, prompt: str) -> None:
    request = ChatMessage.of_text("user", prompt)
    assert is_auxiliary([ChatMessage.of_text("system", system), request])
    assert not is_auxiliary([request])
    assert not is_auxiliary([ChatMessage.of_text("system", f"Be brief. {prompt}"), request])


@pytest.mark.parametrize("question", BY_PEOPLE)
def test_questions_of_people_are_not_auxiliary(question: str) -> None:
    request = ChatMessage.of_text("user", question)
    assert not is_auxiliary([request])
    assert not is_auxiliary([ChatMessage.of_text("system", "You title documents and tag conversations."), request])


def test_a_conversation_that_ends_with_a_reply_or_a_tool_result_is_not_auxiliary() -> None:
    request = ChatMessage.of_text("user", AUXILIARY_REQUESTS[0])
    assert not is_auxiliary([])
    assert not is_auxiliary([request, ChatMessage.of_text("assistant", "Leave")])
    assert not is_auxiliary([ChatMessage.of_text("tool", AUXILIARY_REQUESTS[0])])
