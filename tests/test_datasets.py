"""True densities integrate to one, entropies and samples agree, files are read with care."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from smoothctl import datasets
from smoothctl.datasets.arrays import ArrayDataset
from smoothctl.datasets.grid import Grid
from smoothctl.datasets.synthetic import Synthetic
from smoothctl.errors import DataError, NotAvailable, UsageError
from smoothctl.rng import generator

NAMES = [
    entry.name
    for entry in datasets.registry.entries()
    if entry.package == "smoothctl" and issubclass(datasets.load(entry.name), Synthetic)
]


@pytest.fixture(params=NAMES)
def dataset(request: pytest.FixtureRequest) -> Synthetic:
    return datasets.open_dataset(request.param)


def test_the_issue_s_datasets_are_there() -> None:
    assert set(NAMES) >= {
        "two-gaussians", "six-modes", "ten-modes", "rings", "checkerboard", "olympics",
        "two-moons", "eight-gaussians", "pinwheel", "swissroll",
    }  # fmt: skip


def test_true_density_integrates_to_one(dataset: Synthetic) -> None:
    assert dataset.grid.mass(dataset.true_log_prob) == pytest.approx(1, abs=1e-5)


def test_a_shifted_grid_gives_the_same_mass_and_entropy(dataset: Synthetic) -> None:
    """Nothing depends on where the grid's points happen to lie."""
    if dataset.name == "checkerboard":
        pytest.skip("piecewise constant: only the aligned grid is exact")
    grid = dataset.grid
    shifted = Grid(tuple(a + 0.37 * (a[1] - a[0]) for a in grid.axes), grid.cell)
    assert shifted.mass(dataset.true_log_prob) == pytest.approx(1, abs=1e-5)
    assert shifted.entropy(dataset.true_log_prob) == pytest.approx(dataset.true_entropy(), abs=1e-4)


@pytest.mark.parametrize("frequency", [0.5, 1.3, 4.0])
def test_samples_have_the_density_s_characteristic_function(
    dataset: Synthetic, frequency: float
) -> None:
    """E cos(w·x) and E sin(w·x) over samples equal the integrals, within five standard errors."""
    if dataset.name == "checkerboard":
        grid = Grid.around(torch.tensor([[-3.995, -3.995], [3.995, 3.995]]), 0.0, 0.01)
    else:
        grid = dataset.grid
    x = dataset.sample(40_000, generator("waves")).double()
    wave = frequency * torch.tensor([1.0, -0.7], dtype=torch.float64)[: x.shape[1]]
    density = dataset.true_log_prob(grid.points).exp()
    for function in (torch.cos, torch.sin):
        expected = grid.integral(density * function(grid.points @ wave))
        drawn = function(x @ wave)
        error = drawn.std().item() / math.sqrt(len(x))
        assert drawn.mean().item() == pytest.approx(expected, abs=5 * error + 1e-4)


def test_off_support_floor_is_a_quarter_percent(dataset: Synthetic) -> None:
    fresh = dataset.sample(50_000, generator("support test"))
    share = dataset.off_support(fresh).float().mean().item()
    assert share == pytest.approx(0.0 if dataset.name == "checkerboard" else 0.0027, abs=1e-3)
    far = torch.full((3, dataset.event_shape[0]), 50.0)
    assert dataset.off_support(far).all()


@pytest.mark.parametrize(
    ("name", "entropy"),
    [("two-gaussians", -0.194), ("rings", 2.623), ("checkerboard", 3.466)],
)
def test_known_entropies(name: str, entropy: float) -> None:
    assert datasets.open_dataset(name).true_entropy() == pytest.approx(entropy, abs=1e-3)


def test_wrong_width_is_refused(dataset: Synthetic) -> None:
    with pytest.raises(UsageError, match="takes samples of shape"):
        dataset.true_log_prob(torch.zeros(4, 7))


