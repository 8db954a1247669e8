"""What a scheduler did can be looked at, in a notebook and in files."""

import json
import sys
from math import nan

import numpy as np
import pytest
import torch

import browsing
from surefoot import Cosine, Greedy, Step, plots, vega
from surefoot.changes import Change
from surefoot.drawing import Drawing
from surefoot.history import History
from surefoot.plots import Stretch
from surefoot.torch import GreedyLR, PolicyLR

pytest.importorskip("vl_convert")

LOSSES = [2.0 * 0.99**step + 0.02 * (step % 5) for step in range(150)] + [0.5 + 0.02 * (step % 5) for step in range(100)]


def driven(policy, losses=LOSSES, lr=0.1):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = PolicyLR(optimizer, policy)
    for loss in losses:
        optimizer.step()
        scheduler.step(loss)
    return scheduler


@pytest.fixture(scope="module")
def drawing():
    return driven(Greedy(window=10)).plot()


def change(step, before, scale, reason="raised: why"):
    return Change(step, before, scale, reason, 0.5)


def test_a_drawing_shows_the_reasons_in_words(drawing):
    assert ": 11 better in a row<" in drawing.svg()
    assert ": 11 not better in a row<" in drawing.svg()


def test_a_schedule_of_time_is_drawn_without_reasons():
    assert len(driven(Cosine(250)).plot().spec["vconcat"]) == 2


def test_a_loss_that_was_never_a_number_leaves_a_picture_of_the_rate():
    assert driven(Step(milestones=(3,), factor=0.1), [nan] * 6).plot().svg().startswith("<svg")


def test_a_rate_that_never_changed_is_drawn():
    assert driven(Greedy(), [1.0]).plot().svg().startswith("<svg")


def test_a_loss_that_explodes_leaves_the_picture(drawing):
    assert plots.axis(np.array([*LOSSES, 1e30]), 200) == plots.axis(np.array(LOSSES), 200)


def test_what_was_resumed_is_drawn_from_where_it_went_on():
    before = driven(Greedy(window=10))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = PolicyLR(optimizer, Greedy(window=10))
    scheduler.load_state_dict(before.state_dict())
    optimizer.step()
    scheduler.step(0.5)
    domain = scheduler.plot().spec["vconcat"][0]["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain == [len(LOSSES), len(LOSSES) + 1]


def test_there_is_nothing_to_draw_before_the_first_step():
    scheduler = GreedyLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1))
    with pytest.raises(ValueError, match="there is nothing to draw yet"):
        scheduler.plot()


def test_a_run_of_a_hundred_thousand_steps_makes_a_small_picture():
    history = History()
    for step in range(100_000):
        history.keep(2.0 + 0.1 * (step % 7))
        if step % 2048 == 0:
            history.thin()
    assert len(plots.of_schedule(history, 0.1).svg()) < 200_000


def test_changes_in_a_row_for_one_reason_are_one_stretch():
    made = [change(1, 1.0, 2.0), change(2, 2.0, 4.0), change(3, 4.0, 2.0, "lowered: why"), change(4, 2.0, 4.0)]
    assert [(found.first, found.last, found.times) for found in plots.stretches(made)] == [(1, 2, 2), (3, 3, 1), (4, 4, 1)]


def test_few_of_many_stretches_are_told_and_they_are_the_largest():
    many = [Stretch(step, step, 1, 1.0, 1.0 + step / 100, f"raised: {step}") for step in range(1, 101)]
    found = plots.told(many)
    assert [stretch.first for stretch in found] == list(range(89, 101))


def test_trifles_are_not_told_beside_a_large_stretch():
    large, trifle = Stretch(5, 90, 50, 1.0, 100.0, "raised"), Stretch(2, 2, 1, 1.0, 0.95, "lowered")
    assert plots.told([trifle, large]) == [large]


def test_to_and_from_a_scale_of_0_is_the_largest_of_all():
    assert plots.told([Stretch(1, 1, 1, 1.0, 0.0, "lowered"), Stretch(2, 2, 1, 1.0, 50.0, "raised")])[0].after == 0.0


def test_a_notebook_shows_it(drawing):
    bundle = drawing._repr_mimebundle_()
    assert bundle["text/html"].startswith("<div")
    assert bundle["text/plain"] == "Drawing(title='Loss and rate until step 250')"


@pytest.mark.parametrize(
    ("name", "begins"), [("a.svg", b"<svg"), ("a.PNG", b"\x89PNG"), ("a.html", b"<!DOCTYPE html>"), ("a.json", b"{")]
)
def test_it_is_saved_in_many_forms(drawing, tmp_path, name, begins):
    assert drawing.save(tmp_path / name) == tmp_path / name
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_json_is_the_specification(drawing, tmp_path):
    told = json.loads(drawing.save(tmp_path / "a.json").read_text())
    assert told["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
    assert told["vconcat"] == drawing.spec["vconcat"]


def test_another_suffix_is_refused_and_nothing_is_written(drawing, tmp_path):
    with pytest.raises(ValueError, match="saved as .svg, .png, .html or .json, got 'a.pdf'"):
        drawing.save(tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(drawing, tmp_path, monkeypatch):
    path = drawing.save(tmp_path / "a.svg")
    before = path.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        Drawing("other", {"data": {"values": []}, "mark": "point"}, {}, "").save(path)
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == ["a.svg"]


def test_without_what_draws_it_says_what_to_install(drawing, monkeypatch):
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(ImportError, match=r"pip install 'surefoot\[report\]'"):
        drawing.svg()


def test_svg_has_a_night_for_each_of_its_colours(drawing):
    svg = drawing.svg()
    assert all(f'[stroke="{day}"]{{stroke:{night}}}' in svg for day, night in zip(vega.LIGHT, vega.DARK, strict=True))


def test_the_page_opens_in_a_browser_light_and_dark(browser, drawing, tmp_path):
    with browsing.opened(browser, drawing.html(), tmp_path) as opened:
        assert opened.locator("#figure-0 svg .mark-line path").count() >= 2
        assert opened.evaluate("document.documentElement.scrollWidth") <= 1280
        opened.emulate_media(color_scheme="dark")
        opened.wait_for_selector("html[data-drawn=dark]")
        assert opened.locator(f"#figure-0 .mark-line path[stroke='{vega.DARK[1]}']").count() == 1
