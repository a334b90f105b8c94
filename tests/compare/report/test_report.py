"""The report of made-up comparisons: whole, incomplete, damaged."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.image import imread

import unmask.compare.report
from unmask.base.errors import UserError
from unmask.compare.records import load_comparison
from unmask.compare.report.page import write_report
from unmask.compare.report.quality import generated_texts, other_texts
from unmask.compare.report.speedups import speed_ups
from unmask.compare.tables import halves_table
from unmask.plot.figure import draw
from unmask.plot.key import entries_of, picture
from unmask.plot.style import Key, legend, line_of, panels, settings

Make = Callable[..., Path]

PLOTS = ["nelbo_steps", "nelbo_seconds", "speed_up", "cross_entropy", "mask_rates", "training"]
CORPORA = ("plays.txt", "news.txt", "code.jsonl")
LONG = "bell:mean=0.35,std=0.15+train.optimizer=muon"
NASTY = "bell+x=<script>alert('arm')</script>&$a_b$|`"
ARMS = ("standard", LONG, NASTY, "ar")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out, which take most of the time, where a test is of the words alone."""
    monkeypatch.setattr("unmask.plot.figure.draw", lambda *_: [])


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def words(page: str) -> str:
    """What a reader sees, more or less."""
    plain = re.sub(r"(?s)<(style|script)>.*?</\1>", "", page)
    return unescape(re.sub(r"<[^>]*>", "", plain))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_page_and_pictures(drawn: Path) -> None:
    path = drawn / "report" / "index.html"
    page = path.read_text(encoding="utf-8")
    assert page.count("<figure ") == len(PLOTS) == page.count("<figcaption>")
    assert page.count('<svg role="img"') == 2 * len(PLOTS)  # for wide and for narrow windows
    names = sorted(p.name for p in path.parent.iterdir())
    assert names == sorted(["index.html", *(f"{plot}.png" for plot in PLOTS)])
    for plot in PLOTS:
        picture = imread(path.parent / f"{plot}.png")
        assert picture.shape[1] == 1290  # 8.6 inches at 150 dpi
        assert picture[..., :3].std() > 0.02  # something is drawn
        assert picture[0, 0, :3].min() == 1  # on white


