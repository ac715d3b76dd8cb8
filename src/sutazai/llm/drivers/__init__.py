"""Why it exists: whoever runs the model is exchangeable, and the server does not know who it is.

``DRIVERS`` is the whole list; ``protocol`` says what each of them must do, and the contract suite in
``sutazai.testing.llm_driver`` checks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sutazai.errors import ConfigError
from sutazai.llm.drivers.llamacpp import LlamaCppDriver
from sutazai.llm.drivers.ollama_upstream import OllamaDriver
from sutazai.llm.drivers.openai_upstream import OpenAIDriver
from sutazai.llm.drivers.scripted import ScriptedDriver

if TYPE_CHECKING:
    from sutazai.llm.drivers.protocol import Driver
    from sutazai.llm.settings import Settings

DRIVERS: tuple[type[LlamaCppDriver | OllamaDriver | OpenAIDriver | ScriptedDriver], ...] = (
    LlamaCppDriver,
    OllamaDriver,
    OpenAIDriver,
    ScriptedDriver,
)


def make(settings: Settings) -> Driver:
    """Make the driver that the settings name; nothing is loaded yet.

    Raises:
        ConfigError: there is no driver of this name.
    """
    for driver in DRIVERS:
        if driver.name == settings.driver:
            return driver(settings)
    known = ", ".join(driver.name for driver in DRIVERS)
    raise ConfigError(f"SUTAZAI_LLM_DRIVER={settings.driver} is not known", hint=f"known: {known}")
