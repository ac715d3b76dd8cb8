"""model-training-specialist trains honestly, keeps what it trained, and loads nothing that it does not know."""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING, Any

import pytest

from sutazai.agents.model_training_specialist import registry, table
from sutazai.agents.model_training_specialist.models import Card
from sutazai.runtime import NonRetryableError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Broker
    from sutazai.runtime import Result

pytest.importorskip("sklearn")

AGENT = "model-training-specialist"


def shop_csv(rows: int = 120, seed: int = 1) -> str:
    """Visits of a shop: a customer buys when the price is low, with some noise; some cells are empty."""
    dice = random.Random(seed)  # noqa: S311 a table for a test
    lines = ["id,price,city,bought"]
    for number in range(rows):
        price = dice.uniform(1, 10)
        bought = (price < 5) != (dice.random() < 0.1)
        shown = "" if dice.random() < 0.05 else f"{price:.2f}"
        lines.append(f"{number},{shown},{dice.choice(['Ulm', 'Jena', ''])},{'yes' if bought else 'no'}")
    return "\n".join(lines) + "\n"


def train(broker: Broker, **changes: Any) -> Result:
    """Train on the shop."""
    return broker.ask(AGENT, "train", {"name": "shop", "target": "bought", "csv": shop_csv(), **changes})


def test_a_model_is_trained_kept_and_used(broker: Broker) -> None:
    """Training gives version 1 beside its baseline; predict and evaluate find it again by its name."""
    card = train(broker).require()["card"]
    assert (card["version"], card["task"]) == (1, "classification")
    assert card["cross_validation"][0]["baseline"] == pytest.approx(0.5)
    assert card["cross_validation"][0]["model"] > 0.75
    assert card["advantage"]["low"] > 0
    uses = {column["name"]: (column["use"], column["why"]) for column in card["columns"]}
    assert uses == {"id": ("dropped", "counts the rows"), "price": ("number", ""), "city": ("category", "")}
    rows = [{"price": 1.0, "city": "Ulm"}, {"price": 9.5, "city": "nowhere"}, {"price": None, "city": None}]
    answer = broker.ask(AGENT, "predict", {"name": "shop", "rows": rows}).require()
    assert [item["value"] for item in answer["predictions"]][:2] == ["yes", "no"]
    assert answer["model_digest"] == card["model_digest"]
    judged = broker.ask(AGENT, "evaluate", {"name": "shop", "csv": shop_csv(seed=2)}).require()
    assert judged["scores"][0]["model"] > judged["scores"][0]["baseline"]
    assert sum(count for row in judged["confusion"].values() for count in row.values()) == judged["rows"] == 120
    assert judged["seen_in_training"] is False
    same = broker.ask(AGENT, "evaluate", {"name": "shop", "csv": shop_csv()}).require()
    assert same["seen_in_training"] is True


def test_the_same_recipe_is_the_same_version_and_another_seed_is_another(broker: Broker) -> None:
    """Training is deterministic: what was trained before is found, a changed seed makes version 2."""
    first = train(broker).require()
    again = train(broker).require()
    other = train(broker, seed=7).require()
    assert (first["new"], again["new"], other["new"]) == (True, False, True)
    assert again["card"] == first["card"]
    assert other["card"]["version"] == 2
    assert again["card"]["cross_validation"] == first["card"]["cross_validation"]
    listed = broker.ask(AGENT, "models", {}).require()["models"]
    assert [card["version"] for card in listed["shop"]] == [1, 2]
    one = broker.ask(AGENT, "predict", {"name": "shop", "version": 1, "rows": [{"price": 1, "city": ""}]}).require()
    assert one["version"] == 1


def test_only_the_last_versions_are_kept_and_forgetting_frees_all(broker: Broker) -> None:
    """The oldest version and its bytes go when there are too many; forget removes the rest."""
    for seed in range(registry.VERSIONS_KEPT + 1):
        train(broker, seed=seed).require()
    bytes_kept = [key for key, state in broker.states.items() if key[1].startswith("bytes/") and state.get("content")]
    assert len(bytes_kept) == registry.VERSIONS_KEPT
    gone = broker.ask(AGENT, "predict", {"name": "shop", "version": 1, "rows": [{"price": 1, "city": ""}]})
    assert gone.error is not None
    assert "has no version 1; kept are: 2, 3, 4, 5, 6" in gone.error["message"]
    assert broker.ask(AGENT, "forget", {"name": "shop"}).require() == {"models": {}}
    assert not [key for key, state in broker.states.items() if key[1].startswith("bytes/") and state.get("content")]


def test_a_column_that_gives_the_target_away_is_named(broker: Broker) -> None:
    """A copy of the target under another name is called a leak; an honest column is not."""
    lines = shop_csv().splitlines()
    leaky = [f"{lines[0]},receipt", *(f"{line},{'R' if line.endswith('yes') else '-'}" for line in lines[1:])]
    card = train(broker, csv="\n".join(leaky)).require()["card"]
    found = [text for text in card["warnings"] if "alone predicts" in text]
    assert len(found) == 1
    assert "receipt" in found[0]


