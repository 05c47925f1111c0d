import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from seedmap.experiments.report import captions
from seedmap.experiments.report.run import MAP, SECTIONS, write_report
from seedmap.experiments.report.run_text import summary_text
from seedmap.experiments.runs.summary import RunSummary, SelectionRow
from seedmap.hmm import Branch, Delay, figures
from seedmap.results import from_json, to_json

SUMMARY = {
    "num_seeds": 41,
    "seeds": [7, 8, 9],
    "num_runs": 40,
    "num_diverged": 3,
    "diverged_seeds": [9],
    "num_converged": 37,
    "convergence": {
        "threshold": 0.9,
        "unit": "epoch",
        "values": [123.0, None, None],
        "mean": 456.25,
        "std": 78.5,
    },
    "emission": "gaussian",
    "scale": "run",
    "num_states": 6,
    "resolution": None,
    "odd_runs": [],
    "headline": "runs fork",
    "branches": [],
    "findings": {
        "leak": {"raw": -0.25, "scaled": 0.99, "num_components": 3, "num_runs": 37},
        "single_threshold": {
            "metric": "l2",
            "threshold": 1.75,
            "r2": 0.9375,
            "left_out_r2": 0.90625,
            "runs": 38,
        },
        "survival": {
            "num_runs": 40,
            "num_converged": 37,
            "half": 433.0,
            "restricted_mean": {"value": 455.0, "low": 431.0, "high": 479.0},
            "hazards": [
                {"state": 0, "hazard": None, "events": 0.0, "records": 0.0, "runs": 0},
            ],
            "branches": [
                {"state": 3, "num_states": 5, "visitors": 3, "visitors_converged": 2}
                | {"skippers": 4, "skippers_converged": 3, "pvalue": 0.0312}
                | {"later": {"value": 75.0, "low": 25.0, "high": 125.0}},
            ],
            "sentences": ["37 of 40 runs converged."],
        },
        "path_or_speed": {
            "found": {
                **{"timing": 0.8125, "low": 0.71875, "high": 0.9, "place": 0.1875},
                **{"aligned_away": 0.65, "by_chance": 0.15, "pvalue": 0.002, "runs": 40},
            },
            "sentences": ["Runs differ more in speed than in path."],
        },
        "moves_first": {
            "turns": [
                {
                    **{"metric": "trace", "lead": 35.5, "low": 30.5, "high": 45.5, "runs": 36},
                    **{"share": 0.9, "first": 0.7, "before_next": None},
                }
            ],
            "steady": ["mean_w"],
            "runs": 39,
            "sentences": ["trace turns first."],
        },
    },
    "selection": [
        dict.fromkeys(set(SelectionRow.__dataclass_fields__) - {"kfold"})
        | {
            "num_states": 4,
            "num_parameters": 321,
            "num_degenerate": 2,
            "train_icl": 135.79,
            "validation_log_likelihood": -1234.5678,
            "mean_validation_log_likelihood": -2345678.9,
            "aic": 87654.3,
            "bic": None,
            "robust_bic": 4321.5,
        }
    ],
    "regression": {
        "outcome": "convergence",
        "r2": 0.9613,
        "f_pvalue": 3.21e-9,
        "permutation_pvalue": 0.0001,
        "leave_one_out_r2": 0.8675,
        "num_runs": 38,
        "num_censored": 1,
        "censoring": "exclude",
        "coefficients": [
            {"state": 0, "value": -43.21, "standard_error": 6.789, "low": None, "high": None},
            {"state": 5, "value": None, "standard_error": None, "low": None, "high": None},
        ],
    },
    "dissimilarity": {"index": 0.183, "discrete": 0.2917, "means": 3.1416},
    "forking": True,
    "detours": [2, 4],
    "firm_detours": [4],
    "states": [{"state": 1, "occupancy": 0.0625, "num_runs": 17}],
    "held_out_log_likelihood": {"12": -360.5},
    "transitions": [
        {
            "from": 0,
            "to": 1,
            "probability": 0.01575,
            "num_runs": 39,
            "top_features": [["l2<", 1.25], ["trace", -0.5]],
        }
    ],
    "notes": [],
    "stability": None,
    "seconds": {"compile": 11.5, "train": 22.5, "fit": 33.5, "analyse": 4.25},
    "map_id": "0123456789abcdef",
}
STABILITY = {"adjusted_rand": [], "refits": None, "priors": [], "edges": []}
PRIOR = dict.fromkeys(("scale", "train", "held_out_mean", "held_out_median", "adjusted_rand"))
PRIOR |= {"prior": "held-out", "criterion": "robust_bic", "num_states": 6}
CONFIG = {"hidden": 128, "versions": {"jax": "0.10.2"}, "device": {"kind": "cpu & co"}}


