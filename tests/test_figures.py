"""Figures: sizes, files and their numbers, and what they say of curves that leave their panel."""

import csv
import struct
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle
from matplotlib.text import Text

from aevb import figures
from aevb.figures import style
from aevb.figures.edges import Shown, note_departures
from aevb.figures.style import COLUMN, TEXT, looks, new_drawing
from experiments import shared_flags
from experiments.reports.figure_files import save_figure
from tests.processes import assert_one_line_error, experiment
from tests.test_experiments import size_of_png

SAMPLES = np.array([0, 100, 1000, 10_000, 100_000])
RISING = np.array([-500.0, -120, -100, -95, -92])


def curve(label: str, test: np.ndarray = RISING) -> figures.Curve:
    return figures.Curve(label, SAMPLES, test + 1, test)


def panels(number: int) -> list[figures.Panel]:
    return [figures.Panel(f"panel {index}", [curve("first"), curve("second", RISING - 5)]) for index in range(number)]


def texts(figure: figures.Drawing) -> str:
    return " ".join(word for axes in figure.axes for text in axes.texts for word in text.get_text().split())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# Sizes and files


@pytest.mark.parametrize(("number", "width"), [(1, COLUMN), (2, TEXT), (5, TEXT), (9, TEXT)])
def test_panels_are_wide_enough_for_their_type(tmp_path, number, width):
    """Five panels of Figure 2 are not squeezed into one row."""
    figure = figures.bound_panels(panels(number), num_columns=5)
    assert len(figure.axes) == number
    figures.save(figure, tmp_path / "figure.png")
    assert size_of_png(tmp_path / "figure.png")[0] == pytest.approx(200 * width, abs=1)
    assert min(axes.get_position().width * width for axes in figure.axes) > 1.4
    texts: Any = figure.findobj(Text)
    sizes = {text.get_fontsize() for text in texts if text.get_text()}
    assert min(sizes) >= 8


