"""Why it exists: the first version of a new agent works, is checked and shows each thing that one has to know."""

from __future__ import annotations

MANIFEST = """name = "{name}"
version = "0.1.0"
description = "Counts the words of a text."
pool = "standard"
runtime = "py"
family = "base"     # libraries that its worker has loaded already: base, or data for numpy, scipy and statsmodels
memory = "128MB"    # hard limit of an instance
envelope = "32MB"   # what an instance takes at its peak: `sutazai smoke {name}` shows it
instances = 1
keep = "30s"        # idle time until it hibernates
"""

CODE = '''"""Why it exists: counts the words of a text. Replace this by what your agent is for."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from sutazai.runtime import Agent, Context, NonRetryableError

WORDS_MAX = 100_000
agent = Agent("{name}")


class Counted(BaseModel):
    """What was counted; numbers that others rely on are computed, never asked of a language model."""

    words: int
    longest: str


@agent.skill
def count(text: Annotated[str, Field(min_length=1, description="What to count.")], ctx: Context) -> Counted:
    """Count the words of a text and name its longest one."""
    words = text.split()
    if not words:
        message = "the text has no word"
        raise NonRetryableError(message)  # trying again cannot help; any other exception is tried again
    if len(words) > WORDS_MAX:
        message = f"the text has more than {{WORDS_MAX}} words: send it in parts"
        raise NonRetryableError(message)
    ctx.log.info("counted", words=len(words))  # `sutazai logs {name}` shows it
    return Counted(words=len(words), longest=max(words, key=len))
'''

CHECKS = """# `sutazai smoke {name}` runs these on the live fleet. At least two real tasks and one bad input.

[[check]]
name = "words are counted"
skill = "count"
input = {{ text = "to be or not to be" }}
expect = [{{ path = "words", equals = 6 }}, {{ path = "longest", equals = "not" }}]

[[check]]
name = "lines and spaces separate words, too"
skill = "count"
input = {{ text = "one\\n  two\\tthree" }}
expect = [{{ path = "words", equals = 3 }}, {{ path = "longest", equals = "three" }}]

[[check]]
name = "a text without a word is refused for good"
skill = "count"
input = {{ text = "   " }}
error = "non-retryable"

[memory]
peak_max = "64MB"
"""

#: File of a new agent's folder → its text, with ``{name}`` in it.
FILES = {"manifest.toml": MANIFEST, "agent.py": CODE, "checks.toml": CHECKS}


def files_of(name: str) -> dict[str, str]:
    """Write the files of a new agent."""
    return {file: text.format(name=name) for file, text in FILES.items()}
