"""Words that pages use in a sense of their own, each explained where it first stands."""

import re
from html import escape, unescape

GLOSSARY = {
    "training map": "The states that runs pass through and the transitions they make, as a graph.",
    "state": (
        "A phase of training that the hidden Markov model found: records in it move alike. States "
        "are numbered in the order in which runs meet them."
    ),
    "record": "The metrics of one run at one moment of its training.",
    "convergence": "The first record that meets the criterion given above, such as an accuracy.",
    "branch": (
        "A state that some runs visit and others pass by. It is named where tests of place and of "
        "resolution speak for it."
    ),
    "fork": "Runs that part: some take one way through the map, others another.",
    "detour": "A branch whose visitors converge later than the runs that pass it by.",
    "bag of states": "The shares of a run's records in each state, without their order.",
    "left-out R²": (
        "R² on runs that the regression has not seen, one left out at a time; below 0 it predicts "
        "worse than the mean."
    ),
    "dissimilarity": (
        "How unlike two runs' shares of time over the states are: 0 for equal, 1 for no state in "
        "common (means and index weigh states by how far apart they are)."
    ),
    "BIC": "Bayesian information criterion: likelihood less a penalty for size. Low is good.",
    "ICL": (
        "Integrated completed likelihood: likelihood less a penalty for size and for records whose "
        "state is unsure. Low is good."
    ),
    "adjusted Rand index": (
        "How far two decodings agree, whatever their states are called: 1 for the same, 0 for what "
        "chance gives."
    ),
    "odd": "A run that fits no state well; it is decoded but left off the map.",
    "z units": "Standard deviations of a metric over all records.",
    "replica": "One training of a group that shares all but one source of randomness.",
    "churn": "Share of test examples that two trainings predict differently.",
    "P(A > B)": (
        "How often a replica of the first run is the more accurate, of all pairs with one of the "
        "second; a tie counts half."
    ),
    "root": "A set of seeds from which all replicas of a study branch.",
}

_TERMS = {term.lower(): f"term-{re.sub(r'[^a-z0-9]+', '-', term.lower())}" for term in GLOSSARY}
_LONGEST_FIRST = [re.escape(escape(term)) for term in sorted(GLOSSARY, key=len, reverse=True)]
_ANY = re.compile(rf"\b({'|'.join(_LONGEST_FIRST)})(?!\w)", re.IGNORECASE)
_BY_LOWER = {term.lower(): explanation for term, explanation in GLOSSARY.items()}


def explained(text: str) -> str:
    """Returns text as HTML, the first of each word of the glossary with its explanation."""
    seen: set[str] = set()

    def link(match: re.Match) -> str:
        term = unescape(match[1]).lower()
        if term in seen:
            return match[0]
        seen.add(term)
        tip = escape(_BY_LOWER[term], quote=True)
        return f'<a class="term" href="#{_TERMS[term]}" data-tip="{tip}">{match[0]}</a>'

    return _ANY.sub(link, escape(text))


def glossary(page: str) -> str:
    """Returns the words that a page's HTML explains, as a list that its links lead to."""
    used = [term for term in GLOSSARY if f'href="#{_TERMS[term.lower()]}"' in page]
    items = "\n".join(
        f'<dt id="{_TERMS[term.lower()]}">{escape(term)}</dt><dd>{escape(GLOSSARY[term])}</dd>'
        for term in used
    )
    return f"<dl>\n{items}\n</dl>" if used else ""
