"""An audit from Python: kinds of data, extras row by row, the states, the report.

The truth of extras is a model whose answer at each row is its own label; that of the states, the rows themselves.
"""

import warnings

import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from analysis import losses, registration, results
from analysis.audit import Audited, AuditError, audit, data, subject
from analysis.audit.advice import advice_lines
from analysis.audit.report import words
from analysis.flow import from_velocity
from analysis.gradients import greedy
from analysis.paths import CondOT, Cosine
from tests.support.audits import Network
from tests.support.problems import f64, randn
from toy_models import GaussianMixture, MixtureFlow

X, Y = randn(50, 2), torch.arange(50)
SMALL = {"path": CondOT(), "times": [0.4, 0.8], "samples": 3, "quick": True, "check": False}


class Stream(IterableDataset):
    def __iter__(self):
        yield from zip(X, Y, strict=True)


class Unmeasured(Dataset):
    def __getitem__(self, i):
        return X[i], Y[i]


SOURCES = {
    "tuple": (X, Y),
    "dataset": TensorDataset(X, Y),
    "loader that shuffles": DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True),
    "list": list(zip(X, Y, strict=True)),
    "stream": Stream(),
    "loader of a stream": DataLoader(Stream(), batch_size=8),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_of_every_kind_of_data_are_its_own(kind):
    rows = data.rows_of(SOURCES[kind])
    assert rows.count == 50
    x, (y,) = rows.pick([4, 17])
    assert torch.equal(x, X[[4, 17]])
    assert torch.equal(y, Y[[4, 17]])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (3, "data must be a tensor, a tuple of tensors, a Dataset, a DataLoader, or a sampler .*; got int 3"),
        ("text", "data must be a tensor.*got str 'text'"),
        ((X, Y[:4]), "one row per sample each"),
        ([], "at least one row"),
        ([{"x": X[0]}], "rows of data must be tensors x1"),
        ([[1.0, 2.0], [3.0, 4.0]], r"begin with a number: .* torch.tensor\(data\)"),
        (Unmeasured(), "data must have a length, and Unmeasured has no __len__: give it one"),
        (DataLoader(Unmeasured()), "data must have a length, and Unmeasured has no __len__: give it one"),
        (X[0], r"data must have shape \(B, \*event\)"),
    ],
)
def test_data_of_another_kind_is_refused(source, said):
    with pytest.raises((TypeError, ValueError), match=said):
        data.rows_of(source).pick([0])


class Labelled(torch.nn.Module):
    """A velocity that tells which label it was given with which state."""

    def forward(self, x, t, y):
        return 0.1 * torch.sin(x) + 0.01 * y[:, None] * x


def misfit(x, y):
    return (x - y[:, None]).square().sum(1) / 2


def test_extras_go_to_the_model_and_to_the_loss_row_by_row():
    made = subject.of(Audited(Labelled().double(), (X, Y), misfit, CondOT()), "mine", "cpu")
    drawn = made.draw(1.0, 4, torch.Generator().manual_seed(3))
    label = torch.stack([(row == X).all(1).nonzero()[0, 0] for row in drawn.x])
    assert len(set(label.tolist())) > 1
    expected = 0.1 * torch.sin(drawn.x) + 0.01 * label[:, None] * drawn.x
    torch.testing.assert_close(drawn.flow.velocity(drawn.x, 0.5), expected)
    torch.testing.assert_close(drawn.loss(drawn.x), misfit(drawn.x, label))
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(drawn.flow.select_rows(rows).velocity(drawn.x[rows], 0.5), expected[rows])


def test_extras_are_for_those_that_take_them():
    made = subject.of(Audited(Network().double(), (X, Y), misfit, CondOT()), "mine", "cpu")
    drawn = made.draw(0.5, 4, torch.Generator().manual_seed(3))
    assert torch.isfinite(greedy(drawn.flow, drawn.loss, drawn.x, 0.5).gradient).all()
    with pytest.raises(ValueError, match=r"the loss must take 1 arguments, or 2 with the extras of a row of data"):
        data.takes_extras(lambda x, y, z: x, 1, 1, "the loss")


def test_an_audit_with_extras_is_that_of_each_row_alone():
    """One state with its label is measured as a model that has the label built in."""
    one = {**SMALL, "times": [0.6], "samples": 1}
    with_label = audit(Labelled().double(), (X[7:8], Y[7:8]), loss=misfit, **one)
    fixed = audit(
        lambda x, t: Labelled()(x, t, torch.tensor([7])), X[7:8], loss=lambda x: misfit(x, torch.tensor([7])), **one
    )
    for name in ("audit", "audit_lookahead"):
        a, b = (report.tables[name].drop(columns="problem") for report in (with_label, fixed))
        pd.testing.assert_frame_equal(a, b, rtol=1e-9)


