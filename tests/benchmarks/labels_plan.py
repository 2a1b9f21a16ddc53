"""What the bench of accuracy per label measures: sets, rows, recipes, and the figures to reach."""

from dataclasses import dataclass, field

DRAWS = 5
ADAPT_DRAWS = 2

# Names of settings files would be as good; these are short enough to stand here.
RECIPES: dict[str, tuple[str, ...]] = {
    "default": (),
    "plain": ("objective.invariance_weight=0",),  # a plain VAE
    "no-elbo": ("objective.elbo_weight=0",),  # invariance alone
}


@dataclass(frozen=True)
class ImageSet:
    """A data set as the commands take it."""

    name: str
    train: str
    train_labels: str
    test: str
    test_labels: str


@dataclass(frozen=True)
class Row:
    """A number of labels of a set, and what is expected there (percent of the test images)."""

    set: str
    per_class: int
    both_priors: bool = False  # measured with the class prior given, and estimated
    adapt: bool = False  # measured adapted as well
    controls: dict[str, float] = field(default_factory=dict)  # known figures; ± `TOLERANCE`
    without_learning: float | None = None  # the best way that learns nothing
    frozen: tuple[float, float] | None = None  # reach, stretch
    adapted: tuple[float, float] | None = None

    @property
    def key(self) -> str:
        """What `--rows` calls it."""
        return f"{self.set}-{self.per_class}"


TOLERANCE = 1.5
FEWER_ERRORS = 0.15  # than the control, at least
ELBO_MARGIN = 0.05  # -ELBO above that of weight 0, at most
PRIOR_COST = 2.0  # points that an unknown class prior may cost
ECE_LIMIT = 0.03

ROWS = (
    Row("fashion", 1, both_priors=True, without_learning=61.7, frozen=(71, 74)),
    Row("fashion", 4),
    Row(
        "fashion", 10, both_priors=True, adapt=True, without_learning=75.9,
        controls={"pixels_linear": 69.3, "pixels_graph": 73.4, "pixels_graph_whitened": 75.9},
        frozen=(80.5, 82), adapted=(81.5, 83.5),
    ),
    Row("fashion", 100, without_learning=81.0, frozen=(85.5, 87)),
    Row("cifar", 4),
    Row("cifar", 25, adapt=True, without_learning=33.8, frozen=(45, 50), adapted=(48, 55)),
    Row("cifar", 400, frozen=(56, 62)),
)  # fmt: skip
