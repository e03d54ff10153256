"""The report page: what it says, that it loads nothing, that no text breaks out, and how it behaves in a browser."""

import json
import math
import re
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
from browser import chromium, console, requests, set_dark, set_width
from hypothesis import given, settings
from hypothesis import strategies as st
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from emorl.reporting.claims import Characteristics
from emorl.reporting.page.render import ASSETS, VERDICTS, _duration, _number, write_page
from emorl.reporting.page.report import _energy
from emorl.runtime.files import ROOT
from emorl.training.manifest import manifest_of

HOSTILE = "</script></style><img src=x onerror=\"alert(1)\"><b class='x'>&amp;&lt;{{ 1 }} 'quoted\" "
CHOSEN = ("purpose", "verdict", "png", "name", "id", "pdf", "csv")
"""Not free text: words from a list, paths, names of places in the page."""


def card(model="EfficientMORL", values=(86.2, 86.4, None), verdict="differs"):
    seeds = [
        {
            "seed": seed,
            "value": value,
            "failed": "diverged at step 700: loss is nan" if value is None else None,
            "run": f"runs/clevr6/emorl/base-1234567890/seed{seed}",
            "command": f"snakemake --cores all reproduce_table1 --config scale=demo models=emorl seeds=[{seed}]",
            "mlflow": f"experiment demo, run clevr6/emorl/base/seed{seed}",
            "mlflow_page": f"http://127.0.0.1:5000/#/experiments/1/runs/{seed}" if seed else None,
            "manifest": {
                "commit": "49aa45c",
                "data_sha256": "ab" * 32,
                "wall_seconds": 211.5,
                "gpus": {"count": 0},
            },
        }
        for seed, value in enumerate(values)
    ]
    return {
        "title": f"{model} on CLEVR6 (replica), ARI",
        "unit": "ARI x 100",
        "seeds": seeds,
        "mean": 86.3,
        "low": 85.0,
        "high": 87.6,
        "paper": {"mean": 96.2, "std": 1.6, "seeds": 5},
        "verdict": verdict,
        "sentence": "The interval lies below the paper's value.",
    }


def cell(**changes):
    return {"text": "86.3 ± 0.1", "paper": "96.2 ± 1.6", "verdict": "differs", "card": card()} | changes


def claim(**changes):
    values = {
        "id": "t1-clevr6",
        "where": "Table 1",
        "text": "EfficientMORL reaches 96.2 on CLEVR6",
        "kind": "value",
        "verdict": "differs",
        "sentence": "86.3 against 96.2.",
        "estimate": 86.3,
        "low": 85.0,
        "high": 87.6,
        "n": 2,
        "failed": 1,
        "paper": 96.2,
        "p": 0.0002,
    }
    return values | changes


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    path = tmp_path_factory.mktemp("figures") / "fig3.png"
    matplotlib.image.imsave(path, np.linspace(0, 1, 900 * 30).reshape(30, 900))
    return path


@pytest.fixture(scope="module")
def report(png):
    missing = {"estimate": None, "low": None, "high": None, "n": 0, "failed": 0, "paper": None, "p": None}
    rows = [
        {"title": "Slot Attention", "cells": [cell(card=card("Slot Attention"))] * 4},
        {"title": "EfficientMORL", "cells": [cell(), *[cell(text="-", paper=None, verdict=None, card=None)] * 3]},
    ]
    return {
        "title": "EfficientMORL, reproduced",
        "scale": "demo",
        "purpose": "demonstration",
        "statement": "Small models on replicas.",
        "commit": "49aa45c",
        "generated": "2026-11-23 23:22 UTC",
        "left_out": ["table2: runs/clevr6/emorl/base-1/seed0/evaluation/decomposition-test-1.json is gone"],
        "tables": [
            {
                "name": "table1",
                "title": "Table 1",
                "caption": "ARI without background",
                "columns": ["CLEVR6 at 64 pixels", "ARI, I = 3", "Mean squared error", "Seeds finished"],
                "groups": [{"title": "CLEVR6 (replica)", "rows": rows}],
                "notes": ["Mean ± standard deviation over seeds."],
            }
        ],
        "figures": [
            {"name": "fig3", "title": "Figure 3", "caption": "Loss", "png": png, "pdf": "fig3.pdf", "csv": "fig3.csv"}
        ],
        "claims": [
            claim(),
            claim(
                id="abs-steps", text="Zero steps keep 99.1 % of the ARI", kind="ratio", verdict="reproduced", p=0.012
            ),
            claim(id="abl-geco", text="GECO lowers the loss on CLEVR6", kind="order", verdict="not run", **missing),
        ],
        "characteristics": [
            Characteristics("the paper's", 5, 0.27, consistent=0.68, neither=0.05, orders=0.6),
            Characteristics(
                "off by two of its deviations", 5, reproduced=0.03, consistent=0.16, neither=0.81, orders=None
            ),
        ],
        "deviations": [{"system": "EfficientMORL", "what": "200K steps, one fewer", "reason": "off by one"}],
        "costs": [{"what": "Table 1", "runs": 15, "seconds": 1380.0, "energy_kwh": None, "hardware": "2 CPU cores"}],
    }


