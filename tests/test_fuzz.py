"""Files of arbitrary and of mutated content: each reader works or raises one of our errors."""

import gzip
import io
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from smoothctl.datasets import open_dataset
from smoothctl.datasets.pictures import read_events, read_mask
from smoothctl.errors import SmoothctlError
from smoothctl.evaluation.compare import compare
from smoothctl.evaluation.measurements import OF_QUALITY
from smoothctl.evaluation.records import append_scores
from smoothctl.metrics.image_sets import open_images
from smoothctl.reporting.page import report
from smoothctl.reporting.scores import comparison_table
from smoothctl.reporting.tables import markdown
from smoothctl.runs.config import from_toml
from smoothctl.runs.run import Run, load_density
from smoothctl.storage.files import verify_manifest

NUMBERS = st.one_of(
    *(st.integers(), st.floats(), st.just(10**299), st.just(-(10**299)), st.just(1e308)),
)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["bound, 16 draws", "bound, ²", "exact", "bound, " + "9" * 400 + " d", "two-step"]
    ),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def _table(kinds: dict[str, st.SearchStrategy]) -> st.SearchStrategy:
    """Some of the keys, each mostly of its kind."""
    return st.fixed_dictionaries(
        {}, optional={key: st.one_of(kind, kind, kind, VALUES) for key, kind in kinds.items()}
    )


_FIGURES = {measure.key: NUMBERS for measure in OF_QUALITY}
_LIKELIHOOD = _table(
    {
        **{"model": TEXTS, "quantity": TEXTS, "nats": NUMBERS, "standard_error": NUMBERS},
        **{"bits_per_dim": NUMBERS, "bits_per_dim_error": NUMBERS, "examples": st.integers()},
    }
)
_SAMPLES = _table(
    {"method": TEXTS, "energy_distance": NUMBERS, "off_support": NUMBERS, "classifier_p": NUMBERS}
)
_QUALITY = _table(
    {
        **{"features": TEXTS, "features_sha256": TEXTS, "reference": TEXTS, "width": NUMBERS},
        **{"rows": st.lists(_table({"samples": TEXTS, "count": NUMBERS, **_FIGURES}), max_size=3)},
        **{"warnings": st.lists(TEXTS, max_size=2), "not_available": st.just({"a": "b"})},
    }
)
ENTRIES = st.lists(
    _table(
        {
            **{"likelihood": st.lists(_LIKELIHOOD, max_size=3), "seed": st.integers()},
            **{"samples": st.lists(_SAMPLES, max_size=3), "samples_each": st.integers()},
            **{"quality": _QUALITY, "true_entropy": NUMBERS, "draws": st.just([2, 16])},
            **{"weights": TEXTS, "sampler": st.just({"steps": 3}), "limit": st.integers()},
            **{"time": TEXTS, "versions": VALUES, "dataset": TEXTS, "not_available": VALUES},
        }
    ),
    max_size=3,
)
EFFORTS = ["few", pytest.param("many", marks=pytest.mark.slow)]