def test_settings_of_others_change_nothing(tmp_path):
    figure = figures.lower_bounds([curve("")], "title")
    figures.save(figure, tmp_path / "one.png")
    with matplotlib.rc_context({"savefig.dpi": 50, "figure.dpi": 300, "font.size": 30, "xtick.labelsize": 30}):
        figures.save(figures.lower_bounds([curve("")], "title"), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_the_same_figure_gives_the_same_files(tmp_path):
    for name in ("one", "two"):
        figures.save(figures.bound_panels(panels(3), 3), tmp_path / f"{name}.png", ("pdf", "svg"))
    for ending in ("png", "pdf", "svg", "csv"):
        contents = [(tmp_path / f"{name}.{ending}").read_bytes() for name in ("one", "two")]
        assert contents[0] == contents[1], ending
        assert len(contents[0]) > 300
    assert len(list(tmp_path.iterdir())) == 8
    assert (tmp_path / "one.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (tmp_path / "one.svg").read_bytes()


def test_a_path_may_name_its_format(tmp_path):
    figure = figures.image_grid(np.zeros((4, 3, 3)), 2, "title")
    figures.save(figure, tmp_path / "new" / "figure.pdf", data=())
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["figure.pdf"]
    with pytest.raises(ValueError, match="formats must be of png, pdf, svg, got 'gif'"):
        figures.save(figure, tmp_path / "other.png", ("gif",))
    assert not (tmp_path / "other.png").exists()


def test_the_table_has_every_number(tmp_path):
    seeds = np.stack([RISING, RISING - 2])
    figure = figures.bound_panels([figures.Panel("N = 10", [figures.Curve("a", SAMPLES, seeds, seeds)])], 1)
    figures.save(figure, tmp_path / "bounds.png")
    rows = table(tmp_path / "bounds.csv")
    assert list(rows[0]) == ["panel", "curve", "split", "x", "y", "standard_deviation"]
    assert len(rows) == 2 * 4  # nothing at 0, which is not on a log axis
    test = [row for row in rows if row["split"] == "test"]
    assert [float(row["x"]) for row in test] == [100, 1000, 10_000, 100_000]
    np.testing.assert_allclose([float(row["y"]) for row in test], RISING[1:] - 1)
    assert {row["panel"] for row in rows} == {"N = 10"}


def test_numbers_that_are_not_known_are_empty(tmp_path):
    rows = [{"x": np.float32(0.1), "y": np.nan}, {"x": 2, "z": "a, b"}]
    figures.write_data(tmp_path / "table.csv", rows)
    assert (tmp_path / "table.csv").read_text() == 'x,y,z\n0.1,,\n2,,"a, b"\n'


# Colours and markers


def test_looks_differ_without_colour():
    found = looks(56)
    assert len({(look.color, look.marker) for look in found}) == 56
    assert len({look.marker for look in found[:7]}) == 7
    assert len({str(look.line) for look in found[:7]}) == 7


def test_a_curve_looks_the_same_in_every_panel():
    shown = [figures.Panel("all", [curve("0.1"), curve("0.01")]), figures.Panel("one", [curve("0.01")])]
    first, second = figures.bound_panels(shown, 2).axes
    of = lambda axes, index: (axes.get_lines()[index].get_color(), axes.get_lines()[index].get_marker())
    assert of(first, 2) == of(second, 0) != of(first, 0)


# Curves that leave their panel


def noted(y: np.ndarray, low: float, high: float, name: str = "curve", is_log: bool = False) -> tuple[list[str], list]:
    axes = new_drawing(COLUMN, 2, "").subplots()
    x = 10.0 ** np.arange(len(y)) if is_log else np.arange(float(len(y)))
    axes.plot(x, y)
    if is_log:
        axes.set_xscale("log")
    axes.set_ylim(low, high)
    lines = note_departures(axes, [Shown(name, "", "red", x, np.asarray(y, float))])
    return lines, [np.asarray(line.get_xydata())[0].tolist() for line in axes.get_lines()[1:]]


def test_departures_are_said_and_marked():
    assert noted(np.array([1.0, 2, 3]), 0, 4) == ([], [])
    assert noted(np.array([-10.0, 10, 12]), 0, 20) == (["curve starts at \N{MINUS SIGN}10"], [[0.5, 0.0]])
    assert noted(np.array([-10.0, 10]), 0, 20, is_log=True)[1] == [[pytest.approx(10**0.5), 0.0]]
    assert noted(np.array([3.0, 2, -1234]), 0, 4)[0] == ["curve ends at \N{MINUS SIGN}1,234"]
    assert noted(np.array([3.0, 9, 3]), 0, 4) == (["curve rises out at 9"], [[1.0, 4.0]])
    assert noted(np.array([3.0, -9, 3]), 0, 4)[0] == ["curve falls out at \N{MINUS SIGN}9"]
    assert noted(np.array([7.0, 9, 8]), 0, 4)[0] == ["curve is above the panel at 7 to 9"]
    assert noted(np.array([np.nan, np.nan]), 0, 4)[0] == ["curve has no finite value"]
    assert noted(np.array([np.nan, 1.0]), 0, 4)[0] == []


def test_a_curve_that_falls_out_is_named_in_its_panel():
    falling = np.array([-500.0, -100, -95, -200, -812])
    curves = [figures.Curve("MAP", SAMPLES, RISING, falling), curve("full")]
    words = texts(figures.bound_panels([figures.Panel("N = 50", curves)], 1))
    assert "MAP test ends at \N{MINUS SIGN}812" in words


def test_a_hopeless_curve_and_a_diverged_one_are_named():
    curves = [curve("learning rate 0.01"), curve("learning rate 0.1", np.full(5, -4000.0))]
    panel = figures.Panel("latent 2", curves, notes=["learning rate 1: diverged"])
    words = texts(figures.bound_panels([panel], 1, y_quantile=55))
    assert "learning rate 0.1 is below the panel" in words
    assert "learning rate 1: diverged" in words
    assert "diverged" in texts(figures.bound_panels([figures.Panel("", [], notes=["all diverged"])], 1))


def test_many_curves_that_start_outside_are_counted():
    curves = [curve(f"latent {size}", np.array([-1.0, -900, -100, -95, -90 - size])) for size in (2, 5, 10)]
    words = texts(figures.bound_panels([figures.Panel("", curves)], 1, y_quantile=26))
    assert "all curves start near \N{MINUS SIGN}900" in words


def test_lower_bounds_say_what_starts_outside():
    samples = np.geomspace(100, 1e6, 40)
    late = np.concatenate([[-300.0, -200], np.full(38, -90.0)])
    curves = [figures.Curve("latent 2", samples, np.full(40, -100.0), np.full(40, -100.0)),
              figures.Curve("latent 10", samples, late, late)]  # fmt: skip
    assert "latent 10 starts at \N{MINUS SIGN}300" in texts(figures.lower_bounds(curves, "title"))


# Latent spaces


def test_a_collapsed_posterior_looks_collapsed():
    means = np.random.RandomState(0).normal(size=(200, 2)) * 0.01
    figure = figures.latent_scatter(means, np.arange(200) % 3, "title")
    (axes,) = figure.axes
    assert axes.get_aspect() == 1
    radii = sorted(patch.radius for patch in axes.patches if isinstance(patch, Circle))
    assert radii == [1, 2, 3]
    for low, high in (axes.get_xlim(), axes.get_ylim()):
        assert low < -3
        assert high > 3
    assert {row["class"] for row in figure.data} == {"0", "1", "2"}
    assert not axes.texts  # names would cover the points
    spread = figures.latent_scatter(100 * means, np.arange(200) % 3, "title")
    assert spread.axes[0].texts


def test_another_prior_is_drawn_by_its_density(tmp_path):
    z = np.linspace(-12, 12, 241)
    density = np.exp(-0.5 * (z[:, None] ** 2 / 4 + z[None, :] ** 2)) / (4 * np.pi)
    prior = figures.Density(z, z, density)
    figure = figures.latent_scatter(np.zeros((5, 2)), None, "title", prior=prior)
    figures.save(figure, tmp_path / "latent.png")
    contours: Any
    (contours,) = [each for each in figure.axes[0].collections if hasattr(each, "levels")]
    # Of a Gaussian within 1, 2 and 3 standard deviations.
    np.testing.assert_allclose(contours.levels, density.max() * np.exp([-4.5, -2, -0.5]), rtol=0.05)
    assert len(table(tmp_path / "latent.csv")) == 5


def test_manifolds_have_axes_of_z():
    images = np.arange(9.0).reshape(3, 3, 1, 1) / 9
    figure = figures.manifold(images, "title", np.array([-1.5, 0, 1.5]))
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$z_1$", "$z_2$")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text() for text in labels] == ["\N{MINUS SIGN}1.5", "0.0", "1.5"]
    shown = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(shown[0, ::2], images[:, 2].ravel())  # the highest z2 is on top, z1 rises to the right
    assert axes.get_yticks()[2] < axes.get_yticks()[0]
    assert figure.data[1] == {"row": 2, "column": 1, "z1": -1.5, "z2": 0}


# Words


def test_axes_are_called_the_same_everywhere():
    numbers = np.array([100, 1000])
    drawn = [
        figures.lower_bounds([curve("")], "title"),
        figures.bound_panels(panels(1), 1),
        figures.reconstruction_and_kl(numbers, numbers, numbers, "title"),
        figures.levels(numbers, {"z1": numbers, "z2": numbers}, {}, "title"),
    ]
    assert {axes.get_xlabel() for figure in drawn for axes in figure.axes} == {"training samples"}


def test_long_titles_stay_inside():
    title = "a title of many words " * 8
    figure: Any = figures.lower_bounds([curve("")], title)
    FigureCanvasAgg(figure).draw()
    box = figure._suptitle.get_window_extent()
    assert box.width / figure.dpi < 0.98 * COLUMN
    assert style.wrapped("one\ntwo", 3.0) == "one\ntwo"


# The flag and TensorBoard


def test_unknown_formats_are_refused_before_anything_is_done(tmp_path):
    done = experiment("digits", "--figure_format=pdf,gif", f"--workdir={tmp_path / 'run'}")
    assert_one_line_error(done, "--figure_format must be of png,pdf,svg")
    assert not (tmp_path / "run").exists()


def test_vectors_of_an_earlier_run_do_not_stay_beside_a_newer_figure(tmp_path, monkeypatch):
    def draw(number: int, *formats: str) -> set[str]:
        monkeypatch.setattr(shared_flags, "figure_formats", lambda: list(formats))
        save_figure(figures.bound_panels(panels(number), 3), tmp_path / "bounds.png")
        return {path.name for path in tmp_path.iterdir()}

    others = {"bounds.txt", "bounds.pdf.txt", "bounds2.pdf", "bounds.eps"}
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "bounds.svg").mkdir()  # not a figure
    always = {"bounds.png", "bounds.csv", "bounds.svg", *others}
    assert draw(1, "pdf") == {*always, "bounds.pdf"}
    earlier = (tmp_path / "bounds.pdf").read_bytes()
    assert draw(2, "pdf") == {*always, "bounds.pdf"}
    assert (tmp_path / "bounds.pdf").read_bytes() != earlier
    assert draw(3) == always
    (tmp_path / "bounds.svg").rmdir()
    always.remove("bounds.svg")
    assert draw(1, "pdf", "svg") == {*always, "bounds.pdf", "bounds.svg"}
    assert draw(1, "svg") == {*always, "bounds.svg"}
    assert draw(1) == always


def test_the_library_removes_no_file(tmp_path):
    """Whoever calls `save` once per format gets every file."""
    for name in ("figure.pdf", "figure.svg", "figure.png"):
        figures.save(figures.bound_panels(panels(1), 1), tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"figure.pdf", "figure.svg", "figure.png", "figure.csv"}


def test_a_run_has_vectors_numbers_and_images_in_tensorboard(data_dir, tmp_path):
    arguments = ("--latent_dim=2", "--num_epochs=1", "--hidden_dim=8", f"--data_dir={data_dir}")
    done = experiment("digits", *arguments, "--figure_format=pdf", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    names = {path.stem for path in (tmp_path / "run" / "figures").glob("*.png")}
    assert {path.stem for path in (tmp_path / "run" / "figures").glob("*.pdf")} == names
    assert {path.stem for path in (tmp_path / "run" / "figures").glob("*.csv")} == names
    (events,) = (tmp_path / "run").glob("events.out.tfevents.*.images")
    assert images_in(events) == {f"figures/{name}": size_of_png(tmp_path / "run" / "figures" / f"{name}.png")
                                 for name in names}  # fmt: skip


def images_in(path: Path) -> dict[str, tuple[int, int]]:
    """Return the images of an event file, by tag, with the sizes that it states."""
    from tensorboardX.proto import event_pb2

    event_of: Any = event_pb2
    contents, found, at = path.read_bytes(), {}, 0
    while at < len(contents):
        (length,) = struct.unpack("<Q", contents[at : at + 8])
        event = event_of.Event.FromString(contents[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            found[value.tag] = (value.image.width, value.image.height)
            assert value.image.encoded_image_string.startswith(b"\x89PNG")
    return found