class Elements(HTMLParser):
    """The page's elements in order, with their attributes; the texts outside of style and script."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.raw = [], "", {"style": "", "script": ""}
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self.text += " "

    def handle_data(self, data):
        if self.cdata_elem:
            self.raw[self.cdata_elem] += data
        else:
            self.text += data

    def attributes(self, name):
        return [attributes[name] for _, attributes in self.elements if name in attributes]


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"

    def write(report):
        write_page(report, path)
        return path.read_text(encoding="utf-8")

    return write


def with_text(value, text, key=None):
    """`value` with each free text in it replaced."""
    if isinstance(value, dict):
        return {name: with_text(item, text, name) for name, item in value.items()}
    if isinstance(value, list):
        return [with_text(item, text, key) for item in value]
    return text if isinstance(value, str) and key not in CHOSEN else value


@pytest.mark.parametrize("purpose", ["demonstration", "test"])
def test_what_is_no_reproduction_says_so_where_it_is_seen(report, write, purpose):
    text = " ".join(Elements(write(report | {"purpose": purpose})).text.split())
    assert text.count("not a reproduction") == 3  # at the top, in the navigation that stays, above the claims
    assert text.count("judge the pipeline, not the paper") == 2


def test_a_reproduction_carries_no_such_words(report, write):
    page = Elements(write(report | {"purpose": "reproduction"}))
    assert "not a reproduction" not in page.text
    assert "banner" not in page.attributes("class")
    assert report["statement"] in page.text


def test_numbers_verdicts_and_counts_are_on_the_page(report, write):
    text = " ".join(Elements(write(report)).text.split())
    for needed in (
        "86.3 ± 0.1 differs paper 96.2 ± 1.6",
        "86.30 [85.00, 87.60] 96.20 2 1 failed < 0.001",
        "3 claims of the paper 1 reproduced 1 differs 1 not run",
        "all 3 reproduced 1 differs 1 not run 1 Kind",
        "Table 1 15 23 min – 2 CPU cores",
        "the paper's 5 27 % 68 % 5 % 60 %",
        "off by two of its deviations 5 3 % 16 % 81 % –",
        "Not shown, as what they were made from has changed: table2: runs/clevr6/emorl/base-1/seed0/",
    ):
        assert needed in text


def test_empty_sections_are_left_out(report, write):
    empty = {section: [] for section in ("left_out", "tables", "figures", "claims", "deviations", "costs")}
    page = Elements(write(report | empty))
    assert not {"section", "table"} & {tag for tag, _ in page.elements}
    assert page.attributes("href") == ["#content", "#top"]


def test_nothing_is_loaded_from_anywhere(report, write):
    page = Elements(write(report))
    assert all(source.startswith("data:image/png;base64,") for source in page.attributes("src"))
    links = [link for link in page.attributes("href") if not link.startswith("#")]
    assert links == ["fig3.pdf", "fig3.csv"]
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    assert not page.attributes("style")  # the policy would refuse it
    assert not re.search(r"@import|url\(", page.raw["style"])
    assert set(re.findall(r"https?://[^\"]*", page.raw["script"])) == {  # names of XML namespaces, never asked for
        "http://www.w3.org/1999/xhtml",
        "http://www.w3.org/2000/svg",
    }


def test_links_within_the_page_lead_somewhere(report, write):
    page = Elements(write(report))
    places = page.attributes("id")
    assert len(places) == len(set(places))
    assert {link[1:] for link in page.attributes("href") if link.startswith("#")} <= set(places)
    assert set(page.attributes("aria-labelledby")) <= {*places, "card-title"}


@settings(max_examples=15, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(lambda text: HOSTILE + text))
def test_no_text_breaks_out(report, write, text):
    harmless, hostile = (Elements(write(with_text(report, words))) for words in ("words", text))
    assert [(tag, list(attributes)) for tag, attributes in hostile.elements] == [
        (tag, list(attributes)) for tag, attributes in harmless.elements
    ]
    assert hostile.raw == harmless.raw
    assert hostile.text == harmless.text.replace("words", text)
    cards = [json.loads(card) for card in hostile.attributes("data-card")]
    assert cards == [with_text(card(), text)] * 5


def test_a_number_that_json_cannot_hold_is_an_error(report, write):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(report | {"tables": [report["tables"][0] | {"groups": [{"title": "", "rows": [_row_with(math.nan)]}]}]})


def _row_with(value):
    return {"title": "", "cells": [cell(card=card(values=[value]))]}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_has_a_sign_and_a_colour(verdict):
    rule = rf'^\.verdict\[data-verdict="{verdict}"\](?:::before)? {{ (?:--sign|content):'
    assert len(re.findall(rule, (ASSETS / "page.css").read_text(), re.M)) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        ("over 10x", "over 10x"),
        (5, "5"),
        (666_502, "666,502"),
        (0.991, "0.9910"),
        (-4424.6, "−4,425"),
        (100.0, "100.0"),
        (999.96, "1000"),
        (2.76e-4, "0.0002760"),
        (0.0, "0.000"),
        (-0.5, "−0.5000"),
    ],
)
def test_numbers_have_four_significant_digits(value, text):
    assert _number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (3599, "1 h 00 min"), (11_100, "3 h 05 min")]
)
def test_durations(seconds, text):
    assert _duration(seconds) == text


# ---- in a browser ----


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture
def opened(chrome, report, tmp_path):
    """Open the report's page in the browser; in the end it must have asked for nothing and complained of nothing."""

    def opened(**changes):
        path = tmp_path / "index.html"
        write_page(report | changes, path)
        chrome.get(path.as_uri())
        return chrome

    set_width(chrome, 1280, 900)
    requests(chrome), console(chrome)
    yield opened
    assert console(chrome) == []
    assert set(requests(chrome)) == {(tmp_path / "index.html").as_uri()}


