"""Report of a study of noise: its words and tables say what `noise.json` holds."""

import copy
import re
from html import unescape

import numpy as np
import pytest

from helpers.noise_summary import ALL_FORKS, LONG, draw, interval, make_study, panels_of, read
from seedmap.experiments.noise.measures.shares import ratio_over_roots, share_curve
from seedmap.experiments.noise.report.answer import answer
from seedmap.experiments.noise.report.curve_tables import shares_table
from seedmap.experiments.noise.report.figures import make_figures
from seedmap.experiments.noise.report.headlines import headlines
from seedmap.experiments.noise.report.page import SECTIONS, terminal, write_noise_report
from seedmap.experiments.noise.results import Estimate
from seedmap.text import interval as interval_text, number

DASH = "\N{EN DASH}"


@pytest.fixture(scope="module")
def study():
    return make_study(groups=LONG)


@pytest.fixture(scope="module")
def figures(study):
    return draw(study)


@pytest.fixture(scope="module")
def hard():
    return make_study(forks=ALL_FORKS, num_classes=1000, diverged=("order",), records=40)


CASES = {
    "CONTROL alone": (
        {"sources": ()},
        {"divergence", "churn_accuracy", "paths_by_source", "dissimilarity_by_source"},
    ),
    "no classes": (
        {"sources": ("init", "ulp"), "num_classes": 0, "paths": False},
        {"divergence", "noise_budget", "barriers"},
    ),
    "all diverged": (
        {"sources": ("init", "ulp"), "diverged": ("init", "ulp", "ALGO+IMPL"), "replicas": 3},
        {"divergence", "churn_accuracy", "paths_by_source", "dissimilarity_by_source"},
    ),
}


@pytest.mark.parametrize(("settings", "names"), CASES.values(), ids=CASES)
def test_only_what_there_are_numbers_for_is_drawn_and_reported(settings, names, tmp_path):
    study = make_study(records=20, **settings)
    drawn = draw(study)
    assert set(drawn) == names
    page = write(tmp_path, study, drawn)
    assert all(f'<figure id="{name}">' in page for name in names)
    assert page.count("<svg") == len(names)
    assert "nan" not in terminal(study.summary)
    if settings.get("num_classes") == 0:
        panels = panels_of(drawn["noise_budget"])
        assert list(panels) == ["Variance of accuracy", "Distance of weights"]


def write(folder, study, drawn=None, config=None, maps=None, notes=()):
    path = write_noise_report(folder, study.summary, drawn or {}, config or {}, maps or {}, notes)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def plain(page):
    return unescape(re.sub(r'<a class="term"[^>]*>(.*?)</a>', r"\1", page))


def test_report_holds_sentences_tables_figures_and_settings(study, figures, tmp_path):
    some = {name: figures[name] for name in ("noise_budget", "class_spread")}
    page = write(tmp_path, study, some, {"hidden": 128}, {"training_map": figures["barriers"]})
    for sentence in headlines(study.summary):
        assert sentence in unescape(page)
    for section in SECTIONS:
        for name, caption in section.figures.items():
            assert (plain(page).count(caption(study.summary)) == 1) == (name in some)
    assert page.index('id="noise_budget"') < page.index('id="class_spread"')
    assert page.index('id="class_spread"') < page.index('id="map_training_map"')
    assert page.count("<svg") == 3
    assert '<td>hidden</td><td class="number">128</td>' in page
    churn = study.variant("ulp")["share_of_churn"]
    cells = [number(churn[key]) for key in ("value", "low", "high")]
    assert "{} [{},\N{NO-BREAK SPACE}{}]".format(*cells) in page
    for leaf in (churn["value"], study.variant("IMPL")["paths"]["dissimilarity"]["means"]["low"]):
        assert f"<td>{leaf!r}</td>" in page


