"""Expressions compute values of JSON and can do nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from sutazai.workflow.expression import ExpressionError, evaluate, expressions, fill, is_true, uses

VALUES: dict[str, Any] = {
    "inputs": {"n": 3, "tags": ["x", "y"], "text": "Ada"},
    "steps": {"read": {"result": {"rows": [{"a": 1}, {"a": 2}], "odd key": 5}, "status": "succeeded"}},
    "item": {"path": "p"},
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("inputs.n * 2 + 1", 7),
        ("inputs.n / 2 > 1 and not false", True),
        ("'x' in inputs.tags", True),
        ("steps.read.result.rows[-1].a", 2),
        ("steps.read.result['odd key']", 5),
        ("sum(pick(steps.read.result.rows, 'a'))", 3),
        ("get(inputs, 'none.at.all', 9)", 9),
        ("get(steps.read.result, 'rows.1.a')", 2),
        ("inputs.text[0:2] + '!'", "Ad!"),
        ("join(inputs.tags, '-')", "x-y"),
        ("{'n': inputs.n, 'list': [item.path, null]}", {"n": 3, "list": ["p", None]}),
        ("'big' if inputs.n > 2 else 'small'", "big"),
        ("1 < inputs.n < 5 and steps.read.status == 'succeeded'", True),
        ("-inputs.n // 2 % 3", 1),
        ("len(inputs.tags) != 2 or upper(inputs.text)", "ADA"),
    ],
)
def test_values_are_computed(text: str, wanted: Any) -> None:
    """Paths, comparisons, arithmetic, a few functions."""
    assert evaluate(text, VALUES) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__import__('os')", "there is no function '__import__'"),
        ("inputs.__class__", "there is no '__class__'"),
        ("inputs.text.upper()", "only the functions"),
        ("[x for x in inputs.tags]", "ListComp"),
        ("lambda: 1", "Lambda"),
        ("(x := 1)", "NamedExpr"),
        ("f'{inputs}'", "JoinedStr"),
        ("2 ** 99", "Pow"),
        ("'a' * 1000000", "not str and int"),
        ("b'x'", "no JSON"),
        ("{**inputs}", r"\*\*"),
        ("inputs.n +", "is no expression"),
        ("(" * 300, "is no expression"),
        ("1 + " * 600 + "1", "at most 2000"),
        ("9" * 30 + " + 1", "too large"),
        ("inputs.tag", "there is no 'tag': there is n, tags, text"),
        ("steps.read.error", "there is no 'error'"),
        ("inputs.n.x", "asked of int"),
        ("get(inputs, 'x').y", "asked of null"),
        ("inputs.tags[2]", "no element 2: it has 2"),
        ("inputs.n / 0", "division by zero"),
        ("inputs.n < 'a'", "not supported"),
        ("nobody", "there is no 'nobody'"),
    ],
)
def test_what_is_no_expression_is_refused(text: str, words: str) -> None:
    """With the reason, and never with an effect."""
    with pytest.raises(ExpressionError, match=words):
        evaluate(text, VALUES)


def test_texts_are_filled() -> None:
    """One expression becomes its value, several are written into the text; a doubled dollar is a plain one."""
    given = {
        "a": "${inputs.n}",
        "b": ["Hi ${inputs.text}, ${inputs.tags}!"],
        "c": "$${x}",
        "d": "${ {'k': '}'} }",
        "e": 1,
    }
    wanted = {"a": 3, "b": ['Hi Ada, ["x", "y"]!'], "c": "${x}", "d": {"k": "}"}, "e": 1}
    assert fill(given, VALUES) == wanted
    assert list(expressions(given)) == ["inputs.n", "inputs.text", "inputs.tags", " {'k': '}'} "]
    with pytest.raises(ExpressionError, match="has no end"):
        fill("${inputs.n", VALUES)


def test_what_an_expression_reads_is_known() -> None:
    """Inputs, steps and variables, without computing it; a whole table is said as such."""
    found = uses("inputs.n + steps.a.result + steps['b'].result[item] and len(steps.a.error)")
    assert (found.inputs, found.steps, found.names) == ({"n"}, {"a", "b"}, {"item"})
    assert uses("len(inputs) + 1").inputs == {"*"}
    assert not is_true("''", {})