def test_two_models_are_compared_on_the_same_states():
    states = [
        subject.of(Audited(model, X, path=CondOT()), name, "cpu").draw(0.3, 4, torch.Generator().manual_seed(1)).x
        for name, model in (("first", Network().double()), ("second", Network(scale=0.5).double()))
    ]
    assert torch.equal(*states)
    first, second = (audit(Network().double(), X, name=name, **SMALL).tables["audit"] for name in ("a", "b"))
    pd.testing.assert_frame_equal(first.drop(columns="problem"), second.drop(columns="problem"))
    assert first["problem"].iloc[0] == "a"


@pytest.fixture(scope="module")
def report():
    return audit(Network().double(), X, name="mine <1>", **SMALL)


def test_a_report_has_tables_lines_figures_and_a_page(report, tmp_path):
    import figures  # noqa: F401  # which registers what draws

    drawn = report.figures()
    assert sorted(drawn) == ["audit_error", "audit_lookahead"]
    assert all(type(figure).__name__ == "Figure" for figure in drawn.values())
    assert str(report).splitlines() == report.lines
    page = report._repr_html_()
    assert page.count("<li>") == len(report.lines)
    assert "mine <1>" not in page
    report.write(tmp_path)
    assert (tmp_path / "audit.txt").read_text().splitlines() == report.lines
    written = results.read_table(tmp_path / "tables" / "audit_advice.parquet")
    pd.testing.assert_frame_equal(written, report.tables["audit_advice"].reset_index(drop=True), check_dtype=False)


def test_figures_without_a_module_that_draws_are_an_error_that_says_what_to_do(report, monkeypatch):
    monkeypatch.setattr(registration, "FIGURES", {})
    monkeypatch.setattr(registration, "load", lambda: None)
    with pytest.raises(RuntimeError, match="import figures first"):
        report.figures()


def row(t, **changed):
    base = {"t": t, "wanted": 0.1, "estimator": "greedy", "solver": None, "steps": None, "horizon": None}
    return base | {"fraction": None, "evaluations": 1.0, "value": 0.05, "reached": True} | changed


def test_advice_names_gradients_as_one_would_ask_for_them():
    end = {
        "estimator": "lookahead",
        "solver": "midpoint",
        "steps": 4,
        "horizon": 1.0,
        "fraction": 1.0,
        "evaluations": 8.0,
    }
    short = end | {"solver": "ddim", "steps": 1, "horizon": 0.6, "fraction": 0.5, "evaluations": 2.0}
    table = pd.DataFrame(
        [
            *(row(t, wanted=0.3) for t in (0.2, 0.5, 0.8)),
            row(0.2, **end),
            row(0.5, **short),
            row(0.8),
            row(0.2, wanted=0.01, reached=False, value=0.02, **end),
            *(row(t, wanted=0.01) for t in (0.5, 0.8)),
        ]
    )
    assert advice_lines(table) == [
        "For an error of 0.3: greedy (1 evaluation) at every time.",
        "For an error of 0.1: end-to-end, 4 midpoint steps (8 evaluations) at t = 0.2; lookahead, 1 ddim step over 0.5 "
        "of the way (2 evaluations) at t = 0.5; greedy (1 evaluation) at t = 0.8.",
        "For an error of 0.01: more than was tried, whose least error is 0.02, by end-to-end, 4 midpoint steps (8 "
        "evaluations), at t = 0.2; greedy (1 evaluation) at t = 0.5 to 0.8.",
    ]


def test_words_of_one_time_name_it_once(report):
    tables = {name: t[t["t"] == 0.4] if "t" in t else t for name, t in report.tables.items()}
    said = words(tables)
    assert "to 0." not in said[0]
    assert said[0].count("t = 0.4") == 1
    assert said[3].endswith("all 3 states have such a truth.")