def test_notes_come_first_and_once_and_all_text_is_escaped(study, tmp_path):
    evil = '<script>alert("&")</script>'
    found = copy.deepcopy(study.found) | {"notes": [evil, "second"], "experiment": evil}
    found["variants"][-1]["groups"][0]["group"] = evil
    found["map"]["run"] = evil
    page = write(tmp_path, study._replace(found=found), notes=["first", "second"])
    assert page.count("<script") == 1  # the page's own
    order = [page.index(f"<li>{text}") for text in ("first", "second", "&lt;script", "CONTROL is")]
    assert order == sorted(order)
    assert page.count("<li>second</li>") == 1


def test_a_thousand_classes_are_not_written_out(hard, tmp_path):
    page = write(tmp_path, hard)
    assert "single classes are in <code>noise.json</code>" in page
    assert len(page) < 400_000


def test_numbers_that_are_not_finite_are_dashes(study, tmp_path):
    found = copy.deepcopy(study.found)
    found["variants"][1]["share_of_churn"] = interval(float("nan"))
    found["variants"][1]["share_of_variance"] = interval(float("nan"))
    study = study._replace(found=found)
    assert "init (" not in " ".join(headlines(read(found)))
    make_figures(read(found), study.dataset)
    assert "nan" not in write(tmp_path, study)
    assert "nan" not in terminal(read(found))


def small():
    study = make_study(sources=("init", "ulp"), replicas=3, diverged=("init",), records=10)
    ulp, whole = study.variant("ulp"), study.variant("ALGO+IMPL")
    for variant, churn in ((ulp, 0.031), (whole, 0.0344)):
        variant["churn"] = {"value": churn, "low": churn - 0.003, "high": churn + 0.003}
        variant["accuracy"]["mean"]["value"] = 0.9124
        variant["accuracy"]["sd"] = {"value": 0.0021, "low": 0.001, "high": 0.0044}
        variant["l2_distance"]["value"] = 0.5
    ulp["share_of_churn"] = {"value": 0.901, "low": 0.74, "high": 1.1}
    ulp["share_of_variance"] = {"value": 1.0, "low": 0.25, "high": 4.0}
    ulp["parting"]["first_apart"] = [None, 7, 3]
    return study


def test_the_terminal_has_a_line_for_each_variant_and_notes_last():
    study = small()
    study.found["notes"] = ["read this"]
    lines = terminal(study.summary).splitlines()
    starts = [lines[0].index(name) for name in ("accuracy", "churn", "L2", "share of v")]
    cells = [[part.strip() for part in line.split("  ") if part.strip()] for line in lines]
    assert cells[0][:5] == ["variant", "replicas", "accuracy %", "churn %", "L2"]
    assert cells[1][:2] == ["CONTROL", "3"]
    assert cells[1][3:] == ["0", "0", "0", "0", "never"]
    assert cells[2] == ["init", "1 of 3", *[DASH] * 5, "1"]
    spread = ["3.10 [2.80, 3.40]", "0.500", "1.0 [0.25, 4.0]", "0.90 [0.74, 1.1]", "3"]
    assert cells[3] == ["ulp", "3", "91.24 ± 0.21", *spread]
    assert cells[4][-3:] == ["1.0", "1.0", "1"]
    assert lines[-1] == "note: read this"
    assert all(line[start - 1] == " " for line in lines[:-1] for start in starts)


def planted(shares):
    """A study of 5 roots with these components: source -> share, low, high, of convergence."""
    study = make_study(("init", "ulp"), roots=5, records=10)
    study.found["components"] = [
        {"source": s, "measure": m, "variance": e[0], "share": e[0], "low": e[1], "high": e[2]}
        for m in ("log_convergence_time", "accuracy")
        for s, e in (shares if m != "accuracy" else dict.fromkeys(shares, (None,) * 3)).items()
    ]
    return study


