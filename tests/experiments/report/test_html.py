"""The parts of every page: colours that can be seen, commands that can be copied."""

import re
from html import unescape
from importlib.resources import files

import pytest

from seedmap.experiments.report import html
from seedmap.hmm.figures.style import luminance

_LEAST = {"--ink": 7.0, "--grey": 4.5, "--accent": 4.5}  # text of any size; marks need 3


def colours():
    """Names to colours, in light and in dark."""
    css = files("seedmap.experiments.report").joinpath("page.css").read_text("utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    light, dark = (dict(re.findall(r"(--\w+): (#\w{6})", block)) for block in blocks)
    return {"light": light, "dark": light | dark}


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_ink_and_accent_stand_out_on_paper_and_on_warnings(mode):
    own = colours()[mode]
    for name, least in _LEAST.items():
        for behind in ("--paper", "--warn"):
            low, high = sorted((luminance(own[name]), luminance(own[behind])))
            assert (high + 0.05) / (low + 0.05) >= least, (name, behind)


def test_a_command_is_copied_as_it_was_and_breaks_between_words_only():
    command = "seedmap run parities --out 'a <b>'  --seeds 3"
    made = html.command_line(command)
    code = re.search("<code>(.*)</code>", made)[1]
    assert "<span>--seeds</span> <span>3</span>" in code
    assert unescape(re.sub("</?span>", "", code)) == command
