"""The page: self-contained, honest about what ended early, and alive in a browser."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import browsing
from surefoot import Constant, Cosine, Exponential, Greedy, Polynomial, curves, pictures, report, spec, stats, vega
from surefoot.loop import train
from surefoot.runs import Run, Trial, evaluation_steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from surefoot.policy import Policy
    from surefoot.stats import Cell

pytest.importorskip("vl_convert")

STEPS = 400
HOSTILE = "</script><script>alert('no')</script>\"&<b>"
POLICIES: dict[str, Policy[Any]] = {
    "greedy": Greedy(patience=1, factor=0.8),
    "cosine": Cosine(steps=STEPS),
    "step": Exponential(factor=0.99),
    "frozen": Constant(scale=0.0),
    "wild": Constant(scale=10.0),
}


@dataclass
class Quadratic:
    """A noisy parabola, a hundred times as steep for seed 2: ten times the base rate is too much there."""

    name: str = "quadratic"
    optimizer: str = "sgd"
    base: float = 0.01
    steps: int = STEPS
    revision: int = 1
    depth: float = 0.1

    def init(self, seed: int) -> dict[str, Any]:
        """Start at 3, on either slope."""
        return {"w": 3.0, "slope": 100.0 if seed == 2 else 1.0, "noise": np.random.default_rng(seed)}

    def step(self, run: dict[str, Any], rate: float) -> tuple[dict[str, Any], dict[str, float]]:
        """Go down the noisy slope."""
        loss = self.held_out(run)
        run["w"] -= rate * (run["slope"] * run["w"] + run["noise"].normal())
        return run, {"loss": loss}

    def held_out(self, run: dict[str, Any]) -> float:
        """The height above the parabola's lowest point, and its depth."""
        return 0.5 * run["slope"] * run["w"] * run["w"] + self.depth


def trained(problem: Quadratic, policy: Policy[Any], seed: int) -> Run:
    held_out: list[tuple[int, float]] = []
    evaluations = frozenset(evaluation_steps(problem.steps, 20))
    rows = train(problem, policy, seed=seed, evaluate=lambda *pair: held_out.append(pair), evaluate_at=evaluations)
    _, loss, rate = np.array(list(rows)).T.astype(np.float32)
    at, values = np.array(held_out, np.float32).reshape(-1, 2).T
    config = spec.to_dict(policy)
    trial = Trial(problem.name, 1, problem.optimizer, config, problem.base, problem.steps, 20, seed, "0")
    return Run(trial, loss, rate, at, values, "finished" if np.isfinite(loss).all() else "diverged", 0.0)


def judged(problem: Quadratic, policies: Mapping[str, Policy[Any]] = POLICIES, seeds: Sequence[int] = (0, 1, 2)) -> Cell:
    with np.errstate(over="ignore"):
        runs = {label: [trained(problem, policy, seed) for seed in seeds] for label, policy in policies.items()}
    return stats.cell(problem.name, problem.optimizer, runs)


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return [judged(Quadratic()), judged(Quadratic("shallow", "adamw", depth=0.5))]


@pytest.fixture(scope="module")
def html(cells: list[Cell]) -> str:
    return report.page(cells, title="Two parabolas", command="surefoot compare --seeds 3", notes=["Seen & done."])


def figures(html: str) -> str:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.DOTALL)
    assert found
    return found[1]


def single(run: Run, **changes: Any) -> Cell:
    """A cell of one run."""
    changed = Run(**{**vars(run), **changes})
    return stats.cell("quadratic", "sgd", {"greedy": [changed]})


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=600), st.integers(4, 100))
def test_thinning_keeps_order_ends_and_spikes(values: list[float], limit: int) -> None:
    row = np.array(values)
    kept = curves.thin(row, limit)
    assert len(kept) <= limit
    assert (np.diff(kept) > 0).all()
    assert kept[0] == 0
    assert kept[-1] == len(row) - 1
    assert row[kept].min() == row.min()
    assert row[kept].max() == row.max()


@given(st.floats(1e-12, 1e12), st.floats(1.01, 1e12), st.integers(1, 12))
def test_ticks_are_few_and_within_the_axis(low: float, ratio: float, most: int) -> None:
    found = vega.ticks(low, low * ratio, most)
    assert len(found) <= most
    assert all(low <= tick <= low * ratio for tick in found)


def test_all_that_is_drawn_is_finite_and_fits_a_logarithmic_axis(cells: list[Cell]) -> None:
    for cell in cells:
        for drawn in (curves.rates(cell), curves.held_out(cell), curves.training(cell)):
            heights = np.array([point.value for point in drawn.points])
            assert drawn.log
            assert np.isfinite(heights).all()
            assert (heights >= drawn.low).all()


