"""What `moedge profile` writes: a profile that loads and that `auto` takes, JSON, and a page that stands alone."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from made_findings import MACHINE, PI, findings

from moedge.devices.errors import MoedgeError
from moedge.devices.profile import load_profile
from moedge.devices.profile_file import user_folder
from moedge.runtime.profiling.measured_profile import measured_profile, profile_text, usual_profile
from moedge.runtime.profiling.report_page import report_html
from moedge.runtime.profiling.report_pictures import Axis, Bar, Point, bars, heat_map, lines, roofline
from moedge.runtime.profiling.storage_rates import StorageRates
from moedge.runtime.profiling.writing_results import places_of, to_json, write_results

VOID = {"meta", "br"}


@pytest.mark.parametrize("machine", [MACHINE, PI], ids=["x86", "pi"])
def test_the_profile_loads_and_says_what_was_measured(tmp_path, machine):
    found = findings(machine)
    path = tmp_path / "mine.toml"
    path.write_text(profile_text(found), encoding="utf-8")
    loaded, usual = load_profile(str(path), machine), usual_profile(machine)
    assert loaded.rates == measured_profile(found).rates
    assert (loaded.memory_bytes_per_s, loaded.storage_bytes_per_s) == (30e9, 1.258e9)
    assert (loaded.decode_threads, usual.decode_threads) == (3, 4)
    assert loaded.prefill_threads == usual.prefill_threads
    for name in ("clusters", "isa", "memory_bytes", "awake_us", "scheme", "prefill_chunk", "context", "cache_type"):
        assert getattr(loaded, name) == getattr(usual, name), name
    assert loaded.sources["weights_bytes_per_s"].startswith("measured by moedge profile, 2026-11-27, 9 runs")
    assert "3 instead of 4" in loaded.sources["decode_threads"]
    assert "0.70 beside a busy neighbour" in loaded.sources["awake_us"]


def test_auto_takes_it_on_this_machine_and_on_no_other(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    user_folder().mkdir(parents=True)
    write_results(findings(), places_of(user_folder() / "measured.toml"))
    assert load_profile("auto", MACHINE).name == "measured"
    assert load_profile("auto", MACHINE).decode_threads == 3
    assert load_profile("auto", replace(MACHINE, cpu="Another CPU")).name != "measured"
    assert load_profile("auto", replace(MACHINE, isa=MACHINE.isa[:4])).name != "measured"
    assert usual_profile(MACHINE).name != "measured", "a second run starts where the first did"


def test_what_was_not_measured_stays_as_it_was(tmp_path):
    nothing = replace(
        findings(),
        layers=None,
        attention=None,
        storage=StorageRates((), 0, "not measured: the folder lies in memory"),
        trials=(),
        settings=usual_profile(MACHINE),
        others=1.2,
    )
    path = tmp_path / "mine.toml"
    path.write_text(profile_text(nothing), encoding="utf-8")
    loaded, usual = load_profile(str(path), MACHINE), usual_profile(MACHINE)
    assert loaded.storage_bytes_per_s == usual.storage_bytes_per_s
    assert "the folder lies in memory" in loaded.sources["storage_bytes_per_s"]
    assert loaded.sources["weights_bytes_per_s"].startswith("estimated")
    assert loaded.sources["decode_threads"].endswith("not tried")
    assert "1.2 cores busy" in path.read_text(encoding="utf-8")


def test_three_files_are_written_whole(tmp_path):
    places = places_of(tmp_path / "new" / "here.toml")
    write_results(findings(), places)
    assert sorted(path.name for path in places.profile.parent.iterdir()) == ["here.html", "here.json", "here.toml"]
    data = json.loads(places.json.read_text(encoding="utf-8"))
    assert data["layers"]["weights"]["median"] == 20e9
    assert data["usage"]["counts"] == [[5, 0, 3, 1], [0, 0, 9, 0]]


def test_no_number_is_null_in_json():
    assert json.loads(to_json(replace(findings(), seconds=float("nan"))))["seconds"] is None


def test_a_place_that_is_none_is_a_sentence(tmp_path):
    with pytest.raises(MoedgeError, match=r"ends in \.toml"):
        places_of(tmp_path / "here.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(MoedgeError, match="name a file where you may write"):
        places_of(tmp_path / "file" / "here.toml")


class Page(HTMLParser):
    """Tags that were opened and not closed, and all that a page would fetch."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.headings, self.pictures = [], [], [], 0

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        self.pictures += tag == "svg"
        self.fetched += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]

    def handle_startendtag(self, tag, attributes):
        self.fetched += [value for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["h2"]:
            self.headings.append(data)


def read_page(text):
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert page.fetched == []
    assert "url(" not in text
    assert "@import" not in text
    assert "<script" not in text
    return page


def test_the_page_has_every_part_and_fetches_nothing():
    text = report_html(findings())
    page = read_page(text)
    assert page.headings == [
        "Roofline", "Speed by depth", "Where the time goes", "Experts by layer", "Memory by threads", "Rates",
        "Measured and predicted", "Storage", "Waiting awake", "Clock and temperature", "Settings",
        "ONNX Runtime's operators", "The machine",
    ]  # fmt: skip
    assert page.pictures == 6
    assert "prefers-color-scheme: dark" in text
    assert "width=device-width" in text
    assert "Throttled: layers" in text
    assert "0.90 J" in text


def test_names_are_no_markup():
    text = report_html(findings())
    assert "<16>" not in text
    assert "&lt;16&gt;" in text
    assert "a <model>" not in text


@pytest.mark.parametrize("machine", [MACHINE, PI], ids=["x86", "pi"])
def test_a_page_without_a_model(machine):
    page = read_page(report_html(replace(findings(machine, False), heat=(), layers=None, attention=None, others=2.0)))
    assert "Speed by depth" not in page.headings
    assert page.headings[-1] == "Not measured"


def test_an_axis_of_powers_has_marks_that_are_told_apart():
    axis = Axis("", 0.3, 500, 0, 100, powers=True)
    assert axis.ticks == [1, 10, 100]
    assert axis.place(0.3) == pytest.approx(0)
    assert axis.place(500) == pytest.approx(100)
    assert Axis("", 0, 47, 0, 100).ticks == [0, 10, 20, 30, 40]
    assert Axis("", 3, 3, 0, 100).place(3) == 0


def places(svg, tag, *names):
    return [
        tuple(float(re.search(f' {name}="([^"]+)"', each)[1]) for name in names)
        for each in re.findall(f"<{tag} [^>]+>", svg)
    ]


def test_the_points_of_a_roofline_lie_in_the_picture():
    points = [Point(10.0**n, 10.0 ** (9 + n), n, "own") for n in range(-1, 4)] + [Point(1.0, 1e9, 9, "stock")] * 3
    svg = roofline(points, 20e9, 4e11, 1e9, ("x", "y"))
    found = places(svg, "circle", "cx", "cy")
    assert len(found) == 8
    assert all(0 <= x <= 440 and 0 <= y <= 300 for x, y in found)


def test_lines_bars_and_heat():
    svg = lines([("model", [(0, 30.0), (512, 20.0)])], [(0, 25.0, 35.0)], ("x", "y"))
    (x0, y0), (x1, y1) = places(svg, "circle", "cx", "cy")
    assert x0 < x1
    assert y0 < y1, "faster is further up"
    assert "<svg" in lines([("model", [(0, 30.0)])], [], ("x", "y"))
    widths = [width for (width,) in places(bars([Bar("a", 4, ""), Bar("b", 1, "")], "own"), "rect", "width")]
    assert widths == [440, 438, 440, 109.5]
    svg = heat_map(["1", "2"], [[4, 0, 2], [0, 0, 0]], ("expert", "layer"))
    assert svg.count('class="cold"') == 4
    assert svg.count("fill-opacity") == 2
