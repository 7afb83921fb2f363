"""The pages open from a file without a network, answer to keys, and can be read aloud."""

import io

import numpy as np
import pytest
from browser import Reader, chromium
from PIL import Image
from reported import AMBER, GREEN, RED, report_case, report_organs

from grata_monai.report import write_case, write_index
from grata_monai.report.index import render_index
from grata_monai.report.pages import write_refused
from grata_monai.report.rows import FOLDER, Row, refuse
from grata_monai.write.pictures.colours import FINAL_COLOUR, PALETTE, SOURCE_COLOUR

pytestmark = pytest.mark.slow

LARGEST_PAGE = 4_000_000
SIZES = [(1280, 800), (390, 844)]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run with a case of every light, and one that was refused."""
    folder = tmp_path_factory.mktemp("run")
    for name, record in (("green", GREEN), ("amber", AMBER), ("red", RED)):
        write_case(report_case(name, record), folder)
    write_case(report_organs(), folder)
    write_refused(refuse("broken", "spacing must be above 0. Export it again."), folder / FOLDER)
    write_index(folder)
    return folder


def is_drawn(page, selector):
    return page.locator(selector).first.evaluate("e => getComputedStyle(e).visibility") == "visible"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["green", "red", "organs", "broken", None])
def test_a_page_opens_without_a_network_without_errors_and_without_overflow(
    name, size, browser, folder
):
    reader = Reader(browser, *size)
    page = reader.open(folder / (f"report/{name}.html" if name else "index.html"))
    assert page.locator("h1").is_visible()
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= size[0], "nothing makes the whole page scroll sideways"
    own = folder.as_uri()
    assert [url for url in reader.requests if not url.startswith(("data:", own))] == []
    if name:
        assert [url for url in reader.requests if not url.startswith("data:")] == []
    assert reader.faults == []


def test_a_case_s_page_is_small_enough_to_mail(folder):
    assert (folder / "report/green.html").stat().st_size < LARGEST_PAGE


def test_light_and_advice_come_first_and_in_words(browser, folder):
    page = Reader(browser).open(folder / "report/red.html")
    text = page.inner_text("body")
    words = ["✕ Red", "Do not rely on this mask", "by hand", "Volumes", "Steps of adaptation"]
    places = [text.index(word) for word in words]
    assert places == sorted(places)
    assert "img" in page.locator("svg.slice").first.get_attribute("role")
    assert "slice" in page.locator("svg.slice").first.get_attribute("aria-label")


def test_keys_and_buttons_choose_the_outlines(browser, folder):
    page = Reader(browser).open(folder / "report/green.html")
    assert is_drawn(page, ".slice .kept")
    assert is_drawn(page, ".slice .source")
    page.keyboard.press("o")
    assert not is_drawn(page, ".slice .kept")
    assert page.locator("input[value=source]").is_checked()
    page.locator("input[value=both]").check()
    assert is_drawn(page, ".slice .kept")
    assert not page.locator(".slice .views").first.is_visible()
    page.keyboard.press("m")
    assert page.locator("#views").is_checked()
    assert page.evaluate("() => document.body.dataset.views") == "on"


def test_the_flicker_switch_shows_one_mask_after_the_other(browser, folder):
    page = Reader(browser).open(folder / "report/green.html")
    page.keyboard.press("f")
    assert page.locator("#flicker").get_attribute("aria-pressed") == "true"
    for which in ("kept", "source"):
        page.locator(f"body[data-show={which}]").wait_for(timeout=20_000)
    page.click("#flicker")
    page.locator("body[data-show=both]").wait_for(timeout=5_000)


@pytest.mark.parametrize(("name", "told"), [("green", "Blue is"), ("organs", "Colours are")])
def test_the_viewer_opens_from_the_file(name, told, browser, folder):
    reader = Reader(browser)
    page = reader.open(folder / f"report/{name}.html")
    page.click("#open-viewer")
    page.locator("body[data-viewer=open]").wait_for(timeout=120_000)
    assert "wheel" in page.inner_text("#viewer-says")
    assert f"{told} the kept mask" in page.inner_text("#viewer-says")
    assert page.locator("#viewer canvas").bounding_box()["height"] > 300
    assert [url for url in reader.requests if not url.startswith(("data:", "blob:"))] == []
    assert reader.faults == []


def test_without_webgl_the_viewer_says_so(browser, folder):
    reader = Reader(browser)
    reader.page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page = reader.open(folder / "report/green.html")
    page.click("#open-viewer")
    assert "no WebGL 2" in page.inner_text("#viewer-says")
    assert reader.faults == []


def test_the_index_filters_and_turns_pages(browser, folder, tmp_path):
    page = Reader(browser).open(folder / "index.html")
    cases = page.locator("#rows tr td:nth-child(2)")
    assert cases.all_inner_texts() == ["broken", "red", "amber", "green", "organs"]
    page.locator("input[value=amber]").uncheck()
    assert cases.all_inner_texts() == ["broken", "red", "green", "organs"]
    page.fill("#find", "spacing must")
    assert cases.all_inner_texts() == ["broken"]
    page.click("text=broken")
    assert "There is no mask of this case" in page.inner_text("h1")
    assert "Spacing must be above 0. Export it again." in page.inner_text("main")


def test_ten_thousand_rows_become_a_page_of_fifty(browser, tmp_path):
    rows = [Row(f"case_{k:05}", "green", "fine", agreement=k / 10_000) for k in range(10_000)]
    (tmp_path / "index.html").write_text(render_index(rows))
    page = Reader(browser).open(tmp_path / "index.html")
    assert page.locator("#rows tr").count() == 50
    page.click("#next")
    assert page.inner_text("#place") == "51 to 100"
    page.fill("#find", "case_09999")
    assert page.inner_text("#status") == "1 of 10000 cases"


@pytest.mark.parametrize(
    ("name", "scheme"),
    [("report/amber.html", "dark"), ("report/organs.html", "light"), ("index.html", "light")],
)
def test_axe_finds_no_serious_fault(name, scheme, browser, folder):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    # a page's policy forbids strings that become code, which axe is when a test injects it
    context = browser.new_context(bypass_csp=True, color_scheme=scheme)
    page = context.new_page()
    page.goto((folder / name).as_uri())
    found = axe.Axe().run(page).response["violations"]
    serious = [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")]
    assert serious == []


def boxes(page, selector):
    """Left, top, right and bottom of every element, in pixels."""
    found = page.locator(selector).evaluate_all(
        "all => all.map(e => e.getBoundingClientRect())"
        ".map(b => [b.left, b.top, b.right, b.bottom])"
    )
    return np.array(found).reshape(-1, 4)


def count_columns(found):
    """How many boxes begin at different places from left to right."""
    return len(set(found[:, 0].round().tolist()))


@pytest.mark.parametrize(("size", "columns"), [(SIZES[0], 6), (SIZES[1], 2)])
@pytest.mark.parametrize("name", ["green", "amber", "red"])
def test_a_page_is_built_as_a_reader_goes_through_it(name, size, columns, browser, folder):
    page = Reader(browser, *size).open(folder / f"report/{name}.html")
    unsure = ["Where the magnifications disagree"] * (name != "red")
    assert page.locator("main h2:visible").all_inner_texts() == [
        "Where the masks differ most",
        *unsure,
        "Scroll through it, and see it in 3D",
        "Volumes and diameters",
        "What the guard looked at",
        "Steps of adaptation",
    ]
    tiles = boxes(page, ".tiles >> nth=0 >> figure")
    assert count_columns(tiles) == min(columns, len(tiles))
    everything = boxes(page, "main > section:visible")
    assert (everything[:-1, 3] <= everything[1:, 1] + 1).all(), "no section lies over the next"


def test_a_picture_of_the_page_shows_what_the_switches_say(browser, folder):
    page = Reader(browser).open(folder / "report/green.html")
    tile = page.locator("svg.slice").first

    def share(colour):
        pixels = np.asarray(Image.open(io.BytesIO(tile.screenshot())).convert("RGB")).astype(int)
        return (np.abs(pixels - colour).max(axis=-1) < 40).mean()

    assert share(FINAL_COLOUR) > 1e-3
    page.keyboard.press("k")
    assert share(SOURCE_COLOUR) < 1e-4 < share(FINAL_COLOUR)
    page.keyboard.press("n")
    assert share(FINAL_COLOUR) < 1e-4


def test_every_organ_has_a_colour_that_the_legend_names(browser, folder):
    page = Reader(browser).open(folder / "report/organs.html")
    assert page.locator("#labels .label").all_inner_texts() == ["left", "right"]
    for kind in ("kept", "source"):
        for number, name in enumerate(("left", "right")):
            line = page.locator(f"svg.slice .{kind}", has=page.locator(f"title:text-is('{name}')"))
            colour = line.first.evaluate("e => getComputedStyle(e).stroke")
            assert colour == f"rgb{PALETTE[number]}"
    keys = page.locator("#labels .key").evaluate_all(
        "all => all.map(e => getComputedStyle(e).borderTopColor)"
    )
    assert keys == [f"rgb{colour}" for colour in PALETTE[:2]]
    mask = page.locator("fieldset .key.kept").evaluate("e => getComputedStyle(e).borderTopColor")
    ink = page.locator("body").evaluate("e => getComputedStyle(e).color")
    assert mask == ink, "which mask a line is of is said by its dashes alone"


def test_on_paper_the_outlines_have_a_legend_and_nothing_to_press(browser, folder):
    page = Reader(browser).open(folder / "report/green.html")
    legend = page.get_by_text("Outlines: kept, original")
    assert not legend.is_visible()
    page.emulate_media(media="print")
    assert legend.is_visible()
    assert not page.locator("button:visible").count()


@pytest.mark.parametrize("size", SIZES)
def test_letters_and_scale_lie_within_their_slice(size, browser, folder):
    page = Reader(browser, *size).open(folder / "report/green.html")
    for tile in page.locator("svg.slice").all():
        frame = tile.bounding_box()
        for text in tile.locator("text").all():
            box = text.bounding_box()
            assert box["y"] >= frame["y"] - 4
            assert box["y"] + box["height"] <= frame["y"] + frame["height"] + 4


def test_on_a_narrow_screen_a_row_is_a_card_with_every_word(browser, folder):
    page = Reader(browser, *SIZES[1]).open(folder / "index.html")
    says = boxes(page, ".cases .says")
    assert (says[:, 2] <= SIZES[1][0]).all()
    assert not page.locator(".cases thead").is_visible()
    card = page.locator(".cases tr", has_text="green").last
    shown = card.locator("td.n").first.evaluate("e => getComputedStyle(e, '::before').content")
    assert "Agreement" in shown