def test_greedy_is_drawn_last(cells: list[Cell]) -> None:
    assert curves.rates(cells[0]).points[-1].policy == "greedy"


def test_greedy_keeps_its_colour_where_it_is_missing() -> None:
    assert pictures.order(["cosine", "step"]).index("cosine") == pictures.order(["cosine", "greedy"]).index("cosine")


def test_a_greedy_with_other_settings_has_greedys_colour() -> None:
    assert pictures.order(["cosine", "greedy(patience=5)"]) == ["greedy(patience=5)", "cosine"]


def test_policies_of_one_colour_differ_in_their_dashes() -> None:
    cell = judged(Quadratic(), {f"scale-{number}": Constant(scale=1 / number) for number in range(1, 13)}, seeds=[0])
    looks = [pictures.look(number) for number in range(13)]
    assert len(set(looks)) == 13
    assert [colour for colour, _ in looks].count(0) == 1
    assert 'stroke-dasharray="6,3"' in report.picture(cell)
    assert report.page([cell], title="", command="").count('class="swatch dashed"') == 4


def test_a_diverged_run_ends_in_a_cross(cells: list[Cell]) -> None:
    ends = [point for point in curves.rates(cells[0]).points if point.part == "end"]
    (run,) = [run for run in cells[0].runs["wild"] if run.status == "diverged"]
    assert [(end.policy, end.step) for end in ends] == [("wild", len(run.rate) - 1)]


def test_a_diverged_runs_curve_does_not_stretch_the_axis(cells: list[Cell]) -> None:
    first = max(float(run.loss[0]) for runs in cells[0].runs.values() for run in runs)
    assert curves.training(cells[0]).high <= curves.LARGEST_LOSS * first


def test_a_diverged_runs_cross_stands_at_the_same_step_in_every_plot(cells: list[Cell]) -> None:
    plots = [curves.rates(cells[0]), curves.held_out(cells[0]), curves.training(cells[0])]
    assert len({point.step for drawn in plots for point in drawn.points if point.part == "end"}) == 1
    assert plots[1].points[-1].value == plots[1].high


def test_a_single_seed_has_no_band_and_no_seed_lines() -> None:
    cell = judged(Quadratic(), {"greedy": Greedy()}, seeds=[0])
    assert {point.part for drawn in (curves.rates(cell), curves.held_out(cell)) for point in drawn.points} == {"middle"}


def test_negative_losses_are_drawn_on_a_linear_axis() -> None:
    assert not curves.training(judged(Quadratic(depth=-10.0), {"greedy": Greedy()})).log


def test_a_loss_of_zero_is_drawn_at_the_lowest_positive_one() -> None:
    run = trained(Quadratic(), Greedy(), 0)
    drawn = curves.held_out(single(run, held_out=np.where(run.held_out_step == STEPS, 0, run.held_out)))
    assert drawn.points[-1].value == drawn.low > 0.0


def test_a_run_that_diverged_before_its_first_evaluation_can_be_drawn() -> None:
    nothing = np.empty(0, np.float32)
    run = Run(trained(Quadratic(), Greedy(), 0).trial, *np.full((2, 1), np.nan, np.float32), nothing, nothing, "diverged", 0.0)
    text = report.page([single(run)], title="", command="")
    assert "There is no target, because greedy diverged." in text


def test_the_page_loads_nothing(html: str) -> None:
    without_bundle = html.replace(vega.converter().javascript_bundle(), "")
    assert "http://" not in without_bundle
    assert "https://" not in without_bundle
    assert re.findall(r"(?:src|href)\s*=\s*\"([^\"]*)\"", without_bundle) == ["data:,"]
    assert not re.search(r"url\(|@import", without_bundle)


def test_the_figures_are_strict_json(html: str) -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is no JSON")

    assert len(json.loads(figures(html), parse_constant=refuse)["specs"]) == 2
    assert not re.search(r"\b(nan|inf|infinity)\b", figures(html), re.IGNORECASE)


def test_the_page_stays_small(html: str) -> None:
    assert len(html.encode()) < 2_000_000


def test_what_came_from_outside_cannot_leave_its_place() -> None:
    cell = judged(Quadratic(HOSTILE, HOSTILE), {HOSTILE: Greedy(), "greedy": Greedy()})
    text = report.page([cell], title=HOSTILE, command=HOSTILE, notes=[HOSTILE])
    assert "<script>alert" not in text
    assert text.count("<script") == text.count("</script>") == 3
    assert HOSTILE in json.dumps(json.loads(figures(text)), ensure_ascii=False).replace('\\"', '"')


