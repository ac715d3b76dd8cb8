"""Why it exists: what this agent takes and gives is typed, so that its schema tells other agents what they get."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["classification", "regression"]
Cell = str | float | bool | None
ModelName = Annotated[
    str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the model")
]


class Score(BaseModel):
    """A measure of quality, of the model and of the baseline, on the same rows."""

    measure: str = Field(description="balanced_accuracy, accuracy, f1_macro, roc_auc, r2, rmse, mae")
    model: float
    baseline: float
    deviation: float | None = Field(default=None, description="standard deviation over the folds")
    higher_is_better: bool


class Candidate(BaseModel):
    """One kind of model that was tried, by its mean over the folds."""

    kind: str
    score: float
    deviation: float


class Advantage(BaseModel):
    """How much better than the baseline, in the first measure of `cross_validation`; positive is better.

    The interval is the corrected resampled t interval (Nadeau and Bengio 2003), because folds share training rows.
    """

    mean: float
    low: float
    high: float
    level: float
    better: bool = Field(description="whether the whole interval is above zero")


class Column(BaseModel):
    """How a column of the table is used."""

    name: str
    use: Literal["number", "category", "dropped"]
    why: str = ""
    missing: int = 0


class Card(BaseModel):
    """What is known of one version of a model."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: int = 0
    task: Task
    target: str
    kind: str
    columns: list[Column]
    classes: list[str] = Field(default_factory=list, description="of a classification, as text")
    rows: int
    seed: int
    cross_validation: list[Score]
    held_out: list[Score] = Field(description="on rows that neither training nor the choice of the model saw")
    advantage: Advantage
    warnings: list[str]
    data_digest: str = Field(description="sha256 of the CSV")
    recipe: str = Field(description="sha256 of data, settings and library versions: the same recipe, the same model")
    model_digest: str = Field(description="sha256 of the stored bytes")
    model_bytes: int
    libraries: dict[str, str]
    trained_at_wall_ms: int


class Trained(BaseModel):
    """A trained model: its card, what else was tried, and whether it was there already."""

    card: Card
    tried: list[Candidate]
    new: bool = Field(description="false: the same recipe was trained before, this is that version")


class Prediction(BaseModel):
    """The model's answer for one row."""

    value: str | float
    probability: float | None = Field(default=None, description="of that class, by the model")


class Predictions(BaseModel):
    """Answers in the order of the rows."""

    name: str
    version: int
    model_digest: str
    predictions: list[Prediction]
    notes: list[str]


class Evaluation(BaseModel):
    """How good a version is on a table that it did not see."""

    name: str
    version: int
    rows: int
    scores: list[Score]
    confusion: dict[str, dict[str, int]] = Field(default_factory=dict, description="true class → predicted → rows")
    seen_in_training: bool = Field(description="the table is the one it was trained on: the scores mean nothing")
    notes: list[str]


class Listing(BaseModel):
    """The versions that are kept, the newest last."""

    models: dict[str, list[Card]]


Row = dict[str, Any]
