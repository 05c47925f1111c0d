"""The Hugging Face hub, of which a stand-in on loopback takes the part."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest

from helpers.command import seedmap
from seedmap.errors import UserError
from seedmap.experiments.checkpoints import hub as hub_module
from seedmap.experiments.checkpoints.hub import on_the_hub
from seedmap.experiments.runs import folder as run_folder

pytest.importorskip("huggingface_hub")
from huggingface_hub import HfApi
from safetensors.numpy import save

RUNS, STEPS = (1, 2), (0, 1, 512)
PREFIX = "org/net-14m-seed"


def commit_of(run, step):
    return f"{run}{step}".ljust(40, "a")


def weights_of(run, step):
    rng = np.random.default_rng([run, step])
    weight = rng.normal(size=(4, 3)).astype("f4")
    return {"fc.weight": weight, "fc.bias": weight[:, 0]}


def repositories():
    """Repository -> commit -> file -> content; other repositories and branches beside them."""
    made = {"org/net-14m": {}, "org/net-14m-seed-weights": {}}
    for run in RUNS:
        files = {}
        for step in STEPS:
            content = save(weights_of(run, step))
            files[commit_of(run, step)] = {
                "model.safetensors": content,
                "pytorch_model.bin": b"never fetched",
                "optimizer.pt": b"never fetched",
                "config.json": json.dumps({"num_attention_heads": 2}).encode(),
            }
        made[f"{PREFIX}{run}"] = files
    return made


class Hub:
    """The stand-in: what it has, and what it was asked for."""

    def __init__(self):
        self.repositories = repositories()
        self.asked, self.fails = [], set()

    def answer(self, path, query):
        """JSON or bytes for a path; None: there is no such thing."""
        if path == "/api/models":
            names = [n for n in self.repositories if query["search"][0] in n]
            return [{"id": name, "_id": name} for name in names]
        parts = path.strip("/").split("/")
        if parts[0] == "api":
            name, what = "/".join(parts[2:4]), parts[4]
            commits = self.repositories.get(name)
            if commits is None:
                return None
            if what == "refs":
                found = [
                    {"name": f"step{step}", "ref": f"refs/heads/step{step}", "targetCommit": sha}
                    for step in STEPS
                    if (sha := commit_of(name.removeprefix(PREFIX), step)) in commits
                ]
                main = {"name": "main", "ref": "refs/heads/main", "targetCommit": "f" * 40}
                return {"branches": [main, *found], "tags": [], "converts": []}
            files = commits.get(parts[5], {})  # `revision/COMMIT`
            siblings = [{"rfilename": n, "size": len(of)} for n, of in files.items()]
            return {"id": name, "_id": name, "sha": parts[5], "siblings": siblings}
        return self.repositories.get("/".join(parts[:2]), {}).get(parts[3], {}).get(parts[4])


@pytest.fixture
def hub(monkeypatch, tmp_path):
    held = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            url = urlparse(self.path)
            held.asked.append((self.command, url.path))
            answer = held.answer(url.path, parse_qs(url.query))
            if url.path in held.fails:
                answer = None
            found = answer is not None
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(200 if found else 404)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound")
            if "/resolve/" in url.path and found:
                self.send_header("X-Repo-Commit", url.path.split("/")[4])
                self.send_header("ETag", f'"{abs(hash(content))}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(hub_module, "_api", lambda: HfApi(endpoint=address, token=False))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)  # asked for again
    (tmp_path / "scratch").mkdir()
    yield held
    server.shutdown(), server.server_close(), thread.join()


SUITE = ["--hub", PREFIX + "{run}", "--revisions", "step{step}"]


def test_revisions_are_fetched_measured_and_deleted_one_at_a_time(hub, tmp_path):
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    assert seedmap("import", "checkpoints", *SUITE, "--out", out) == 0
    dataset = run_folder.read_dataset(out)
    assert dataset.seed.values.tolist() == ["1", "2"]
    assert dataset.step.values.tolist() == [0, 1, 512]
    expected = [[weights_of(r, s)["fc.weight"].mean() for s in STEPS] for r in RUNS]
    np.testing.assert_allclose(dataset.mean_w.values, expected, rtol=1e-5)
    assert list(scratch.iterdir()) == []
    fetched = [path for how, path in hub.asked if how == "GET" and "/resolve/" in path]
    assert {Path(path).name for path in fetched} == {"model.safetensors", "config.json"}
    weights = sorted(path for path in fetched if path.endswith("safetensors"))
    assert weights == sorted(  # each once, the one that the layout was told by too
        f"/{PREFIX}{run}/resolve/{commit_of(run, step)}/model.safetensors"
        for run in RUNS
        for step in STEPS
    )
    config = json.loads((out / "config.json").read_text())
    assert config["imported_from"] == f"checkpoints {PREFIX}{{run}}@step{{step}}"


def test_an_import_from_the_hub_that_is_cut_short_goes_on(hub, tmp_path, capsys):
    out = tmp_path / "out"
    failing = f"/{PREFIX}2/resolve/{commit_of(2, 1)}/model.safetensors"
    hub.fails.add(failing)
    assert seedmap("import", "checkpoints", *SUITE, "--out", out) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"the hub does not give {PREFIX}2@" in said
    assert "continue with --resume" in said
    hub.fails.clear(), hub.asked.clear()
    assert seedmap("import", "checkpoints", *SUITE, "--out", out, "--resume") == 0
    fetched = [path for how, path in hub.asked if how == "GET" and path.endswith("safetensors")]
    assert len(fetched) == 1 + 2  # one to know the layout by
    assert not np.isnan(run_folder.read_dataset(out).l2.values).any()


def test_never_are_two_revisions_on_disk(hub, tmp_path, monkeypatch):
    scratch, most = tmp_path / "scratch", []
    answer = hub.answer

    def counting(path, query):
        most.append(len(list(scratch.iterdir())))
        return answer(path, query)

    hub.answer = counting
    assert seedmap("import", "checkpoints", *SUITE, "--out", tmp_path / "out") == 0
    assert max(most) == 1


def test_names_and_answers_that_lead_nowhere_are_refused(hub, tmp_path, capsys, monkeypatch):
    for name, revisions, says in (
        ("net-{run}", "step{step}", "write ORGANISATION/NAME with"),
        (PREFIX + "{run}", "main", "write ORGANISATION/NAME with"),
        ("{run}/net", "step{step}", "write ORGANISATION/NAME with"),
        ("org/other-{run}", "step{step}", "the hub has no 'org/other-{run}'; of org it has none"),
        (PREFIX + "{run}", "epoch{step}", "no revision of 'org/net-14m-seed-weights', 'org/net-1"),
    ):
        with pytest.raises(UserError, match="--hub") as caught:
            on_the_hub(name, revisions)
        assert says in str(caught.value)
    arguments = ["import", "checkpoints", "--out", tmp_path / "out"]
    for words, says in (
        ([], "give either PATTERN or --hub"),
        (["a/{run}/{step}", "--hub", "b"], "give either PATTERN or --hub"),
        (["a/{run}/{step}", "--revisions", "b"], "--revisions goes with --hub"),
    ):
        assert seedmap(*arguments, *words) == 2
        assert says in capsys.readouterr().err
    hub.fails.add(f"/api/models/{PREFIX}1/refs")
    with pytest.raises(UserError, match=r"the hub does not give org/net.*see to the name and the"):
        on_the_hub(PREFIX + "{run}", "step{step}")


def test_the_step_may_stand_in_the_name(hub):
    hub.repositories = {"org/n-seed_1-step_20k": {}, "org/n-seed_1-step_40k": {}}
    place = on_the_hub("org/n-seed_{run}-step_{step}")
    assert [entry[:2] for entry in place.entries] == [("1", 20_000), ("1", 40_000)]


def test_the_hub_is_not_asked_unless_it_is_named(hub, tmp_path, capsys):
    assert seedmap("import", "checkpoints", PREFIX + "{run}/step{step}", "--out", tmp_path) == 2
    assert hub.asked == []