def test_noise_is_not_called_a_model(broker: Broker) -> None:
    """Where there is nothing to learn, the interval over the baseline holds zero and the card warns."""
    dice = random.Random(3)  # noqa: S311 noise for a test
    text = "a,b,c\n" + "".join(f"{dice.random()},{dice.random()},{dice.choice('xy')}\n" for _ in range(200))
    card = train(broker, csv=text, target="c").require()["card"]
    assert card["advantage"]["better"] is False
    assert any("not shown to be better" in text for text in card["warnings"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "nothing"}, "there is no column 'nothing'"),
        ({"csv": "a,b\n1,2\n", "target": "b"}, "at least 20 are needed"),
        ({"csv": "a,a\n1,2\n", "target": "a"}, "each differently"),
        ({"csv": 'a,b\n"1,2\n', "target": "b"}, "cannot be read"),
        ({"csv": "a,b\n" + "1,same\n" * 30, "target": "b"}, "one value only"),
        ({"csv": "a,b\n" + "".join(f"k{i},{'xy'[i % 2]}\n" for i in range(600)), "target": "b"}, "no column is left"),
        ({"csv": "/etc/passwd"}, "lets the agent read no folder"),
        ({"task": "regression"}, "a target of numbers"),
        ({"csv": "a,b\n" + "".join(f"{i % 7},c{i}\n" for i in range(120)), "target": "b"}, "at most 50"),
    ],
)
def test_a_table_that_cannot_be_learned_is_refused(broker: Broker, changes: dict[str, Any], said: str) -> None:
    """Each mistake has its own text, and trying again is not offered."""
    answer = train(broker, **changes)
    assert answer.error is not None
    assert said in answer.error["message"]
    assert answer.error["retryable"] is False


def test_a_table_is_read_from_an_allowed_folder(broker: Broker, tmp_path: Path) -> None:
    """A path below the folder that the manifest names is read; one beside it is not."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/shop.csv").write_text(shop_csv())
    (tmp_path / "out.csv").write_text(shop_csv())
    broker.settings = {"folders": [str(tmp_path / "in")]}
    assert train(broker, csv=str(tmp_path / "in/shop.csv")).require()["new"] is True
    for path in (tmp_path / "out.csv", tmp_path / "in/../out.csv"):
        refused = train(broker, csv=str(path))
        assert refused.error is not None
        assert "outside of the folders" in refused.error["message"]


def test_bytes_that_are_not_ours_are_not_loaded(broker: Broker) -> None:
    """Other bytes than the card's are refused by their digest, a foreign type by its name; nothing of it is built."""
    import hashlib
    import lzma

    from sklearn.preprocessing import FunctionTransformer
    from skops import io

    card = Card.model_validate(train(broker).require()["card"])
    with pytest.raises(NonRetryableError, match="are not those of its card"):
        registry.unpack(b"anything", card)
    evil = lzma.compress(io.dumps(FunctionTransformer(base64.b64encode)))
    forged = card.model_copy(update={"model_digest": hashlib.sha256(evil).hexdigest()})
    with pytest.raises(NonRetryableError, match="types that are not trusted"):
        registry.unpack(evil, forged)
    pickled = lzma.compress(b"\x80\x04cos\nsystem\n.")
    forged = card.model_copy(update={"model_digest": hashlib.sha256(pickled).hexdigest()})
    with pytest.raises(NonRetryableError, match="cannot be read"):
        registry.unpack(pickled, forged)


def test_inner_skills_work_in_their_own_session_only(broker: Broker) -> None:
    """The skills that touch the store cannot be pointed at another session's state."""
    answer = broker.ask(AGENT, "fetch", {"recipe": "0" * 64})
    assert answer.error is not None
    assert "works in the session" in answer.error["message"]


def test_a_model_that_is_too_large_is_said(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is stored of a model beyond the limit, and the error has a code of its own."""
    monkeypatch.setattr(registry, "MODEL_BYTES_MAX", 100)
    answer = train(broker)
    assert answer.error is not None
    assert answer.error["code"] == "model-too-large"
    assert not broker.states


def test_a_target_decides_the_task() -> None:
    """Fractions and many whole numbers are a regression, words and few numbers a classification."""
    rows = 40
    few = "a,b\n" + "".join(f"{i * 0.5},{i % 3}\n" for i in range(rows))
    many = "a,b\n" + "".join(f"{i * 0.5},{i}\n" for i in range(rows))
    assert table.prepare(few, "b", None).task == "classification"
    assert table.prepare(many, "b", None).task == "regression"
    assert table.prepare(many, "b", None).columns[0].use == "number"