def quality_of(run: Path, scale: float) -> None:
    """What ``compare --evaluate`` leaves beside a run."""
    lines: list[dict[str, Any]] = []
    for step in (50, 100, 200):
        for corpus in CORPORA:
            numbers = {"nelbo": 5.0, "stderr": 0.1, "ppl": 148.0, "bits_per_byte": scale / step}
            lines.append({"step": step, "kind": "corpus", "corpus": corpus, **numbers})
        numbers = {"ppl": 900 * scale / step, "entropy": 4 + step / 500, "judge": "JUDGE-1"}
        numbers |= {"text_ppl": 30.0, "text_entropy": 4.6}
        lines.append({"step": step, "kind": "generative", **numbers})
    (run / "quality.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_what_was_measured_at_the_checkpoints_is_plotted(comparison: Make) -> None:
    folder = comparison()
    for scale, run in enumerate(sorted(folder.glob("*/seed-*")), 2):
        quality_of(run, 50 * scale)
    measured = load_comparison(folder)
    for plot, count, lines in ((other_texts, 3, 0), (generated_texts, 2, 1)):
        found = plot(measured)
        assert found is not None and ("JUDGE-1" in found.caption) == (plot is generated_texts)
        axes = [axes for axes in found.figure.axes if axes.axison]
        assert len(axes) == count
        assert count == 2 or {each.get_title() for each in axes} == {*CORPORA}
        for each in axes:  # a curve for each arm, and a line for the real text
            assert len(each.lines) == 4 + lines


@pytest.mark.slow
def test_pictures_of_what_was_measured(comparison: Make) -> None:
    folder = comparison()
    for scale, run in enumerate(sorted(folder.glob("*/seed-*")), 2):
        quality_of(run, 50 * scale)
    page = page_of(folder)
    assert page.count("<figure ") == len(PLOTS) + 2
    assert "JUDGE-1" in words(page) and "Zero-shot" in words(page)
    for plot in ("other_texts", "generated"):
        picture = imread(folder / "report" / f"{plot}.png")
        assert picture[..., :3].std() > 0.02


@pytest.mark.usefixtures("undrawn")
def test_page_tells_everything(comparison: Make) -> None:
    seen = words(page_of(comparison()))
    for told in ("standard", LONG, NASTY, "ar", "not reached", "2.00×", "0.60–6.71", "4.2000"):
        assert told in seen
    for told in ("± 0.0123", "+0.2000", "+0.2000 to +0.2000", "within evaluation noise"):
        assert told in seen
    for told in ("How to read it", "95% interval", "Linux-test", "2.13.0", "time=uniform"):
        assert told in seen
    assert "Not done" not in seen and "validation blocks with an" not in seen


@pytest.mark.usefixtures("undrawn")
def test_page_of_another_baseline_and_of_half_the_blocks(comparison: Make) -> None:
    folder = comparison()
    seen = words(write_report(folder, "ar", "odd").read_text())
    assert "the validation blocks with an odd number alone" in seen
    assert "Compared with ar, the baseline: standard" in seen
    assert "4.2500" in seen and "4.0000" not in seen  # standard's bound on the odd blocks
    assert "4.0000" in words(page_of(folder))


def test_page_needs_nothing_from_outside(drawn: Path) -> None:
    page = (drawn / "report/index.html").read_text(encoding="utf-8")
    links = re.findall(r"""(?:src|href|xlink:href|action|data)\s*=\s*["']?([^"'\s>]*)""", page)
    links += re.findall(r"url\(([^)]*)\)", page)
    assert links
    assert all(link.startswith("#") or link.removesuffix(".png") in PLOTS for link in links)
    addresses = set(re.findall(r"\bhttps?://[^\"'<\s]*", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page and "<link" not in page and "<img" not in page


def test_only_the_pages_own_script_may_run(drawn: Path) -> None:
    page = (drawn / "report/index.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"(?s)<script[^>]*>(.*?)</script>", page)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    allowed = {"default-src": ["'none'"], "style-src": ["'unsafe-inline'"]}
    allowed["script-src"] = [f"'sha256-{digest}'"]
    found = [part.split() for part in policy.split(";")]
    assert {name: sources for name, *sources in found} == allowed
    assert not re.search(r"""\son\w+\s*=\s*["']""", page.replace(script, ""))  # no handler in a tag


def test_without_its_script_the_page_has_everything(drawn: Path) -> None:
    page = (drawn / "report/index.html").read_text(encoding="utf-8")
    page = re.sub(r"(?s)<script>.*?</script>", "", page)
    bound = page.split('<figure id="nelbo_steps">')[1].split("</figure>")[0]
    for drawing in bound.split('<div class="narrow">'):
        assert set(re.findall(r'<g class="arm" data-arm="(\d+)"', drawing)) == {*"0123"}
    legend = bound.split('<ul class="legend">')[1].split("</ul>")[0]
    assert [words(entry).strip() for entry in legend.split("<li>")[1:]] == list(ARMS)
    # What only the script can use is hidden until it runs; nothing else is.
    hidden = re.findall(r"<(\w+)[^>]*\shidden", page)
    assert hidden == ["input"] * page.count("<input") and "<button" not in page
    assert "away" not in re.sub(r"(?s)<style>.*?</style>", "", page)
    for table in ("summary", "leaderboard", "runs"):
        rows = page.split(f'<table id="{table}"')[1].split("</table>")[0]
        for name in ARMS:
            assert name in words(rows)


@pytest.mark.usefixtures("undrawn")
def test_cells_are_sorted_by_the_numbers_they_show(comparison: Make) -> None:
    page = page_of(comparison())
    board = page.split('<table id="leaderboard"')[1].split("</table>")[0]
    shown = re.findall(r'data-value="([\d.]+)">\s*<b>([\d.]+)×</b>', board)
    assert len(shown) == 4 and all(f"{float(value):.2f}" == seen for value, seen in shown)
    assert re.search(r"<td>\s*not reached", board)  # and so by nothing


def test_crowds_look_apart() -> None:
    """24 arms, and many more, each with a look of its own; the first few differ by colour alone."""
    arms = [Key(str(index), index) for index in range(150)]
    looks = [line_of(arm) for arm in arms]
    keys = ("color", "linestyle", "marker")
    assert len({tuple(look[key] for key in keys) for look in looks}) == len(arms)
    assert len({(look["color"], look["linestyle"]) for look in looks[:24]}) == 24
    assert len({(look["color"], look["marker"]) for look in looks[:24]}) == 24
    assert len({look["color"] for look in looks[:7]}) == 7
    pictures = [picture(handle) for handle, _ in entries_of(arms[:24])]
    assert len(set(pictures)) == 24
    assert looks[0]["linewidth"] > 1.3 * looks[1].get("linewidth", 1.6)
    assert [line_of(arm) for arm in arms[:3]] == looks[:3]  # by place alone, however many there are


def test_a_legend_covers_no_curve_and_takes_nothing_from_the_axes() -> None:
    with settings():
        drawing, every = panels(3, 2, 2.0)
        drawing.draw_without_rendering()
        drawing.set_layout_engine("none")
        before = [axes.get_window_extent().size for axes in every]
        legend(drawing, entries_of([Key(f"arm {index}", index) for index in range(24)]))
        drawing.draw_without_rendering()
        (box,) = drawing.legends
        top = box.get_window_extent().y1
        assert box.get_window_extent().y0 >= 0
        for axes, size in zip(every, before, strict=True):
            assert axes.get_window_extent().size == pytest.approx(size)
            tight = axes.get_tightbbox()
            assert tight is not None and tight.y0 >= top


def test_ids_of_the_plots_are_apart(drawn: Path) -> None:
    page = (drawn / "report/index.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'href="#([^"]*)"', page) + re.findall(r"url\(#([^)]*)\)", page)
    assert targets and set(targets) <= set(ids)


@pytest.mark.usefixtures("undrawn")
def test_names_and_samples_are_text(comparison: Make) -> None:
    page = page_of(comparison())
    assert page.count("<script") == page.count("<script>") == 1  # its own
    assert "&lt;script&gt;alert(&#39;arm&#39;)" in page
    assert "&lt;script&gt;alert(&#39;sample&#39;)" in page
    assert "if a &lt; b &amp;&amp; c:\n    " in page
    assert r"\x00\x07" in page and "\x00" not in page


def test_names_cannot_break_out_of_the_markdown_table(comparison: Make) -> None:
    lines = halves_table(load_comparison(comparison(), blocks="odd")).splitlines()
    cells = [len(re.split(r"(?<!\\)\|", line)) for line in lines]
    assert cells == [11] * 6 and all(line.count("`") in (0, 2) for line in lines)


def test_halves_need_their_blocks(comparison: Make) -> None:
    folder = comparison()
    odd = load_comparison(folder, blocks="odd")
    assert odd.baseline.result.nelbo == pytest.approx(4.25)
    assert odd.baseline.result.other_nelbo == pytest.approx(3.75)
    (folder / "standard/seed-0/blocks.jsonl").unlink()
    with pytest.raises(UserError, match=r"standard/seed-0 .* blocks\.jsonl"):
        load_comparison(folder, blocks="odd")
    assert load_comparison(folder).arms[1].result.difference is None


def test_a_run_that_goes_to_its_end_is_done_whatever_the_plan_says(comparison: Make) -> None:
    folder = comparison()
    edit(folder / "plan.json", lambda p: p["recipes"][0]["runs"][0].update(state="running"))
    path = folder / "standard/seed-1/metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    first, second = load_comparison(folder).baseline.runs
    assert (first.state, second.state) == ("done", "unfinished")


@pytest.mark.usefixtures("unrendered")
def test_unfinished_runs_are_told(comparison: Make) -> None:
    states = {("standard", 1): "diverged", (LONG, 0): "failed", ("ar", 1): "waiting"}
    folder = comparison(states=states)
    (folder / "ar" / "seed-0" / "metrics.jsonl").unlink()
    page = page_of(folder)
    seen = words(page)
    assert "Not done, and so left out of the numbers" in seen
    assert "seed 1 diverged after step 100" in seen
    assert "seed 0 failed after step 100" in seen
    assert "seed 1 waiting" in seen and "seed 0 no records" in seen
    assert "Thin lines that end in a cross" in seen
    assert page.count("<figure ") == len(PLOTS)


@pytest.mark.usefixtures("unrendered")
def test_nothing_finished(comparison: Make) -> None:
    names = ("standard", LONG, NASTY, "ar")
    folder = comparison(seeds=1, states={(name, 0): "diverged" for name in names})
    seen = words(page_of(folder))
    assert "No speed-up can be told: standard has no run that is done" in seen
    assert "none done" in seen
    assert (folder / "report" / "nelbo_steps.png").exists()


@pytest.mark.usefixtures("unrendered")
def test_no_records_at_all(comparison: Make) -> None:
    folder = comparison()
    for path in folder.glob("*/seed-*/*"):
        path.unlink()
    page = page_of(folder)
    assert "no records" in words(page) and "no configuration can be read" in words(page)
    assert page.count("<figure ") == 0


@pytest.mark.usefixtures("undrawn")
def test_one_seed_has_no_interval(comparison: Make) -> None:
    seen = words(page_of(comparison(seeds=1)))
    assert "One seed: there is no interval" in seen
    assert "95%" not in seen and "0.60–6.71" not in seen


def test_a_plot_is_the_same_bytes_under_other_settings(drawn: Path, tmp_path: Path) -> None:
    with matplotlib.rc_context({"font.size": 20}):
        draw(lambda: [speed_ups(load_comparison(drawn))], tmp_path)
    name = "speed_up.png"
    assert (tmp_path / name).read_bytes() == (drawn / "report" / name).read_bytes()


@pytest.mark.slow
def test_remade_report_is_the_same_bytes(comparison: Make) -> None:
    folder = comparison()
    write_report(folder)
    first = {p.name: p.read_bytes() for p in (folder / "report").iterdir()}
    # Another process, with other hashes and other settings of matplotlib.
    code = (
        "import sys, pathlib, matplotlib; matplotlib.rcParams['font.size'] = 20;"
        "from unmask.compare.report.page import write_report;"
        "write_report(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd="/")
    assert {p.name: p.read_bytes() for p in (folder / "report").iterdir()} == first


@pytest.mark.slow
def test_import_is_light() -> None:
    code = "import sys, unmask.compare.report.page; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_report_stands_alone() -> None:
    """It is made from records: it trains, evaluates, samples and opens nothing."""
    rooms = ("base", "plot", "config", "recipe", "compare.records", "compare.statistics")
    for path in Path(unmask.compare.report.__file__).parent.glob("*.py"):
        for module in re.findall(r"from unmask\.(\S*) import", path.read_text()):
            assert module.startswith((*rooms, "compare.report")), path


@pytest.mark.usefixtures("undrawn")
def test_damaged_lines_are_left_out_and_told(comparison: Make) -> None:
    folder = comparison()
    path = folder / "standard" / "seed-0" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[4] = '{"step": 40, "kind": "ev\n'
    lines[6] = "null\n"
    path.write_text("".join(lines) + '{"step": 220, "kin')  # the last one cut short by a crash
    seen = words(page_of(folder))
    assert "2 lines of the records could not be read" in seen
    assert "2 damaged lines left out" in seen


def damage_extras(folder: Path) -> None:
    """Samples and blocks that tell nothing."""
    for path in folder.glob("*/seed-0/samples.json"):
        path.write_text("[]")
    (folder / "standard/seed-1/blocks.jsonl").write_text("")


@pytest.mark.usefixtures("undrawn")
def test_damaged_extras_are_done_without(comparison: Make) -> None:
    folder = comparison()
    damage_extras(folder)
    page = page_of(folder)
    assert "<h2>Samples</h2>" not in page
    assert "within evaluation noise" not in page.split("</table>")[0]


@pytest.mark.slow
def test_damaged_extras_keep_no_plot_back(comparison: Make) -> None:
    folder = comparison()
    damage_extras(folder)
    assert page_of(folder).count('<svg role="img"') == 2 * len(PLOTS)  # two widths, as above


def test_missing_comparison(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither plan\.json .* valid: .* unmask compare"):
        write_report(tmp_path)
    assert not list(tmp_path.glob("report"))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"recipes": [], "baseline": "a"}'])
@pytest.mark.parametrize("name", ["plan", "comparison"])
def test_damaged_comparison(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / f"{name}.json").write_text(content)
    with pytest.raises(UserError, match=rf"{name}\.json is damaged"):
        write_report(tmp_path)


def test_curves_of_unlike_seeds_are_put_on_one_grid() -> None:
    import numpy as np

    from unmask.compare.report.curves import _together

    grid, values = _together([np.array([[0.0, 10], [4, 2]]), np.array([[0.0, 8], [6, 2]])])
    assert grid[0] == 0 and grid[-1] == 8
    assert values[:, -1] == pytest.approx([2.4, 2])
    assert values[:, 0] == pytest.approx([4, 6])


def test_drawn_rates_of_a_recipe_that_changes_are_of_the_whole_run(comparison: Make) -> None:
    import numpy as np

    from unmask.compare.report.rates import drawn_rates
    from unmask.config import load_config, save_config

    folder = comparison(seeds=1)
    run = folder / "standard/seed-0"
    config = load_config(run / "config.yaml")
    # Over the first half of the steps no masks, over the second the bell turns uniform.
    recipe = (
        "bell:time=truncated-normal,mean=0.3,std=0.05,low=0.0,high=1.0,weight=flat,"
        "masking=bernoulli,stratified=true,paired=false,ar_warmup=0.5,anneal=0.5,fit=none"
    )
    train = config.train.model_copy(update={"batch_size": 64})
    config = config.model_copy(update={"recipe": recipe, "train": train})
    save_config(config, run / "config.yaml")
    drawn = drawn_rates(load_comparison(folder).baseline)
    assert drawn is not None and drawn.causal and drawn.steps == drawn.of == 200
    assert drawn.density.mean() == pytest.approx(1, abs=1e-3)
    assert drawn.density[-10:] == pytest.approx(0.5, abs=0.01)  # uniform half of the time
    bars = np.repeat(drawn.histogram, 5)  # five points of the grid in a bin
    assert abs(bars - drawn.density).mean() < 0.1
    assert drawn.histogram.mean() == pytest.approx(1)


def test_long_names_are_folded() -> None:
    from unmask.plot.style import fold

    assert fold(LONG, 30) == "bell:mean=0.35,std=0.15+\ntrain.optimizer=muon"
    assert fold("x" * 50, 20).split("\n") == ["x" * 20, "x" * 20, "x" * 10]