def test_the_table_says_what_went_wrong(html: str) -> None:
    row = re.search(r"<tr><th[^>]*>(?:(?!</tr>).)*wild.*?</tr>", html)
    assert row
    assert re.findall(r"<td>(.*?)</td>", row[0])[0] == "diverged"
    assert "1 of 3" in row[0]
    assert "missed" in html


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path: Path, cells: list[Cell], html: str) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    arguments: dict[str, Any] = {"title": "Two parabolas", "command": "surefoot compare --seeds 3", "notes": ["Seen & done."]}
    assert report.write(path, cells, **arguments) == path
    assert path.read_text("utf-8") == html
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, cells: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left")

    path = tmp_path / "page.html"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="no space left"):
        report.write(path, cells, title="", command="")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_package_is_named(cells: list[Cell], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    with pytest.raises(ImportError, match=r"pip install 'surefoot\[report\]'"):
        report.page(cells, title="", command="")


def test_a_cells_picture_is_svg_on_white(cells: list[Cell]) -> None:
    svg = report.picture(cells[0])
    assert svg.startswith("<svg")
    assert 'fill="white"' in svg
    assert all(f">{text}</text>" in svg for text in ("Learning rate", "Held-out loss", *POLICIES))


@pytest.mark.parametrize("log", [False, True])
def test_a_policys_picture_is_svg(log: bool) -> None:
    svg = report.policy_picture({"cosine": Cosine(steps=50), "linear": Polynomial(steps=50)}, 50, log=log)
    assert svg.count("mark-line") == 2


def test_a_policys_picture_needs_enough_losses() -> None:
    with pytest.raises(ValueError, match="losses must be 9 or more for 10 steps, got 1"):
        report.policy_picture({"greedy": Greedy()}, 10, [1.0])


@pytest.fixture
def opened(browser: Browser, html: str, tmp_path: Path) -> Iterator[Page]:
    with browsing.opened(browser, html, tmp_path) as page:
        yield page


def strengths(page: Page) -> dict[str, set[str]]:
    """The opacities of every colour's lines in the first figure."""
    lines = page.locator("#figure-0 .mark-line path").all()
    found: dict[str, set[str]] = {}
    for line in lines:
        opacity = line.get_attribute("opacity") or line.get_attribute("stroke-opacity") or "1"
        found.setdefault(line.get_attribute("stroke") or "", set()).add(opacity)
    return found


def test_every_figure_is_drawn(opened: Page, cells: list[Cell]) -> None:
    for number in range(len(cells)):
        middles = opened.locator(f"#figure-{number} .mark-line path[stroke-width='1.9'], path[stroke-width='3.2']")
        assert middles.count() >= 3 * len(POLICIES)
        assert opened.locator(f"#figure-{number} .role-legend-label text").count() == len(POLICIES)


def test_the_page_fits_a_desktop(opened: Page) -> None:
    assert opened.evaluate("document.documentElement.scrollWidth") <= 1280
    assert opened.evaluate("[...document.querySelectorAll('figure')].every(each => each.scrollWidth <= each.clientWidth)")


def test_a_click_in_the_legend_fades_the_others(opened: Page) -> None:
    before = strengths(opened)
    opened.locator("#figure-0 .role-legend-label text", has_text="cosine").click()
    after = strengths(opened)
    cosine = vega.LIGHT[pictures.order(POLICIES).index("cosine")]
    assert set(before) == set(after) == set(vega.LIGHT[: len(POLICIES)])
    assert after[cosine] == before[cosine]
    assert all(float(max(after[colour])) < 0.1 <= float(min(before[colour])) for colour in after if colour != cosine)


def test_a_click_with_shift_adds_a_policy_and_a_double_click_brings_all_back(opened: Page) -> None:
    before = strengths(opened)
    legend = opened.locator("#figure-0 .role-legend-label text")
    legend.nth(0).click()
    legend.nth(1).click(modifiers=["Shift"])
    after = strengths(opened)
    assert sum(after[colour] == before[colour] for colour in before) == 2
    opened.locator("#figure-0 svg").click(position={"x": 300, "y": 200})
    assert strengths(opened) == after
    opened.locator("#figure-0 svg").dblclick(position={"x": 300, "y": 200})
    assert strengths(opened) == before


def test_pointing_at_a_plot_lists_every_policys_value(opened: Page) -> None:
    opened.locator("#figure-0 svg").hover(position={"x": 850, "y": 200})
    tooltip = opened.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert all(policy in tooltip.inner_text() for policy in ("at step", *POLICIES))


def test_dark_colours_follow_the_readers_choice(opened: Page) -> None:
    opened.emulate_media(color_scheme="dark")
    opened.wait_for_selector("html[data-drawn=dark]")
    assert vega.DARK[0] in strengths(opened)
