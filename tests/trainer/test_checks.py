"""What `train` refuses before it computes anything, in one line that names the argument."""

import jax
import jax.numpy as jnp
import optax
import pytest

import seedmap as sm


def task(matrix="kernel", tested=8, extra=None):
    def init(key):
        params = {matrix: jax.random.normal(key, (3, 4)), "bias": jnp.zeros(4)}
        return params if extra is None else params | {"steps": extra}

    def make_data(key):
        x = jax.random.normal(key, (32, 3))
        y = jnp.zeros(32, jnp.int32)
        return sm.Data((x, y), (x[:tested], y[:tested]))

    def score(params, batch):
        x, y = batch
        logits = x @ params[matrix] + params["bias"]
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y)
        return loss, (logits.argmax(-1) == y).astype(jnp.float32)

    return sm.Task(init, make_data, score, 32)


ODD = {
    "no test example": ({"task": task(tested=0)}, "^task: .*test holds no example"),
    "whole-number parameters": (
        {"task": task(extra=jnp.arange(3))},
        r"^task: init gives the parameter \['steps'\] in int32",
    ),
    "no matrix": (
        {"task": task("w")},
        r"^metrics: the rule finds no weight matrix .*\(bias, w\).*name kernel counts",
    ),
    "no task": ({"task": 3}, "^task is 3; it must be Task"),
    "no optimizer": ({"optimizer": "adam"}, "^optimizer is 'adam'; it must be one of optax"),
    "text for a size": ({"batch_size": "8"}, "^batch_size is '8'; it must be a whole number"),
    "a float for a size": ({"record_every": 4.0}, "^record_every is 4.0; it must be a whole"),
    "truth for a size": ({"batch_size": True}, "^batch_size is True; it must be a whole number"),
    "text for steps": ({"steps": "8"}, "^steps is '8'; it must be a whole number"),
    "text for seeds": ({"seeds": "abc"}, "^seeds: 'a' is not a whole number"),
    "text for a group": ({"seeds_at_once": "2"}, "^seeds_at_once is '2'; it must be a whole"),
    "text for a threshold": ({"threshold": "0.9"}, "^threshold is '0.9'; it must be a number"),
    "text for saving": ({"saving": "X"}, r"^saving is 'X'; it must be Saving \| None, of seedmap"),
    "a number for replicas": ({"replicas": 3}, "^replicas is 3; it must be Replicas"),
    "a name for metrics": ({"metrics": "l2"}, "^metrics: 'l' is no function"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_arguments_are_refused_before_work_begins(case):
    changed, message = ODD[case]
    arguments = {"task": task(), "optimizer": optax.sgd(0.1), "seeds": range(3)}
    arguments |= {"batch_size": 8, "steps": 8, "record_every": 4}
    with pytest.raises(sm.UserError, match=message) as caught:
        sm.train(**arguments | changed, on_progress=pytest.fail)
    assert "\n" not in str(caught.value)


def test_64_bits_are_refused():
    with jax.enable_x64(True), pytest.raises(sm.UserError, match=r"^jax_enable_x64 is on; a seed"):
        sm.train(task(), optax.sgd(0.1), range(3), batch_size=8, steps=8, record_every=4)
