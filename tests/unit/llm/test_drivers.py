"""The scripted driver passes the contract; the list of drivers is complete and refuses unknown names."""

from __future__ import annotations

import pytest

from sutazai.errors import ConfigError, UnavailableError
from sutazai.llm.drivers import DRIVERS, make
from sutazai.llm.drivers.protocol import BadRequestError, Driver
from sutazai.llm.drivers.scripted import ScriptedDriver, smallest
from sutazai.llm.settings import Settings
from sutazai.testing.llm_driver import LlmDriverContract, answer, ask


class TestScriptedDriver(LlmDriverContract):
    @pytest.fixture
    def driver(self) -> Driver:
        """A scripted driver with the default settings."""
        driver = ScriptedDriver(Settings(model="scripted", driver="scripted"))
        driver.load()
        return driver


def test_drivers_are_found_by_name() -> None:
    """Each driver of the list is made by its name; another name is an error that lists them."""
    for driver in DRIVERS:
        assert make(Settings(driver=driver.name)).name == driver.name
    with pytest.raises(ConfigError, match="llamacpp, ollama, openai, scripted"):
        make(Settings(driver="magic"))


def test_the_script() -> None:
    """It says, refuses and breaks as it is told, so that tests of the server can ask for each."""
    driver = ScriptedDriver(Settings())
    assert answer(driver, ask("say: a b"))[0] == "a b"
    with pytest.raises(BadRequestError, match="no way"):
        answer(driver, ask("refuse: no way"))
    with pytest.raises(UnavailableError, match="dead"):
        answer(driver, ask("break: dead"))


def test_smallest_values_fit_their_schemas() -> None:
    """The scripted answer to a schema is a value that fits it."""
    schema = {
        "type": "object",
        "required": ["a", "b", "c", "d"],
        "properties": {
            "a": {"type": "array", "minItems": 2, "items": {"type": "integer", "minimum": 3}},
            "b": {"enum": ["x"]},
            "c": {"type": "string", "minLength": 2},
            "d": {"const": None},
        },
    }
    nested = {"$ref": "#/$defs/Hue", "$defs": {"Hue": {"anyOf": [{"enum": ["red"]}, {"type": "null"}]}}}
    assert smallest(nested) == "red"
    with pytest.raises(BadRequestError):
        smallest({"$ref": "#/$defs/Loop", "$defs": {"Loop": {"$ref": "#/$defs/Loop"}}})
    assert smallest(schema) == {"a": [3, 3], "b": "x", "c": "xx", "d": None}


@pytest.mark.parametrize(
    ("name", "value"), [("SLOTS", "0"), ("SLOTS", "two"), ("THREADS", "-1"), ("CONTEXT_TOKENS", "5"), ("QUEUE", "1.5")]
)
def test_settings_refuse_what_is_out_of_bounds(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A wrong environment variable is named with its bounds, not guessed around."""
    monkeypatch.setenv(f"SUTAZAI_LLM_{name}", value)
    with pytest.raises(ConfigError, match=name):
        Settings.from_env()


def test_settings_of_an_empty_environment_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without variables the defaults of the class hold, apart from the cores of this machine."""
    import os

    for name in list(os.environ):
        if name.startswith("SUTAZAI_LLM_"):
            monkeypatch.delenv(name)
    found = Settings.from_env()
    assert found == Settings(threads=found.threads)