def test_the_first_screen_says_which_sources_matter_how_much_and_how_sure(tmp_path):
    study = planted(
        {"init": (0.6, 0.4, 0.9), "ulp": (0.01, 0.004, 0.03), "root": (0.4, 0.02, 0.95)}
    )
    said = answer(study.summary)
    assert len(said) == 3
    assert "init over 10 % of the variance; ulp under 10 %." in said[0]
    assert "init 60 % [40, 90]; ulp 1.0 % [0.40, 3.0]; root not determined." in said[1]
    assert "5 roots with 10 replicas a source; 2 of 3 shares are determined" in said[2]
    page = unescape(write(tmp_path, study, draw(study)))
    assert page.index('id="components"') < page.index(said[0]) < page.index("What was found")
    assert "Left out, as too little of it varies, or is known" in page
    assert "to compare sources: test accuracy." in page
    assert all(sentence in terminal(study.summary) for sentence in said)
    nothing = answer(planted({"init": (0.5, 0.0, 1.0), "ulp": (None,) * 3}).summary)
    assert nothing[0].startswith("These 5 roots do not tell which sources matter")
    assert "it says what happens around this training" in answer(small().summary)[0]


def test_sentences_say_what_the_numbers_do():
    said = headlines(small().summary)
    assert said[0].startswith("CONTROL is exactly zero: 3 replicas in which nothing varies")
    assert "accuracy is 91.24 % on average" in said[1]
    assert "disagree on 3.44 % [3.14, 3.74] of the test examples" in said[1]
    assert said[2] == (
        "ulp (one weight moved by one unit in the last place): churn 3.10 % [2.80, 3.40], 0.901 "
        "[0.740, 1.10] times that of ALGO+IMPL; variance of accuracy 1.00 [0.250, 4.00] times "
        "that of ALGO+IMPL."
    )
    text = " ".join(said)
    assert "ulp: replicas differ after step 3; their distance then grows about exponent" in text
    assert f"doubles every {np.log(2) / 0.00067:.0f} steps, which fits better than a pow" in text
    assert "left out of the measures: 2 of 3 of init." in text
    assert "init (" not in text


def test_control_that_parts_is_the_first_finding():
    found = small().found
    found["control"] = {
        "exact": False,
        "first_apart": 37,
        "diverged": None,
        "replicas": 3,
    }
    said = headlines(read(found))[0]
    assert said.startswith("CONTROL is not zero: 3 replicas in which nothing varies differ, first ")
    assert "after step 37" in said


def test_paths_of_tools_are_held_beside_those_of_chance(study):
    said = " ".join(headlines(study.summary))
    own, other = (study.summary.variant(name).paths for name in ("IMPL", "ALGO"))
    texts = [interval_text(p.dissimilarity.discrete) for p in (own, other)]
    detours = interval_text(own.detour_time.sd)
    assert (
        "Replicas that differ in IMPL noise alone take 4 different paths through the training map; "
        f"dissimilarity {texts[0]}, against {texts[1]} with ALGO; 40.0 % of them pass a detour "
        f"state, and on average they spend 75.0 epochs in such states (SD {detours})."
    ) in said
    found = copy.deepcopy(study.found)
    next(v for v in found["variants"] if v["name"] == "IMPL")["paths"]["distinct"] = 1
    assert "take one path through the training map" in " ".join(headlines(read(found)))


def test_paths_of_a_lone_replica_are_no_finding():
    found = make_study(("init", "ulp"), diverged=("ulp",), records=5).found
    assert "training map" not in " ".join(headlines(read(found)))


