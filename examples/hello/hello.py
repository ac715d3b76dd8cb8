"""The smallest agent: one skill, one line of work."""

from sutazai.runtime import Agent, Context

agent = Agent("hello")


@agent.skill
def greet(name: str, ctx: Context) -> str:
    """Greet somebody by name."""
    ctx.log.info("greeting", name=name)
    return f"Hello, {name}!"