class Page(HTMLParser):
    """Tags with their attributes, and all text."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.open = [], [], []
        content = path.read_text(encoding="utf-8")
        self.feed(re.sub(r'<a class="term"[^>]*>(.*?)</a>', r"\1", content))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in {"style", "script"}:
            self.texts.append(data.strip())

    def text(self):
        return " ".join(filter(None, self.texts))


def figure():
    return figures.plot_convergence(
        np.array([5.0, 10.0, np.nan]), "eval_accuracy above 0.9", "epoch"
    )


def read(content):
    return from_json(RunSummary, content)


def write(tmp_path, summary=SUMMARY, **changes):
    arguments = {"title": "Parities", "config": CONFIG, "figures": {}}
    path = write_report(tmp_path / "report.html", summary=read(summary), **(arguments | changes))
    return Page(path)


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [leaf for entry in value for leaf in leaves(entry)]
    return [value]


def test_refits_are_summed_up(tmp_path):
    edge = {"from": 0, "to": 1, "restarts": None, "bootstrap": 0.875, "refits": 0.625}
    refits = {"num_resamples": 9, "num_degenerate": 0, "adjusted_rand": [0.91, 0.5, 1.0]}
    stability = STABILITY | {"refits": refits, "edges": [edge]}
    text = write(tmp_path, summary=SUMMARY | {"stability": stability}).text()
    assert "each of 9 resamples" in text
    assert "median 0.91, from 0.50 to 1.00." in text
    assert "share of refits to resamples 0 1 0.875 0.625" in text
    stability["refits"] = refits | {"num_degenerate": 9, "adjusted_rand": []}
    text = write(tmp_path, summary=SUMMARY | {"stability": stability}).text()
    assert "none could be fitted; 9 failed and are left out." in text


def test_autocorrelation_is_shown_and_what_follows_where_it_is_strong(tmp_path):
    consequence = "Records are not independent given their states."
    for each, strong in (([0.25, -0.4], False), ([0.25, None, -0.75], True)):
        stability = STABILITY | {"autocorrelation": each}
        text = write(tmp_path, summary=SUMMARY | {"stability": stability}).text()
        said = ", ".join("\N{EN DASH}" if x is None else f"{x:.2f}" for x in each)
        assert f"by metric: {said.replace('-', chr(0x2212))}." in text
        assert (consequence in text) == strong
    assert consequence not in write(tmp_path).text()


def test_every_number_of_the_summary_appears_in_full(tmp_path):
    text = write(tmp_path).text().replace(",", " ").split()
    numbers = [x for x in leaves(SUMMARY) if isinstance(x, int | float) and x is not True]
    assert [number for number in numbers if repr(number) not in text] == []


def test_nothing_is_said_of_convergence_that_is_not_recorded(tmp_path):
    times = SUMMARY["convergence"] | {"values": [None] * 3, "mean": None, "std": None}
    regression = SUMMARY["regression"] | {"num_runs": 0, "r2": None, "coefficients": []}
    findings = dict.fromkeys(SUMMARY["findings"])
    without = SUMMARY | {"num_converged": 0, "convergence": times, "regression": regression}
    without |= {"findings": findings, "detours": [], "firm_detours": []}
    said = summary_text(read(without)).splitlines()
    assert (
        "not recorded; say what it is when importing, as --converged 'train_loss < 1.6'"
        in (said[0])
    )
    assert [line for line in said[1:] if "converge" in line or "bag" in line] == []
    drawn = {name: figure() for name in ("state_raster", "losses")}
    text = write(tmp_path, summary=without, figures=drawn).text()
    text = text.partition("All numbers of the summary")[0]
    assert text.count("convergence not recorded") == 1
    assert text.count("converge") == 1
    told = without | {"convergence": times | {"criterion": "eval_accuracy above 0.9"}}
    assert "converged 0 of 41 seeds" in " ".join(summary_text(read(told)).split())
    assert "runs that converge" in write(tmp_path, summary=told).text()


def test_tables_show_what_was_found(tmp_path):
    text = write(tmp_path).text()
    assert "time of convergence 456.2 ± 78.5 (epoch; mean ± standard deviation)" in text
    assert "branches runs fork" in text
    assert "detour states 2, 4" in text
    dash = " \N{EN DASH}"
    assert "shares of time in the states 0.9613 0.8675 3.21e-09" in text
    assert f"share of records with l2 below 1.75 0.9375 0.9062{dash}" in text
    assert f"first record as the HMM sees it{dash} 0.99{dash}" in text
    assert "0 1 0.01575 39 l2< +1.25, trace \N{MINUS SIGN}0.50" in text
    assert "states parameters prior scale log-likelihood, training log-likelihood, held out" in text
    assert "robust BIC degenerate restarts" in text  # no k-fold without a cross-validation
    row = "4 321 {0} {0} -1235 {0} 87654 {0} 4322 2 Further criteria are in summary.json"
    assert row.format("\N{EN DASH}") in text
    assert "epochs later than the mean run, wholly in the state standard error" in text
    assert f"for 10 % more of the time in it 0 -43.21 6.789{2 * dash} -4.321 5{5 * dash}" in text
    assert "7 123 8 never 9 diverged" in text
    assert "1 0.0625 17" in text
    assert "12 -360.5" in text
    assert "hidden 128 versions.jax 0.10.2 device.kind cpu & co" in text


BRANCH = Branch(
    state=3,
    num_states=5,
    previous=1,
    instead=2,
    visitors=("7", "8", "9"),
    skippers=("10", "11", "12", "13"),
    z=4.25,
    separation=5.5,
    timing=0.625,
    resolved=4,
    needed=3,
    support=0.75,
    named=True,
    stays=0.0,
    end_z=0.5,
    delay=Delay(1.75, 1.25, None, 0.003, 0.25, 0.5, 3, 4, 3, 4),
    detour=True,
    maps=((5, 3), (6, 4)),
)
SIZE = {
    **{"num_states": 6, "num_parameters": 90, "bic": 1222.5, "icl": 1234.5, "log_likelihood": -2.5},
    **{"scores": [-2.5], "iterations": 40, "agreement": 0.96875, "halves": [0.96875]},
    **{"chance": 0.40625, "eligible": True, "reason": "lowest BIC"},
}
MAPPED = SUMMARY | {
    **{"emission": "autoregressive", "scale": "common", "odd_runs": ["14"]},
    "resolution": {"tempering": 0.165, "num_states": 6, "half": 5, "double": 8},
    **{"headline": "1 branch, 1 a detour", "branches": [to_json(BRANCH)], "detours": [3]},
    "selection": [SIZE],
}


def test_branches_are_claims_with_what_speaks_for_them(tmp_path):
    text = write(tmp_path, summary=MAPPED).text()
    assert "branches 1 branch, 1 a detour" in text
    assert "detour states 3 of 5" in text
    stability = STABILITY | {"autocorrelation": [0.25]}
    shown = write(tmp_path, summary=MAPPED | {"stability": stability}).text()
    assert "by component: 0.25." in shown
    assert "runs left off the map as odd 14" in text
    assert "metrics on the scale of all runs pooled" in text
    row = "3 5 yes yes 3 4 4.25 4 of 3 needed 0.75 0.625 1.8 (1.2 to \N{INFINITY}) 0.003"
    assert f"p of the delay {row}" in text
    assert "p (log-rank) 3 5 2 of 3 3 of 4 75.0 [25.0, 125] 0.031" in text
    assert "above chance 6 90 1222 1234 -2.5 0.9688 0.4062 lowest BIC 0.5625" in text
    again = read(to_json(read(MAPPED)))
    assert again.branches == [BRANCH]
    assert again.detours_on_map == [4]  # where the branch is among 6 states
    assert "Outlined: state 4, which some runs pass by." in captions.training_map(again)
    assert "Dashed: state 4, where runs are delayed." in captions.training_map(again)
    assert "5 where records count half as much, 8 where twice" in captions.model_selection(again)


def test_lists_of_numbers_are_one_row_of_the_summary(tmp_path):
    text = write(tmp_path).text()
    assert "seeds 7, 8, 9 num_runs 40 num_diverged 3 diverged_seeds 9" in text
    assert "convergence.values 123.0, \N{EN DASH}, \N{EN DASH}" in text
    assert "transitions.0.top_features.0 l2<, 1.25" in text
    assert "seeds.0" not in text


def test_time_of_a_seed_that_converged_and_then_diverged_is_kept(tmp_path):
    assert "7 123 8 never" in write(tmp_path, summary=SUMMARY | {"diverged_seeds": [7]}).text()


EARLY = [
    {"upto": 75.0, "name": "up to 75", "num_states": 3, "num_runs": 36}
    | {"r2": 0.311, "leave_one_out_r2": -0.12, "f_pvalue": 0.23},
    {"upto": 150.0, "name": "up to 150", "num_states": 2, "num_runs": 1}
    | {"r2": None, "leave_one_out_r2": None, "f_pvalue": None},
]


def test_early_regressions_are_a_table_where_there_are_some(tmp_path):
    without = write(tmp_path).text()
    assert "R² is partly circular" in without
    assert "converge later" not in without
    summary = SUMMARY | {"regression": SUMMARY["regression"] | {"early": EARLY}}
    text = write(tmp_path, summary=summary).text()
    assert "beginnings of the runs that converge later" in text
    dash = " \N{EN DASH}"
    assert f"runs that converge later 75 0.311 -0.12 0.23 36 150{3 * dash} 1" in text


def test_circularity_is_about_convergence_only(tmp_path):
    regression = SUMMARY["regression"] | {"outcome": "eval_loss"}
    text = write(tmp_path, summary=SUMMARY | {"regression": regression}).text()
    assert "circular" not in text
    assert "eval_loss over the mean run, wholly in the state" in text


@pytest.mark.parametrize(
    ("p", "said", "map_said"),
    [
        (
            3.21e-9,
            "p < 0.001 (Hu et al., 2023), which holds here (p = 3.2e-09).",
            "is associated with delay.",
        ),
        (
            0.02,
            "(Hu et al., 2023), which does not hold here (p = 0.02): read neither.",
            "(p = 0.02, Hu et al. (2023) ask",
        ),
        (
            None,
            "which does not hold here (p is undefined): read neither.",
            "(p is undefined, Hu et al. (2023) ask",
        ),
    ],
)
def test_captions_say_whether_coefficients_and_detours_may_be_read(p, said, map_said):
    summary = SUMMARY | {"regression": SUMMARY["regression"] | {"f_pvalue": p}}
    caption = captions.coefficients(read(summary))
    assert said in caption
    assert "10 % more of a run's time in a state, in epochs later than the mean" in caption
    assert map_said in captions.training_map(read(summary))


def test_caption_without_a_converged_run():
    summary = SUMMARY | {"regression": SUMMARY["regression"] | {"num_runs": 0}}
    assert captions.coefficients(read(summary)).startswith("No run converged")


def test_caption_of_the_selection_names_the_criterion_that_chose():
    assert "6 states chosen, by a held-out criterion." in captions.model_selection(read(SUMMARY))
    summary = SUMMARY | {"stability": STABILITY | {"priors": [PRIOR]}}
    caption = captions.model_selection(read(summary))
    assert "best restart, chosen by penalised training likelihood alone" in caption
    assert "6 states chosen, by robust BIC." in caption


def test_page_is_self_contained(tmp_path):
    summary = SUMMARY | {"notes": ["see https://example.org"]}
    page = write(tmp_path, summary, figures={"convergence": figure()})
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "img"})
    named = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in {"href", "xlink:href", "src"}
    ]
    assert all(value.startswith(("#", "data:image/png;base64,")) for value in named)
    style = (tmp_path / "report.html").read_text(encoding="utf-8").split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_figures_are_part_of_the_page_in_its_own_ink(tmp_path):
    drawn = figure()
    page = write(tmp_path, figures={"mine": drawn, "convergence": figure()})
    boxes = {a["aria-label"]: a["viewbox"] for tag, a in page.tags if tag == "svg"}
    assert list(boxes) == ["convergence", "mine"]
    assert f'viewBox="{boxes["mine"]}"' in figures.svg(drawn)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "var(--ink, #222222)" in content
    assert ": #222222" not in content.split("</style>", 1)[1]


def test_the_command_that_made_it_can_be_copied(tmp_path):
    command = "seedmap run parities --out 'my runs'"
    page = write(tmp_path, config=CONFIG | {"command": command})
    assert page.text().split(" Copy ")[0].endswith(command)


def test_words_are_explained_where_they_first_stand(tmp_path):
    write(tmp_path)
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    terms = re.findall(r'<a class="term" href="#([^"]+)" data-tip="([^"]+)">', content)
    assert terms
    for name, tip in terms:
        assert f'<dt id="{name}">' in content
        assert f"<dd>{tip}</dd>" in content


def test_contents_lead_to_every_heading(tmp_path):
    write(tmp_path, summary=SUMMARY | {"stability": STABILITY | {"priors": [PRIOR]}})
    content = (tmp_path / "report.html").read_text(encoding="utf-8")
    nav, rest = content.split("</nav>")
    assert re.findall(r'<h2 id="([^"]+)"', rest) == re.findall(r'<li><a href="#([^"]+)"', nav)


def test_every_figure_has_a_caption_of_its_own(tmp_path):
    sections = (MAP, *SECTIONS)
    names = [name for section in sections for name in section.figures]
    page = write(tmp_path, figures=dict.fromkeys(names, figure()))
    captions = [
        section.figures[name](read(SUMMARY)) for section in sections for name in section.figures
    ]
    assert len(set(captions)) == len(names) == 12
    for caption in captions:
        assert caption in page.text()
    assert "states 2 and 4 (dashed)" in page.text()


def test_text_is_escaped(tmp_path):
    evil = '<script>alert("&")</script>'
    summary = json.loads(json.dumps(SUMMARY))
    summary["transitions"][0]["top_features"][0][0] = evil
    summary["convergence"]["unit"] = evil
    summary["held_out_log_likelihood"] = {evil: 1.0}
    summary["notes"] = [evil]
    page = write(
        tmp_path,
        title=evil,
        summary=summary,
        config={evil: evil},
        figures={"convergence": figure(), evil: figure()},
    )
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert f"on average at {evil} 456.2." in page.text()
    assert [a["aria-label"] for tag, a in page.tags if tag == "svg"] == ["convergence", evil]


def test_the_map_comes_first_then_five_numbers_then_the_notes(tmp_path):
    summary = SUMMARY | {"notes": ["Seed 7 diverged at step 300."]}
    content = write(tmp_path, summary, figures={"training_map": figure(), "losses": figure()})
    order = ["Training map", *("runs that converge", "one threshold of"), "Seed 7 diverged"]
    text = content.text()
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    assert places[-1] < text.index("Loss and accuracy")
    assert "37 of 41 at epoch 456.2 ± 78.5; evaluation accuracy above 0.9" in text
    assert "difference that is speed, not path 81 % 95 % interval 72 to 90 %" in text


def test_undefined_results_are_shown_as_such(tmp_path):
    empty = SUMMARY | {
        "regression": SUMMARY["regression"]
        | dict.fromkeys(("r2", "f_pvalue", "permutation_pvalue", "leave_one_out_r2"))
        | {"num_runs": 0, "coefficients": []},
        "detours": [],
        "transitions": [],
        "forking": False,
        "convergence": SUMMARY["convergence"] | {"values": [], "mean": None, "std": None},
    }
    names = [name for section in (MAP, *SECTIONS) for name in section.figures]
    text = write(tmp_path, summary=empty, figures=dict.fromkeys(names, figure())).text()
    assert "shares of time in the states" not in text
    assert "detour states none" in text
    assert "All runs meet the states in one order; no state is a detour." in text