def find(chrome, selector):
    return chrome.find_element(By.CSS_SELECTOR, selector)


def find_all(chrome, selector):
    return chrome.find_elements(By.CSS_SELECTOR, selector)


def test_a_click_opens_the_card_with_its_seeds_and_escape_closes_it(opened):
    chrome = opened()
    button = find_all(chrome, "button.cell")[4]
    button.click()
    dialog = find(chrome, "dialog")
    assert dialog.is_displayed()
    assert find(dialog, "h2").text == "EfficientMORL on CLEVR6 (replica), ARI"
    assert [item.text for item in find_all(dialog, ".seeds li > p:first-child")] == [
        "seed 0: 86.20",
        "seed 1: 86.40",
        "seed 2: failed: diverged at step 700: loss is nan",
    ]
    assert [code.text for code in find_all(dialog, "pre code")] == [seed["command"] for seed in card()["seeds"]]
    links = [link.get_attribute("href") for link in find_all(dialog, ".seeds a")]
    assert links == ["http://127.0.0.1:5000/#/experiments/1/runs/1", "http://127.0.0.1:5000/#/experiments/1/runs/2"]
    assert "judges the pipeline, not the paper" in find(dialog, ".banner").text
    find(dialog, "summary").click()
    manifest = find(dialog, "details[open] dl").text
    assert all(part in manifest for part in ("49aa45c", "ab" * 32, "211.5", '{"count":0}'))
    dialog.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert chrome.switch_to.active_element == button