def test_a_doubt_is_a_warning_and_the_first_line():
    flat = MixtureFlow(GaussianMixture(f64([1.0]), f64([[0.0, 0.0]]), torch.eye(2).double()[None]), CondOT())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audit(flat, randn(500, 2), **SMALL | {"check": True, "times": [0.8], "samples": 1})
    doubted = {"path": CondOT(), "times": [0.8], "samples": 1, "quick": True}
    with pytest.warns(RuntimeWarning, match="does not predict these data"):
        report = audit(lambda x, t: 5 * torch.sin(3 * x.flip(1)) + 2, randn(500, 2), **doubted)
    assert report.lines[0].startswith("Doubtful: the model does not predict these data")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"times": [0.0]}, "times must lie in"),
        ({"error": 2}, "error must lie in"),
        ({"time": "backwards"}, "time must be one of data_to_noise, noise_to_data"),
        ({"path": None}, "path must come with a model that is a function"),
        ({"loss": 3}, "loss must be a callable"),
        ({"time": "noise_to_dat"}, "got 'noise_to_dat'; did you mean 'noise_to_data'?"),
        ({"prediction": "Velocty"}, "one of score, source, target, velocity; got 'Velocty'; did you mean 'velocity'?"),
        ({"prediction": None}, "prediction must be one of score, source, target, velocity; got None$"),
        (
            {"path": "condot"},
            r"path must be an .*AffinePath.*got str 'condot'; did you mean analysis.paths.CondOT\(\)?",
        ),
        ({"path": "vp-linear"}, r"did you mean analysis.paths.LinearVP\(beta_min=0.1, beta_max=20.0\)?"),
        ({"path": CondOT}, r"path must be .* got the class CondOT: make one, CondOT\(\)"),
        ({"times": 0.5}, "times must be a sequence, such as a list, got float 0.5"),
        ({"times": []}, "times must hold at least one entry"),
        ({"times": ["0.5"]}, "times must be a number, got str '0.5'"),
        ({"times": [float("nan")]}, r"times must lie in \(0, 1\), got nan"),
        ({"samples": 3.5}, "samples must be an integer of at least 1, got 3.5"),
        ({"error": "0.1"}, "error must be a number, got str '0.1'"),
        ({"error": None}, "error must be a number, got NoneType"),
        ({"t_max": "1"}, "t_max must be a number, got str '1'"),
        ({"t_max": 0}, "t_max must satisfy 0 <= t_min < t_max <= 1"),
        ({"quick": "yes"}, "quick must be True or False, got str 'yes'"),
        ({"check": 1}, "check must be True or False, got int 1"),
        ({"seed": -1}, r"seed must be an integer from 0 to 2\^63 - 1, got -1"),
        ({"seed": 0.5}, r"seed must be an integer from 0 to 2\^63 - 1, got 0.5"),
        ({"name": 3}, "name must be a string, got int 3"),
        ({"time_scale": 1000}, "audit has no argument 'time_scale': make a flow with it by real_models.adapters.modu"),
        ({"predictions": "target"}, "audit has no argument 'predictions'; did you mean 'prediction'?"),
        ({"n_samples": 3}, "audit has no argument 'n_samples'; did you mean 'samples'?"),
        ({"dtype": 3}, "audit has no argument 'dtype'; it takes model, data, path, prediction, loss, time, times, "),
    ],
)
def test_bad_arguments_are_refused(changed, said):
    with pytest.raises(AuditError, match=said):
        audit(Network().double(), X, **SMALL | changed)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((Network(),), r"audit: missing a required argument: 'data'; call audit\(model, data, path=..., prediction="),
        ((Network(), X, CondOT()), r"audit: too many positional arguments; call audit\(model, data, path=..., "),
        ((None, X), "the model must be a Flow, an nn.Module or a function, got NoneType"),
        ((Network, X), "Network: the model must be .* got the class Network: make an instance of it"),
        ((Network(), {"x": X}), "data must be a tensor, a tuple of tensors, .*; got dict"),
        ((Network(), None), "data must be a tensor, a tuple of tensors, .*; got NoneType"),
        ((Network(), pd.DataFrame({"x": [1.0]})), "data: KeyError: 0"),
    ],
)
def test_a_model_or_data_of_another_kind_is_refused(given, said):
    options = SMALL if len(given) == 2 else {}
    with pytest.raises(AuditError, match=said):
        audit(*given, **options)


@pytest.mark.parametrize("declared", [{"path": Cosine()}, {"prediction": "target"}, {"t_max": 0.9}])
def test_what_a_flow_says_itself_is_not_declared_again(declared):
    flow = from_velocity(Network().double(), CondOT())
    with pytest.raises(AuditError, match=f"{next(iter(declared))} must be left out with a Flow: say it where the flow"):
        audit(flow, X, **{**SMALL, "path": CondOT()} | declared)


@pytest.mark.parametrize(
    ("data", "why"),
    [(torch.ones(5, 2), "the data have one row or equal rows"), (randn(5, 2), "5 rows of the data are too few to")],
)
def test_an_audit_of_data_without_a_known_spread_says_that_the_declaration_is_not_checked(data, why):
    with pytest.warns(RuntimeWarning, match=f"are not checked, since {why}"):
        report = audit(Network().double(), data.double(), **SMALL | {"check": True})
    assert report.lines[0].startswith("Doubtful: path, prediction, direction of time and scale are not checked, since")


def test_a_fixed_target_is_a_loss_as_before():
    report = audit(Network().double(), X, loss=losses.HalfSquaredDistance(f64([1.0, 0.0])), **SMALL)
    assert set(report.tables["audit"]["t"]) == {0.4, 0.8}
