"""Why it exists: every driver of a language model passes the same suite, so that the server need not know which it has.

Subclass ``LlmDriverContract`` in a test module and give it a ``driver`` fixture with a loaded driver.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from sutazai.llm.drivers.protocol import BadRequestError, ChatRequest, Message

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Driver, Finish

WAIT_S_MAX = 60.0


def ask(text: str, max_tokens: int = 16) -> ChatRequest:
    """A question of one message."""
    return ChatRequest(messages=(Message("user", text),), max_tokens=max_tokens)


def answer(driver: Driver, request: ChatRequest) -> tuple[str, Finish]:
    """The whole text and how it ended."""
    pieces: list[str] = []

    def take(piece: str) -> bool:
        pieces.append(piece)
        return True

    finish = driver.chat(request, take)
    return "".join(pieces), finish


def check(holds: bool, what: str) -> None:  # noqa: FBT001 the sentence reads better
    """Fail with a sentence."""
    if not holds:
        raise AssertionError(what)


class LlmDriverContract:
    """What the server relies on."""

    def test_it_answers_and_counts(self, driver: Driver) -> None:
        """An answer has text, a reason, and counted tokens of both sides."""
        text, finish = answer(driver, ask("say: hello there"))
        check(bool(text), "an answer has text")
        check(finish.reason in {"stop", "length"}, "an answer ends with a reason")
        check(finish.prompt_tokens > 0 and 0 < finish.completion_tokens <= 16, "tokens of both sides are counted")  # noqa: PLR2004

    def test_max_tokens_bounds_it(self, driver: Driver) -> None:
        """An answer that would go on ends at the bound, and says so."""
        _, finish = answer(driver, replace(ask("endless", 4), stop=()))
        check(finish.reason == "length" and finish.completion_tokens <= 4, "the bound ends an answer")  # noqa: PLR2004

    def test_temperature_zero_repeats_itself(self, driver: Driver) -> None:
        """The same question gives the same answer."""
        first, _ = answer(driver, ask("say: one two three"))
        second, _ = answer(driver, ask("say: one two three"))
        check(first == second, f"temperature 0 repeats itself: {first!r}, {second!r}")

    def test_a_schema_is_kept(self, driver: Driver) -> None:
        """An answer under a schema is JSON that fits it."""
        fields = {"colour": {"enum": ["red", "blue"]}, "sure": {"type": "boolean"}}
        schema = {"type": "object", "properties": fields, "required": ["colour", "sure"], "additionalProperties": False}
        text, _ = answer(driver, replace(ask("Which colour has the sky?", 64), schema=schema))
        value = json.loads(text)
        check(set(value) == {"colour", "sure"} and value["colour"] in {"red", "blue"}, f"{text} does not fit")

    def test_a_caller_can_stop_it(self, driver: Driver) -> None:
        """After the caller's no, no further piece comes and the finish says cancelled."""
        pieces: list[str] = []

        def take(piece: str) -> bool:
            pieces.append(piece)
            return len(pieces) < 2  # noqa: PLR2004 the second piece is the last

        finish = driver.chat(ask("endless", 256), take)
        check(finish.reason == "cancelled" and len(pieces) == 2, "a no ends an answer")  # noqa: PLR2004

    def test_a_conversation_that_is_too_long_is_refused(self, driver: Driver) -> None:
        """What does not fit the context is the caller's mistake, and the driver goes on working."""
        try:
            answer(driver, ask("word " * 50_000))
        except BadRequestError:
            answer(driver, ask("say: still here"))
        else:
            raise AssertionError("a conversation beyond the context was answered")

    def test_it_answers_several_at_once(self, driver: Driver) -> None:
        """As many threads as there are slots may ask at the same time."""
        both = threading.Barrier(2, timeout=WAIT_S_MAX)

        def one(number: int) -> str:
            both.wait()
            return answer(driver, ask(f"say: number {number}"))[0]

        with ThreadPoolExecutor(2) as threads:
            texts = list(threads.map(one, range(2)))
        check(all(texts), "both are answered")

    def test_text_of_all_languages_goes_through(self, driver: Driver) -> None:
        """Umlauts, emoji and quotes in a question break nothing."""
        text, finish = answer(driver, ask('say: grün "🌲" \\ 日本'))
        check(bool(text) and finish.completion_tokens > 0, "an answer comes")
