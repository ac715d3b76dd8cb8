"""Measures the embedding model: does it find the right text, how fast, how much memory; prints a table.

``python bench/embeddings.py`` reads ``bench/retrieval.json``: 24 descriptions, 48 questions in other words, each with
the one that answers it. hit@1 and hit@3: how many questions find it first, or among the first three. MRR: mean of
one divided by its rank.
"""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from sutazai.llm.embedder import Embedder, shortened
from sutazai.llm.models import DEFAULT_EMBED_MODEL
from sutazai.llm.sentences import Sentences

SET = json.loads((Path(__file__).parent / "retrieval.json").read_text())
DIMENSIONS = (384, 256, 128, 64)


def pss_mb() -> float:
    """Proportional set size of this process, MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def quality(documents: dict[str, list[float]], questions: list[tuple[list[float], str]]) -> tuple[int, int, float]:
    """How well questions find their document."""
    first = third = 0
    reciprocal = 0.0
    for vector, right in questions:
        scores = {name: sum(a * b for a, b in zip(vector, row, strict=True)) for name, row in documents.items()}
        rank = sorted(scores, key=scores.__getitem__, reverse=True).index(right) + 1
        first, third, reciprocal = first + (rank == 1), third + (rank <= 3), reciprocal + 1 / rank
    return first, third, reciprocal / len(questions)


async def main() -> None:
    """Measure and print."""
    embedder = Embedder(Sentences(DEFAULT_EMBED_MODEL, threads=1), None)
    before_mb = pss_mb()
    names, texts = list(SET["documents"]), list(SET["documents"].values())
    rows = await embedder.embed(texts, cut=False)
    asked = await embedder.embed([question for question, _ in SET["queries"]], cut=False)
    many = [f"Sentence number {number} about a server that leaks memory." for number in range(320)]
    begun_s = time.monotonic()
    await embedder.embed(many, cut=False)
    rate = len(many) / (time.monotonic() - begun_s)
    print(f"{DEFAULT_EMBED_MODEL}: loaded in {rows.load_ns / 1e6:.0f} ms, +{pss_mb() - before_mb:.0f} MB, "
          f"{rate:.0f} texts of 12 tokens/s on one thread")  # fmt: skip
    print("| dimensions | hit@1 | hit@3 | MRR |\n| --- | --- | --- | --- |")
    for size in DIMENSIONS:
        documents = {name: shortened(row, size) for name, row in zip(names, rows.values, strict=True)}
        pairs = zip(asked.values, SET["queries"], strict=True)
        questions = [(shortened(row, size), right) for row, (_, right) in pairs]
        first, third, mrr = quality(documents, questions)
        print(f"| {size} | {first}/{len(questions)} | {third}/{len(questions)} | {mrr:.3f} |")
    await embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