def test_classic_shapes_match_scikit_learn() -> None:
    """two-moons and swissroll are scikit-learn's, rescaled."""
    sk = pytest.importorskip("sklearn.datasets")
    moons = sk.make_moons(20_000, noise=0.1, random_state=0)[0] * 2 + np.array([-1, -0.2])
    roll = sk.make_swiss_roll(20_000, noise=1.0, random_state=0)[0][:, [0, 2]] / 5
    for name, theirs in (("two-moons", moons), ("swissroll", roll)):
        data = datasets.open_dataset(name)
        nats = -data.true_log_prob(torch.from_numpy(theirs))
        error = nats.std().item() / math.sqrt(len(nats))
        assert nats.mean().item() == pytest.approx(data.true_entropy(), abs=5 * error), name


class TestArrays:
    """A user's own file."""

    @pytest.fixture
    def rows(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)

    def test_npy_is_split(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.save(tmp_path / "a.npy", rows)
        data = datasets.open_dataset(str(tmp_path / "a.npy"))
        views = [data.train, data.validation, data.test]
        assert [len(v) for v in views] == [81, 9, 10]
        everything = torch.cat([v.head() for v in views])
        assert torch.equal(everything.sort(0).values, torch.from_numpy(rows).sort(0).values)
        assert data.event_shape == (3,)

    def test_npz_with_train_and_test(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.savez(tmp_path / "a.npz", train=rows, test=rows[:30])
        data = ArrayDataset(str(tmp_path / "a.npz"))
        assert torch.equal(data.test.head(), torch.from_numpy(rows[:30]))

    def test_one_column_may_be_flat(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.save(tmp_path / "a.npy", rows[:, 0])
        assert ArrayDataset(str(tmp_path / "a.npy")).event_shape == (1,)

    def test_an_epoch_is_a_permutation(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.save(tmp_path / "a.npy", rows)
        view = ArrayDataset(str(tmp_path / "a.npy")).train
        epoch = view.batch(0, 5, 0, len(view))
        assert torch.equal(epoch.sort(0).values, view.head().sort(0).values)
        assert not torch.equal(epoch, view.head())

    def test_true_density_is_not_available(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.save(tmp_path / "a.npy", rows)
        data = ArrayDataset(str(tmp_path / "a.npy"))
        for ask in (data.true_entropy, lambda: data.true_log_prob(data.test.head())):
            with pytest.raises(NotAvailable):
                ask()

    def _written(self, path: Path, kind: str, rows: np.ndarray) -> Path:
        bad = rows.copy()
        bad[7, 1] = np.nan
        writers = {
            "nan": lambda: np.save(path, bad),
            "words": lambda: np.save(path, np.array(["a"] * 30)),
            "pickle": lambda: np.save(path, np.array([{}] * 30), allow_pickle=True),
            "cube": lambda: np.save(path, np.zeros((30, 2, 2))),
            "few": lambda: np.save(path, rows[:5]),
            "text": lambda: path.write_text("not an array"),
            "empty": lambda: path.write_bytes(b""),
        }
        writers[kind]()
        return path

    @pytest.mark.parametrize(
        ("kind", "message"),
        [
            ("nan", r"1 row with NaN or infinite values \(row 7; column 1\)"),
            ("words", "must be numeric"),
            ("pickle", "no array file"),
            ("cube", r"shape \(n, d\)"),
            ("few", "at least 20"),
            ("text", "no array file"),
            ("empty", "no array file"),
        ],
    )
    def test_bad_files_get_a_sentence(
        self, tmp_path: Path, rows: np.ndarray, kind: str, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            ArrayDataset(str(self._written(tmp_path / "bad.npy", kind, rows)))

    def test_truncated_npz(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.savez(tmp_path / "a.npz", train=rows, test=rows)
        whole = (tmp_path / "a.npz").read_bytes()
        (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match=r"a\.npz"):
            ArrayDataset(str(tmp_path / "a.npz"))

    def test_missing_file(self) -> None:
        with pytest.raises(DataError, match="There is no file"):
            datasets.open_dataset("nowhere/at-all.npy")

    def test_unknown_arrays(self, tmp_path: Path, rows: np.ndarray) -> None:
        np.savez(tmp_path / "a.npz", left=rows, right=rows)
        with pytest.raises(DataError, match="left, right"):
            ArrayDataset(str(tmp_path / "a.npz"))
