"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sutazai.runtime.evidence import Finding, Measure

Kind = Literal["service", "llm", "agent", "platform", "worker"]
Verdict = Literal["lower", "raise", "keep", "still-growing", "not-enough-data", "no-limit", "fixed"]
Point = tuple[int, Annotated[float, Field(ge=0, allow_inf_nan=False)]]


class Observation(BaseModel):
    """A recorded process or agent to judge instead of the live fleet's."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=200)
    kind: Kind = "service"
    pool: str = Field(default="", max_length=100)
    limit_bytes: int = Field(ge=0, le=2**50, description="hard limit, 0 for none")
    use: list[Point] = Field(max_length=20_000, description="[time in milliseconds, bytes], in order of time")
    peaks: list[Point] = Field(
        default_factory=list, max_length=20_000, description="the kernel's own peak at these times, where known"
    )
    starts_ms: list[int] = Field(default_factory=list, max_length=1_000, description="when it was started")
    kills: int = Field(default=0, ge=0, description="how often the kernel killed it at its limit in this time")


class Policy(BaseModel):
    """How a limit is derived; every proposal follows it."""

    margin: float = Field(description="added to the worst moment, share of it")
    floor: Measure = Field(description="added at least")
    step: Measure = Field(description="limits are rounded up to a multiple of it")
    observe_min: Measure = Field(description="shorter observations give no proposal")
    change_min: float = Field(description="smaller changes, as a share of the limit, are not proposed")
    start: Measure = Field(description="how long after its start a process counts as starting")
    rule: str


class Proposal(BaseModel):
    """What one process or agent should get. ``proposed`` is missing when there is no reason or no basis for one."""

    name: str
    kind: Kind
    pool: str
    verdict: Verdict
    why: str
    observed: Measure
    needed: Measure
    limit: Measure | None = None
    peak: Measure | None = None
    steady_peak: Measure | None = Field(default=None, description="highest use when it was not starting")
    start_peak: Measure | None = Field(default=None, description="highest use while it started")
    proposed: Measure | None = None
    proposed_start_peak: Measure | None = Field(
        default=None, description="what to reserve for it: manifest key start_peak, of an agent envelope"
    )
    saving: Measure | None = Field(default=None, description="limit minus proposed; negative where it needs more")


class Rightsizing(BaseModel):
    """Proposed limits with their saving, and the manifest patch that makes them true."""

    at_wall_ms: int
    window_s: int
    policy: Policy
    proposals: list[Proposal]
    saving: Measure
    saving_by_pool: dict[str, Measure]
    patch: dict[str, Any] = Field(description="to merge into the fleet's manifest")
    patch_yaml: str
    findings: list[Finding]
    notes: list[str]


class Step(BaseModel):
    """One limit that is to change."""

    name: str
    kind: Kind
    before: Measure
    after: Measure
    status: Literal["planned", "applied", "refused"]
    why: str = Field(default="", description="what the fleet said")


class Applied(BaseModel):
    """What was done, or would be done."""

    dry_run: bool
    status: Literal["planned", "applied", "partly", "refused", "nothing-to-do"] = Field(
        description="partly: the fleet refused some of the steps; each says why"
    )
    steps: list[Step]
    patch: dict[str, Any]
    patch_yaml: str
    command: str = Field(description="what a person runs to make the change last")
    notes: list[str]