def test_the_strip_shows_seeds_interval_and_paper_where_they_are(opened):
    chrome = opened()
    find(chrome, "button.cell").send_keys(Keys.ENTER)
    dots = [float(dot.get_attribute("cx")) for dot in find_all(chrome, "circle.seed")]
    mean, paper = float(find(chrome, "circle.mean").get_attribute("cx")), find(chrome, "rect.theirs")
    per_unit = (dots[1] - dots[0]) / 0.2
    assert mean == pytest.approx(sum(dots) / 2)
    assert float(paper.get_attribute("x")) == pytest.approx(mean + (96.2 - 1.6 - 86.3) * per_unit)
    assert float(paper.get_attribute("width")) == pytest.approx(3.2 * per_unit)
    interval = re.findall(r"M([\d.]+)", find(chrome, "path.ours").get_attribute("d"))
    assert [float(interval[0]), float(interval[2])] == pytest.approx([mean - 1.3 * per_unit, mean + 1.3 * per_unit])
    assert find(chrome, "#card svg").get_attribute("aria-label") == (
        "Seeds: 2 finished, 1 failed. Mean 86.30, 95 % t interval [85.00, 87.60]. Paper 96.20 ± 1.60, 5 seeds"
    )


def test_two_seeds_have_no_interval(opened, report):
    (table,) = report["tables"]
    shown = cell(card=card() | {"low": None, "high": None})
    rows = [{"title": "EfficientMORL", "cells": [shown] * 4}]
    chrome = opened(tables=[table | {"groups": [{"title": "CLEVR6 (replica)", "rows": rows}]}])
    find(chrome, "button.cell").click()
    assert find_all(chrome, "path.ours") == []
    assert "Mean 86.30, below three seeds: no interval." in find(chrome, "#card svg").get_attribute("aria-label")


def test_the_ticks_mark_their_numbers(opened):
    chrome = opened()
    find(chrome, "button.cell").click()
    ticks = [(float(t.text), float(t.get_attribute("x"))) for t in find_all(chrome, "svg .tick:not(.unit)")]
    dots = [float(dot.get_attribute("cx")) for dot in find_all(chrome, "circle.seed")]
    per_unit = (dots[1] - dots[0]) / 0.2
    assert len(ticks) >= 3
    assert [x for _, x in ticks] == pytest.approx([dots[0] + (value - 86.2) * per_unit for value, _ in ticks])


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": card(values=(12.0,))["seeds"], "mean": 12.0, "low": None, "high": None, "paper": None},
        {"seeds": card(values=(None,))["seeds"], "mean": None, "low": None, "high": None, "verdict": None},
        {"seeds": card(values=(None,))["seeds"], "mean": None, "low": None, "high": None, "paper": None},
        {"seeds": [], "mean": None, "low": None, "high": None, "paper": {"mean": 98.8, "std": None, "seeds": None}},
        {"seeds": card(values=(0.0,) * 30)["seeds"], "mean": 0.0, "low": 0.0, "high": 0.0, "paper": None},
    ],
    ids=["one seed", "all failed", "nothing", "paper alone", "all the same"],
)
def test_cards_with_little_to_show(opened, report, changes):
    rows = [{"title": "IODINE", "cells": [cell(card=card() | changes)]}]
    chrome = opened(tables=[report["tables"][0] | {"groups": [{"title": "CLEVR6", "rows": rows}]}])
    find(chrome, "button.cell").click()
    assert find(chrome, "dialog").is_displayed()
    finished = [seed for seed in changes["seeds"] if seed["value"] is not None]
    dots = {(dot.get_attribute("cx"), dot.get_attribute("cy")) for dot in find_all(chrome, "circle.seed")}
    assert len(dots) == len(finished)  # none covers another
    assert "NaN" not in find(chrome, "#card").get_attribute("innerHTML")


def test_a_click_beside_the_card_closes_it(opened):
    chrome = opened()
    find(chrome, "button.cell").click()
    chrome.execute_cdp_cmd("Input.dispatchMouseEvent", _mouse("mousePressed"))
    chrome.execute_cdp_cmd("Input.dispatchMouseEvent", _mouse("mouseReleased"))
    assert not find(chrome, "dialog").is_displayed()


def _mouse(kind):
    return {"type": kind, "x": 5, "y": 450, "button": "left", "clickCount": 1}


