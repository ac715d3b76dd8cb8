"""The embedding model's keeper: on demand, in batches, within memory, gone again when nobody asks."""

from __future__ import annotations

import asyncio
import math

import pytest

from sutazai.errors import NotFoundError, QueueFullError, UnavailableError
from sutazai.llm.embedder import BATCH_TEXTS, WAITING_MAX, Embedder, shortened
from sutazai.testing.fake_vectors import NEED_BYTES, FakeVectors


async def _until_unloaded(fake: FakeVectors) -> None:
    async with asyncio.timeout(30):
        while fake.loaded:  # noqa: ASYNC110 a thread changes it, there is no event to wait for
            await asyncio.sleep(0.001)


def test_it_loads_at_the_first_text_and_leaves_when_idle() -> None:
    """No memory before the first text; one load for many lists; unloaded after the idle time, loaded again later."""

    async def run() -> None:
        fake = FakeVectors()
        embedder = Embedder(fake, None, idle_s=0.0)
        assert (embedder.state, embedder.need_bytes) == ("idle", 0)
        found = await embedder.embed(["a", "b"], cut=True)
        assert (len(found.values), found.tokens) == (2, 2)
        assert found.load_ns > 0
        await _until_unloaded(fake)
        assert embedder.state == "idle"
        await embedder.embed(["a"], cut=True)
        assert fake.loads == 2
        await embedder.close()

    asyncio.run(run())


def test_while_it_is_used_it_stays() -> None:
    """Within the idle time a second list finds it in memory: no time for loading."""

    async def run() -> None:
        fake = FakeVectors()
        embedder = Embedder(fake, None, idle_s=3_600.0)
        await embedder.embed(["a"], cut=True)
        assert (await embedder.embed(["b"], cut=True)).load_ns == 0
        assert (fake.loads, embedder.state, embedder.need_bytes) == (1, "loaded", NEED_BYTES)
        await embedder.close()
        assert not fake.loaded

    asyncio.run(run())


def test_long_lists_go_in_batches_and_in_order() -> None:
    """A list is cut into batches, and the vectors come in the order of the texts."""

    async def run() -> None:
        fake = FakeVectors()
        embedder = Embedder(fake, None)
        texts = ["cat" if number % 3 == 0 else "dog" for number in range(BATCH_TEXTS * 2 + 3)]
        found = await embedder.embed(texts, cut=True)
        assert fake.batches == [BATCH_TEXTS, BATCH_TEXTS, 3]
        assert [row[0] > 0 for row in found.values] == [text == "cat" for text in texts]
        await embedder.close()

    asyncio.run(run())


def test_who_goes_frees_the_line() -> None:
    """A list whose client has gone computes no further batch."""

    async def run() -> None:
        fake = FakeVectors()
        embedder = Embedder(fake, None)
        await embedder.embed(["warm"], cut=True)
        fake.gate.clear()
        try:
            leaving = asyncio.create_task(embedder.embed(["x"] * BATCH_TEXTS * 5, cut=True))
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        finally:
            fake.gate.set()
        await embedder.embed(["after"], cut=True)
        assert fake.batches.count(BATCH_TEXTS) <= 1
        await embedder.close()

    asyncio.run(run())


def test_too_many_lists_are_turned_away() -> None:
    """Beyond the line's bound a list is refused with a time to come again; the others are answered."""

    async def run() -> None:
        fake = FakeVectors()
        embedder = Embedder(fake, None)
        fake.gate.clear()
        try:
            waiting = [asyncio.create_task(embedder.embed(["x"], cut=True)) for _ in range(WAITING_MAX)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFullError) as caught:
                await embedder.embed(["one more"], cut=True)
            assert caught.value.retry_after_s >= 1
        finally:
            fake.gate.set()
        assert len(await asyncio.gather(*waiting)) == WAITING_MAX
        await embedder.close()

    asyncio.run(run())


def test_a_missing_file_names_the_command() -> None:
    """Without the file the answer is what to run."""
    fake = FakeVectors()
    fake.here = False
    embedder = Embedder(fake, None)
    assert embedder.state == "absent"
    with pytest.raises(UnavailableError, match=r"run: python -m sutazai\.llm\.fetch all-minilm-l6-v2"):
        asyncio.run(embedder.embed(["x"], cut=True))


def test_too_little_memory_names_the_setting() -> None:
    """When the chat model leaves too little, the manifest's key is named, and nothing is loaded."""
    fake = FakeVectors()
    embedder = Embedder(fake, room_bytes=NEED_BYTES - 1)
    with pytest.raises(UnavailableError, match=r"llm\.memory in the manifest must be 1 MB larger"):
        asyncio.run(embedder.embed(["x"], cut=True))
    assert fake.loads == 0


@pytest.mark.parametrize("name", [None, "all-minilm-l6-v2", "all-minilm", "all-minilm:latest", "All-MiniLM"])
def test_its_names(name: str | None) -> None:
    """The catalogue's name, the one that clients know, with a tag or without, or none at all."""
    Embedder(FakeVectors(), None).check(name, "chatty")


@pytest.mark.parametrize(("name", "why"), [("chatty", "is a chat model"), ("nomic-embed-text", "is not here")])
def test_other_names_are_told_the_right_one(name: str, why: str) -> None:
    """Another model is refused with the one that makes vectors."""
    with pytest.raises(NotFoundError, match=f"{why}; embeddings come from 'all-minilm-l6-v2'"):
        Embedder(FakeVectors(), None).check(name, "chatty")


def test_a_shortened_vector_has_length_one() -> None:
    """The first numbers, made length 1 again; nothing but zeros stays as it is."""
    assert math.hypot(*shortened([3.0, 4.0, 12.0], 2)) == pytest.approx(1.0)
    assert shortened([3.0, 4.0, 12.0], 2) == pytest.approx([0.6, 0.8])
    assert shortened([0.0, 0.0, 1.0], 2) == [0.0, 0.0]
