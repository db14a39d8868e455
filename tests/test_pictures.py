"""Images go out as bytes, grids, PNGs and figures, and come in from a user's files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from smoothctl.datasets.pictures import (
    MASKS,
    read_columns,
    read_events,
    read_mask,
    snap,
    to_uint8,
    write_png,
)
from smoothctl.errors import DataError, RunError, UsageError
from smoothctl.reporting.figures import columns, grid, save
from smoothctl.rng import generator
from smoothctl.sampling.output import check_folder, write_folder

GREY, RGB = (1, 6, 5), (3, 6, 5)


def images(n: int, *shape: int) -> Tensor:
    """Random images whose values are bytes."""
    return snap(2 * torch.rand(n, *shape, generator=generator("images", n)) - 1, 256)


class TestOut:
    """Rounded, clipped for show, laid out without loss."""

    def test_bytes(self) -> None:
        values = torch.tensor([-7.0, -1.0, 0.0, 1.0, 9.0, torch.nan, -1 + 2 / 255 * 0.6])
        assert to_uint8(values).tolist() == [0, 0, 128, 255, 255, 0, 1]
        every = torch.arange(256) / 127.5 - 1
        assert to_uint8(every).tolist() == list(range(256))

    @settings(deadline=None, max_examples=25)
    @given(st.integers(1, 12), st.integers(1, 5), st.sampled_from([1, 3]), st.integers(0, 3))
    def test_every_image_is_in_its_tile(self, n: int, across: int, c: int, gap: int) -> None:
        x = images(n, c, 40, 33)
        picture = grid(x, across, gap)
        assert picture.shape == (c, -(-n // across) * (40 + gap) - gap, across * (33 + gap) - gap)
        for i, expected in enumerate(to_uint8(x)):
            top, left = i // across * (40 + gap), i % across * (33 + gap)
            assert (picture[:, top : top + 40, left : left + 33] == expected).all()

    def test_small_images_are_enlarged_by_whole_numbers(self) -> None:
        x = images(1, 1, 8, 8)
        assert (grid(x)[:, ::8, ::8] == to_uint8(x)[0]).all()

    def test_other_channels_have_no_picture(self) -> None:
        with pytest.raises(UsageError, match="1 or 3 channels"):
            grid(images(2, 4, 5, 5))

    @pytest.mark.parametrize(("shape", "mode"), [(GREY, "L"), (RGB, "RGB")])
    def test_png(self, tmp_path: Path, shape: tuple[int, ...], mode: str) -> None:
        x = images(1, *shape)
        write_png(tmp_path / "x.png", to_uint8(x)[0])
        with Image.open(tmp_path / "x.png") as picture:
            assert picture.mode == mode
        assert torch.equal(read_events(tmp_path / "x.png", shape), x)

    @pytest.mark.parametrize("shape", [GREY, RGB])
    def test_a_folder_reads_back_the_same(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        x = images(12, *shape)
        write_folder(tmp_path / "out", x)
        assert (tmp_path / "out/00011.png").is_file()
        assert torch.equal(read_events(tmp_path / "out", shape), x)

    def test_folders_in_the_way(self, tmp_path: Path) -> None:
        check_folder(tmp_path / "new", overwrite=False)
        check_folder(tmp_path, overwrite=False)
        (tmp_path / "mine.txt").touch()
        for overwrite in (False, True):
            with pytest.raises(RunError, match="there already"):
                check_folder(tmp_path, overwrite)
        write_folder(tmp_path / "ours", images(1, *GREY))
        with pytest.raises(RunError, match="overwrite"):
            check_folder(tmp_path / "ours", overwrite=False)
        check_folder(tmp_path / "ours", overwrite=True)

    def test_columns_show_every_pixel(self, tmp_path: Path) -> None:
        """A block of the figure is the grid itself, below its title."""
        x = images(6, 1, 8, 8)
        blocks = {"a": x, "a much longer title": images(7, 3, 8, 8)[:6], "z": x.view(3, 2, 1, 8, 8)}
        save(columns(blocks, across=1), tmp_path / "c.png")
        with Image.open(tmp_path / "c.png") as picture:
            shown = np.asarray(picture.convert("L"))
        expected = grid(x, 1)[0]
        assert (shown[36 : 36 + len(expected), 10 : 10 + expected.shape[1]] == expected).all()
        last = grid(x, 2)[0]
        right = shown[36 : 36 + len(last), -10 - last.shape[1] : -10]
        assert (right == last).all()
        assert shown[:36].min() < 100


class TestIn:
    """What people have as images; everything else is one sentence that names the file."""

    def test_colours_become_what_the_run_models(self, tmp_path: Path) -> None:
        grey = np.arange(30, dtype=np.uint8).reshape(6, 5) * 8
        Image.fromarray(grey).save(tmp_path / "g.png")
        expected = torch.from_numpy(grey).float() / 127.5 - 1
        assert torch.equal(read_events(tmp_path / "g.png", GREY)[0, 0], expected)
        assert torch.equal(read_events(tmp_path / "g.png", RGB)[0], expected.expand(3, 6, 5))
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "wide.png")
        assert torch.equal(read_events(tmp_path / "wide.png", GREY)[0, 0], expected)
        Image.new("CMYK", (5, 6)).save(tmp_path / "c.jpg")
        assert read_events(tmp_path / "c.jpg", RGB).min() > 0.9

    @pytest.mark.parametrize(
        "layout", ["n c h w", "c h w", "n h w c", "n h w", "h w"], ids=lambda x: x.replace(" ", "")
    )
    def test_array_layouts(self, tmp_path: Path, layout: str) -> None:
        x = images(4, *GREY) if "n" in layout else images(1, *GREY)
        axes = layout.split()
        array = to_uint8(x)
        if axes[-1] == "c":
            array = np.moveaxis(array, 1, -1)
        elif "c" not in axes:
            array = array[:, 0]
        array = array if "n" in axes else array[0]
        np.save(tmp_path / "a.npy", array)
        assert torch.equal(read_events(tmp_path / "a.npy", GREY), x)

    def test_keys_and_floats_of_an_npz(self, tmp_path: Path) -> None:
        clean, noisy = images(3, *GREY), 3 * images(3, *GREY)
        file = tmp_path / "a.npz"
        np.savez(file, samples=clean, smoothed=noisy, other=np.zeros(3))
        assert torch.equal(read_events(file, GREY, ("samples", "smoothed")), clean)
        assert torch.equal(read_events(file, GREY, ("smoothed",), reach=4.0), noisy)
        with pytest.raises(DataError, match="floats in"):
            read_events(file, GREY, ("smoothed",))
        with pytest.raises(DataError, match="it holds samples, smoothed, other"):
            read_events(file, GREY)

    def test_vectors(self, tmp_path: Path) -> None:
        np.save(tmp_path / "v.npy", 100 * np.ones((4, 2)))
        assert read_events(tmp_path / "v.npy", (2,)).shape == (4, 2)
        with pytest.raises(DataError, match=r"models vectors"):
            read_events(tmp_path, (2,))

    def test_what_does_not_fit(self, tmp_path: Path) -> None:
        Image.new("L", (7, 7)).save(tmp_path / "big.png")
        (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
        (tmp_path / "bad.npz").write_bytes(b"PK rubbish")
        np.save(tmp_path / "nan.npy", np.full((1, 1, 6, 5), np.nan))
        np.save(tmp_path / "shape.npy", np.zeros((2, 9)))
        np.save(tmp_path / "kind.npy", np.zeros(GREY, dtype=complex))
        (tmp_path / "empty").mkdir()
        for name, message in [
            ("big.png", "7×7, and this run models 5×6"),
            ("bad.png", "cannot be read as an image"),
            ("bad.npz", "cannot be read as an array file"),
            ("nan.npy", "not finite"),
            ("shape.npy", "of shape 1×6×5"),
            ("kind.npy", "complex"),
            ("empty", "holds no images"),
            ("missing.png", "no file or folder"),
        ]:
            with pytest.raises(DataError, match=message) as error:
                read_events(tmp_path / name, GREY)
            assert name in str(error.value)

    def test_a_bomb_is_refused_by_its_header(self, tmp_path: Path) -> None:
        bomb = Image.new("1", (16_000, 12_000))
        bomb.save(tmp_path / "bomb.png")
        with pytest.raises(DataError, match=r"bomb\.png"):
            read_events(tmp_path / "bomb.png", GREY)


class TestMask:
    """Names say what is missing; in a file white is known."""

    @pytest.mark.parametrize("name", MASKS)
    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (1, 2, 2)])
    def test_names(self, name: str, shape: tuple[int, ...]) -> None:
        known = read_mask(name, shape)
        assert known.shape == (1, 1, *shape[1:])
        assert known.any() or min(shape[1:]) == 2
        assert not known.all()

    def test_the_bottom_half_is_missing(self) -> None:
        known = read_mask("bottom-half", (1, 8, 8))
        assert known[..., :4, :].all()
        assert not known[..., 4:, :].any()

    def test_opposite_halves_are_complements(self) -> None:
        for one, other in [("bottom-half", "top-half"), ("left-half", "right-half")]:
            assert torch.equal(read_mask(one, RGB), ~read_mask(other, RGB))

    def test_file(self, tmp_path: Path) -> None:
        known = np.zeros((6, 5), np.uint8)
        known[1, 2] = 255
        Image.fromarray(known).save(tmp_path / "m.png")
        assert torch.equal(
            read_mask(str(tmp_path / "m.png"), RGB)[0, 0], torch.from_numpy(known > 0)
        )

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="did you mean bottom-half"):
            read_mask("botom-half", GREY)
        Image.new("L", (5, 6), 255).save(tmp_path / "white.png")
        with pytest.raises(UsageError, match="nothing to draw"):
            read_mask(str(tmp_path / "white.png"), GREY)
        with pytest.raises(DataError, match="5×6, and this run models 8×8"):
            read_mask(str(tmp_path / "white.png"), (1, 8, 8))


@settings(deadline=None)
@given(st.integers(2, 300), st.floats(-1.5, 1.5))
def test_snapping_is_to_the_nearest_level_and_settled(levels: int, value: float) -> None:
    x = torch.tensor([value], dtype=torch.float64)
    snapped = snap(x, levels)
    assert torch.equal(snap(snapped, levels), snapped)
    assert (snapped - x.clamp(-1, 1)).abs().item() <= 1 / (levels - 1) + 1e-12
    assert torch.equal(snap(x, None), x)


class TestColumns:
    @pytest.mark.parametrize(
        ("text", "known"),
        [("1", [1, 0, 1]), ("0, 2", [0, 1, 0]), ("last-half", [1, 0, 0]), ("0,1,2", [0, 0, 0])],
    )
    def test_the_named_ones_are_missing(self, text: str, known: list[int]) -> None:
        assert read_columns(text, (3,)).int().tolist() == [known]

    @pytest.mark.parametrize("text", ["3", "-1", "a", "", "1,", "bottom-half"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="from 0 to 2"):
            read_columns(text, (3,))