def test_the_copy_button_copies_the_command(opened):
    chrome = opened()
    permissions = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    chrome.execute_cdp_cmd("Browser.grantPermissions", permissions)
    find(chrome, "button.cell").click()
    find_all(chrome, ".copy")[1].click()
    copied = chrome.execute_async_script("navigator.clipboard.readText().then(arguments[0], arguments[0])")
    assert copied == card()["seeds"][1]["command"]
    assert [button.text for button in find_all(chrome, ".copy")] == ["Copy", "Copied", "Copy"]


def test_filters_and_search_reduce_the_claims(opened):
    chrome = opened()

    def shown():
        rows = [row.get_attribute("id") for row in find_all(chrome, "#claims-table tbody tr") if row.is_displayed()]
        assert find(chrome, "output").text == f"{len(rows)} of 3 claims"
        return rows

    search, kinds = find(chrome, "[type=search]"), find(chrome, "[name=kind]")
    assert len(shown()) == 3
    find(chrome, "[name=verdict][value='not run']").click()
    assert shown() == ["claim-abl-geco"]
    find(chrome, "[name=verdict][value='']").click()
    kinds.send_keys("ratio")
    assert shown() == ["claim-abs-steps"]
    kinds.send_keys(Keys.HOME)
    search.send_keys("CLEVR6 lowers")
    assert shown() == ["claim-abl-geco"]
    search.send_keys("nowhere")
    assert shown() == []


def test_hostile_texts_stay_texts(opened, report):
    chrome = opened(**with_text(report, HOSTILE))
    find(chrome, "button.cell").click()
    assert find(chrome, "#card h2").text == " ".join(HOSTILE.split())
    assert len(find_all(chrome, "img")) == 1
    assert find_all(chrome, "b.x") == []


def test_the_policy_refuses_requests_and_foreign_scripts(chrome, report, tmp_path):
    write_page(report, tmp_path / "index.html")
    chrome.get((tmp_path / "index.html").as_uri())
    requests(chrome)
    refused = chrome.execute_async_script("""
        const [done, refused] = [arguments[0], []];
        document.addEventListener("securitypolicyviolation", (event) => {
            refused.push(event.effectiveDirective);
            if (refused.length === 3) done(refused.sort());
        });
        new Image().src = "http://127.0.0.1:9/";
        fetch("http://127.0.0.1:9/").catch(() => {});
        document.body.append(Object.assign(document.createElement("script"), {textContent: "window.broken = 1"}));
    """)
    assert refused == ["connect-src", "img-src", "script-src-elem"]
    assert chrome.execute_script("return window.broken") is None
    requests(chrome), console(chrome)  # the refusals


@pytest.mark.parametrize("with_card", [False, True])
def test_nothing_is_wider_than_a_phone(opened, chrome, with_card):
    set_width(chrome, 390, 844, phone=True)
    opened()
    if with_card:
        find(chrome, "button.cell").click()
    script = "const e = document.documentElement; return [innerWidth, e.clientWidth, e.scrollWidth]"
    assert chrome.execute_script(script) == [390, 390, 390]
    inside = "const e = document.querySelector(arguments[0]); return e.scrollWidth - e.clientWidth"
    assert chrome.execute_script(inside, "dialog" if with_card else "#claims .box") == 0
    if not with_card:
        assert chrome.execute_script(inside, "#table1 .box") > 0  # a wide table scrolls in its box


def test_dark_mode_is_dark(opened, chrome):
    opened()
    grounds = []
    for dark in (True, False):
        set_dark(chrome, dark)
        grounds.append(chrome.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(20, 24, 29)", "rgb(255, 255, 255)"]


def test_energy_is_told_where_it_was_counted_how_many_runs_had_the_gpu():
    manifest = manifest_of(ROOT / "reports/recorded/small/runs/clevr6/slot_attention/base-9b13bea4c6/seed0")
    starts = [start.model_copy(update={"gpu_shared_by": 16}) for start in manifest.starts]
    counted, before = (manifest.model_copy(update={"energy_kwh": 0.1, "starts": s}) for s in (starts, manifest.starts))
    assert not before.gpu_share_known
    assert _energy([before]) is None
    assert _energy([counted, counted]) == pytest.approx(0.2)