def _effort(name: str, effort: str) -> settings:
    """Returns how many examples are tried: a page of a report takes a quarter of a second."""
    page = name in PAGES
    number = (12 if page else 60) if effort == "few" else (150 if page else 1500)
    return settings(
        max_examples=number,
        deadline=None,
        derandomize=effort == "few",
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def works_or_says_so(*calls) -> int:
    """Makes each call; returns how many ended in one sentence. Anything else is an error."""
    refused = 0
    for call in calls:
        try:
            call()
        except SmoothctlError as error:
            refused += 1
            assert len(str(error)) < 3000, str(error)[:3000]
    return refused


def check_scores(run: Run, entries: object) -> None:
    (run.path / "scores.json").write_text(json.dumps(entries))
    works_or_says_so(
        lambda: report(run, samples=False),
        lambda: [markdown(comparison_table(each)) for each in compare([run])],
        lambda: append_scores(run.path, {}),
    )


def check_log(run: Run, content: bytes) -> None:
    (run.path / "scores.json").unlink(missing_ok=True)
    run.stage("prior").log_file.write_bytes(content)
    works_or_says_so(lambda: report(run, samples=False))


def check_config(run: Run, content: bytes) -> None:
    (run.path / "prior/config.toml").write_bytes(content)
    works_or_says_so(
        run.stage("prior").config,
        lambda: from_toml(run.path / "prior/config.toml"),
        lambda: report(run, samples=False),
        lambda: compare([run]),
    )


def check_weights(run: Run, content: bytes) -> None:
    file = run.path / "prior/model.safetensors"
    file.write_bytes(content)
    works_or_says_so(lambda: load_density(file))


def check_damaged_weights(run: Run, content: bytes) -> None:
    """Also checks that damage is never read as other weights."""
    file = run.path / "prior/model.safetensors"
    file.write_bytes(content)
    whole = load_density(run.path / "whole.safetensors")[0].state_dict()
    try:
        found = load_density(file)[0].state_dict()
    except SmoothctlError:
        return
    assert all(torch.equal(found[key], value) for key, value in whole.items())


def check_manifest(run: Run, content: bytes) -> None:
    newest = sorted((run.path / "prior/checkpoints").iterdir())[-1]
    (newest / "manifest.json").write_bytes(content)
    works_or_says_so(lambda: verify_manifest(newest, "state.safetensors"))


def check_array(run: Run, content: bytes) -> None:
    for name in ("x.npz", "x.npy"):
        file = run.path / name
        file.write_bytes(content)
        works_or_says_so(
            lambda: read_events(file, (2,), ("samples",)),  # noqa: B023
            lambda: read_events(file, (1, 8, 8), ("samples",)),  # noqa: B023
            lambda: open_dataset(str(file), {}),  # noqa: B023
        )


def check_idx(run: Run, content: bytes) -> None:
    for name, held in (("x-idx3-ubyte", content), ("x.gz", gzip.compress(content, 1))):
        file = run.path / name
        file.write_bytes(held)
        works_or_says_so(
            lambda: read_events(file, (2,)),  # noqa: B023
            lambda: open_dataset(str(file), {}),  # noqa: B023
            lambda: open_images(str(file)),  # noqa: B023
        )


def check_table(run: Run, content: bytes) -> None:
    file = run.path / "x.csv"
    file.write_bytes(content)
    works_or_says_so(
        lambda: open_dataset(str(file)), lambda: open_dataset(str(file), {"columns": "a,2"})
    )


def check_picture(run: Run, content: bytes) -> None:
    folder = run.path / "pictures"
    folder.mkdir(exist_ok=True)
    (folder / "x.png").write_bytes(content)
    works_or_says_so(
        lambda: read_events(folder / "x.png", (1, 8, 8)),
        lambda: read_mask(str(folder / "x.png"), (1, 8, 8)),
        lambda: open_dataset(str(folder), {}),
    )


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    """Content with a few bits flipped, and parts removed, doubled or replaced."""
    changed = content
    for _ in range(draw(st.integers(1, 4))):
        i, j = (draw(st.integers(0, len(changed))) for _ in range(2))
        i, j = min(i, j), max(i, j, min(i, j) + 1)
        part = changed[i:j]
        flipped = bytes([part[0] ^ (1 << draw(st.integers(0, 7)))]) + part[1:] if part else b""
        other = draw(
            st.sampled_from([flipped, flipped, b"", part * 2, draw(st.binary(max_size=9))])
        )
        changed = changed[:i] + other + changed[j:]
    return changed


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A safetensors file whose header is well-formed JSON of any meaning."""
    entry = _table(
        {
            "dtype": st.sampled_from(["F32", "BOOL", "I64", "BF16", "X"]),
            "shape": st.lists(st.integers(-1, 2**62), max_size=3),
            "data_offsets": st.lists(st.integers(-1, 40), min_size=1, max_size=3),
        }
    )
    ours = _table({"format": st.integers(0, 3), "content_sha256": TEXTS, "stage": TEXTS})
    metadata = st.one_of(VALUES, st.builds(lambda o: {"smoothctl": json.dumps(o)}, ours))
    values = draw(st.dictionaries(st.text(max_size=3), entry, max_size=3))
    text = json.dumps({**values, "__metadata__": draw(metadata)}).encode()
    length = draw(st.sampled_from([len(text), len(text), len(text) + 1, 2**63, 0]))
    return length.to_bytes(8, "little") + text + draw(st.binary(max_size=40))


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, samples=np.linspace(-1, 1, 60, dtype=np.float32).reshape(30, 2))
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((30, 8, 8), np.uint8))
    return buffer.getvalue()


def _idx() -> bytes:
    return b"\0\0\x08\x03" + struct.pack(">3I", 30, 8, 8) + bytes(30 * 64)


CELLS = st.one_of(
    NUMBERS.map(str), TEXTS, st.sampled_from(["", "1", "2.5", "nan", '"3"', '"', "a"])
)
TABLES = st.lists(st.lists(CELLS, min_size=1, max_size=3), max_size=25)


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A table of good rows between others, with any separator and end of line."""
    separator, end = draw(st.sampled_from(",;\t ")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    rows = [*draw(TABLES), *[[str(i), "0.5"] for i in range(draw(st.sampled_from([0, 25])))]]
    text = end.join(separator.join(row) for row in [["a", "b"], *rows])
    return text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])), "replace")