def test_growth_is_not_claimed_where_there_is_none():
    found = small().found
    ulp = next(v for v in found["variants"] if v["name"] == "ulp")
    for growth, said in (
        ({"rate": None, "power": None, "better": None}, "too soon for its growth to be measured"),
        ({"rate": -0.1, "power": -1.0, "better": "power"}, "their distance does not grow."),
        ({"rate": 0.1, "power": 2.25, "better": "power"}, "step to the power of 2.25, which"),
        ({"rate": 0.1, "power": 2.25, "better": None}, "doubles every 6.93 steps."),
    ):
        ulp["parting"]["growth"] = growth | {"replicas": ulp["replicas"] - 1}
        assert said in " ".join(headlines(read(found)))
    ulp["parting"]["growth"] |= {"rate": None, "power": None, "replicas": 0}
    ulp["num_diverged"] = 1
    assert "they diverge before its growth can be measured" in " ".join(headlines(read(found)))
    ulp["parting"]["growth"] |= {"rate": 0.1, "power": 2.25, "replicas": 1}
    assert "(of 1 of 2 replicas; in the others" in " ".join(headlines(read(found)))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1e-9, "1.00e\N{MINUS SIGN}09"), (91.2, "91.2"), (1034.5, "1034"), (None, DASH)],
)
def test_numbers_are_written_to_their_digits(value, text):
    assert number(value) == text


def test_what_is_not_determined_is_said_so_in_sentences():
    study = make_study(("init", "ulp"), paths=False)
    wide = {"value": 0.034, "low": 4e-15, "high": 3e11}
    init = study.variant("init")
    init["share_of_variance"], init["churn"] = wide, {"value": 0.1, "low": 0.0, "high": 1.0}
    whole = next(v for v in study.found["variants"] if v["name"] == study.found["whole"])
    whole["churn"], whole["accuracy"]["sd"] = init["churn"], wide
    said = " ".join(headlines(study.summary))
    assert "variance of accuracy not determined against that of ALGO+IMPL" in said
    assert "churn not determined, " in said
    assert "with a standard deviation that is not determined over 10 replicas" in said
    assert "two of them disagree" not in said
    assert "churn_accuracy" in make_figures(study.summary, study.dataset)


def test_a_share_that_several_roots_cannot_tell_is_not_determined():
    """Of one root it is a bare number, as there is nothing to tell how much roots differ."""
    own, whole = np.array([0.0, 0.0, 5.0]), np.array([1.0, 0.0, 0.0])
    assert ratio_over_roots(own[2:], whole[:1]) == Estimate(5.0, None, None)
    study = make_study(("init", "ulp"), paths=False)
    init = study.variant("init")
    init["share_of_churn"] = vars(ratio_over_roots(own[2:], whole[:1]))
    assert "5.00 times that of ALGO+IMPL" in " ".join(headlines(read(study.found)))
    line = next(row for row in terminal(read(study.found)).splitlines() if row.startswith("init"))
    assert "5.0" in line.split()
    init["share_of_churn"] = vars(ratio_over_roots(own, whole))
    said = next(line for line in headlines(read(study.found)) if line.startswith("init"))
    assert "not determined against that of ALGO+IMPL" in said
    line = next(row for row in terminal(read(study.found)).splitlines() if row.startswith("init"))
    assert "5.0" not in line.split()
    assert "not determined" in line
    drawn = make_figures(read(study.found), study.dataset)["noise_budget"]
    texts = [text.get_text() for text in drawn.axes[1].texts]
    assert "not determined" in texts


def test_shares_over_training_that_roots_cannot_tell_are_not_determined():
    own = [np.array([pair]) for pair in ([1.0, 1.0], [0.0, 1.5], [0.0, 2.0])]
    whole = [np.array([[first, 2.0]]) for first in (1.0, 0.0, 0.0)]
    curve = share_curve("init", "churn", np.array([4, 8]), own, whole)
    assert (curve.share[0], curve.low[0], curve.high[0]) == (1.0, 0.0, None)
    assert None not in (curve.low[1], curve.high[1])
    summary = make_study(("init", "ulp"), roots=3, paths=False).summary
    object.__setattr__(summary, "shares", [curve])
    cells = [cell.partition("</td>")[0] for cell in shares_table(summary).split("<td>")]
    assert cells[3] == "not determined"
    assert cells[4].startswith("0.75")