def _csv() -> bytes:
    return b"a,b\n" + b"".join(b"%d,%d.5\n" % (i, i * i) for i in range(30))


def _picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(buffer, kind)
    return buffer.getvalue()


LINES = st.lists(
    st.builds(json.dumps, _table({"step": st.integers(), "loss": NUMBERS})), max_size=9
)


@st.composite
def replaced(draw: st.DrawFn, text: str) -> bytes:
    """A config.toml with a value or a word replaced."""
    words = ['"gaussian"', "0.3", '"made"', "two-moons", " 60", "[2]", "width", '"prior"', " 16"]
    odd = st.sampled_from(["nan", "-inf", "1e400", "0x" + "f" * 99, "-0.0", '"1\\n"', "[[]]"])
    value = draw(st.one_of(VALUES.map(json.dumps), TEXTS, odd))
    return text.replace(draw(st.sampled_from(words)), value).encode(errors="replace")


def _of(run: Run, name: str) -> bytes:
    return (run.path / name).read_bytes()


def _checks(run: Run) -> dict[str, tuple]:
    """What is checked by name: the check, and the strategies of its contents."""
    weights = "prior/model.safetensors"
    manifest = next((run.path / "prior/checkpoints").glob("*/manifest.json"))
    config = _of(run, "prior/config.toml")
    return {
        "scores": (check_scores, ENTRIES),
        "log": (check_log, st.one_of(LINES.map("\n".join).map(str.encode), st.binary())),
        "mutated log": (check_log, mutated(_of(run, "prior/log.jsonl"))),
        "mutated config": (check_config, mutated(config)),
        "config": (check_config, replaced(config.decode())),
        "headers": (check_weights, headers()),
        "mutated weights": (check_damaged_weights, mutated(_of(run, weights))),
        "bytes": (check_weights, st.binary(max_size=200)),
        "mutated manifest": (check_manifest, mutated(manifest.read_bytes())),
        "manifest": (check_manifest, VALUES.map(json.dumps).map(str.encode)),
        "npz": (check_array, mutated(_npz())),
        "npy": (check_array, mutated(_npy())),
        "idx": (check_idx, mutated(_idx())),
        "csv": (check_table, mutated(_csv())),
        "tables": (check_table, tables()),
        "png": (check_picture, mutated(_picture("PNG"))),
        "jpeg": (check_picture, mutated(_picture("JPEG"))),
        "gif": (check_picture, mutated(_picture("GIF"))),
        "tiff": (check_picture, mutated(_picture("TIFF"))),
        "webp": (check_picture, mutated(_picture("WEBP"))),
    }


PAGES = ["scores", "log", "mutated log", "config", "mutated config"]
NAMES = [*PAGES, "headers", "mutated weights", "bytes", "manifest", "mutated manifest"]
NAMES += ["npz", "npy", "idx", "csv", "tables", "png", "jpeg", "gif", "tiff", "webp"]


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_reader_works_or_says_so(
    trained_run: Run, tmp_path: Path, name: str, effort: str
) -> None:
    """Whatever a file holds: a result, or one of our errors; never another, never a hang."""
    shutil.copytree(trained_run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    for stage in ("baseline", "denoiser"):
        shutil.rmtree(run.path / stage)
    shutil.copy(run.stage("prior").weights_file(), run.path / "whole.safetensors")
    check, contents = _checks(run)[name]
    _effort(name, effort)(given(contents)(lambda content: check(run, content)))()
