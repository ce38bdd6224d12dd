"""`biject push` and `model.push_to_hub` on a Hub of our own: private, verified, one commit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, constants
from safetensors.torch import load_file, save_file

import biject
from biject.cli.main import main
from biject.errors import BijectWarning, CheckpointError, InputError
from biject.pretrained import load
from biject.verify.reference import make_reference

from .server import HubServer, folder_files


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on rows that nobody else should see."""
    folder = tmp_path_factory.mktemp("run")
    base = make_reference("bert", "base", folder / "base")
    (base / "README.md").write_text("---\nlicense: apache-2.0\nlanguage: en\n---\n# Base\n")
    rows = [
        f"a secret {word} sentence,{label}" for word in ("one", "two", "three") for label in ("ja", "nein")
    ]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows * 5]) + "\n")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(["finetune", "--model", str(base), "--data", str(folder / "rows.csv"), "--task", "seqcls",
                 "--epochs", "1", "--batch-size", "8", "--out", str(folder / "my run")]) == 0  # fmt: skip
    torch.set_num_threads(before)
    return folder / "my run"


@pytest.fixture
def logged_in(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


def test_the_card_of_a_run(run_folder: Path) -> None:
    """What the Hub reads; and nothing of this machine or of the rows."""
    text = (run_folder / "model" / "README.md").read_text()
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.license, data.language) == (
        "transformers", "text-classification", "apache-2.0", "en")  # fmt: skip
    assert data.model_name == "my run"
    events = [json.loads(line) for line in (run_folder / "events.jsonl").read_text().splitlines()]
    found = [event for event in events if event["event"] == "evaluation"][-1]
    results = {(one.metric_name, one.metric_value) for one in data.eval_results}
    assert ("Accuracy", round(found["accuracy"], 6)) in results
    assert ("Loss", round(found["loss"], 6)) in results
    assert "secret" not in text
    assert str(run_folder.parent) not in text
    assert "| train.epochs | 1 |" in text


def test_pushed_privately_as_one_commit_that_says_what_was_verified(
    run_folder: Path, hub: HubServer, logged_in: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run_folder), "me/mine"]) == 0
    out = capsys.readouterr().out
    assert "PASS reload" in out
    repo = hub.repos["me/mine"]
    assert repo.private
    assert hub.messages == ["Upload model, verified by Biject"]
    there, here = repo.commits[repo.refs["main"]], folder_files(run_folder / "model")
    assert f"PUSHED {run_folder / 'model'} to {hub.endpoint}/me/mine/commit/{repo.refs['main']}" in out
    assert there.keys() == here.keys()
    assert {name for name in here if here[name] != there[name]} == {"README.md"}
    assert "- reload: pass, " in there["README.md"].decode()
    assert str(run_folder.parent) not in there["README.md"].decode()


def test_a_folder_that_fails_is_not_pushed(
    run_folder: Path, hub: HubServer, logged_in: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    bad = tmp_path / "bad"
    shutil.copytree(run_folder / "model", bad)
    tensors = load_file(bad / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    code = main(["push", str(bad), "me/bad"])
    captured = capsys.readouterr()
    assert code == 1, captured.out
    assert captured.out.splitlines()[-1] == "NOT PUSHED"
    assert "me/bad" not in hub.repos
    assert not [request for request in hub.requests if request.method in ("POST", "PUT")]


def test_a_link_out_of_the_folder_is_not_published(
    run_folder: Path, hub: HubServer, logged_in: None, tmp_path: Path
) -> None:
    import shutil

    from biject.runs.push import push

    folder = tmp_path / "theirs"
    shutil.copytree(run_folder / "model", folder)
    (tmp_path / "id_rsa").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(InputError, match=r"notes.txt' in .* is a link to .*id_rsa', outside"):
        push(folder, "me/linked", verify=False)
    assert "me/linked" not in hub.repos
    (folder / "notes.txt").unlink()
    (folder / "notes.txt").symlink_to(folder / "config.json")  # inside: its content goes up
    push(folder, "me/linked", verify=False)
    repo = hub.repos["me/linked"]
    assert "notes.txt" in repo.commits[repo.refs["main"]]


def test_push_to_hub_publishes_no_link_out_of_the_model_s_folder(
    run_folder: Path, hub: HubServer, logged_in: None, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "theirs"
    shutil.copytree(run_folder / "model", folder)
    (tmp_path / "id_rsa").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "id_rsa")
    with pytest.warns(BijectWarning, match="its target is read and copied"):
        model = load(folder)
    with pytest.raises(InputError, match=r"notes.txt' in .* is a link to .*id_rsa', outside"):
        model.push_to_hub("me/theirs")
    assert "me/theirs" not in hub.repos


@pytest.mark.parametrize("subfolder", ["", "inner"])
def test_push_to_hub_of_a_snapshot_in_the_cache(
    run_folder: Path, hub: HubServer, logged_in: None, tmp_path: Path, subfolder: str
) -> None:
    """Its files are links to the repository's blobs; others in the cache are not its own."""
    repository = tmp_path / "models--their--model"
    blobs, folder = repository / "blobs", repository / "snapshots" / "abc" / subfolder
    blobs.mkdir(parents=True)
    folder.mkdir(parents=True)
    for file in folder_files(run_folder / "model"):
        (blobs / file).write_bytes((run_folder / "model" / file).read_bytes())
        (folder / file).symlink_to(blobs / file)
    model = load(folder)
    name = f"me/snapshot{subfolder}"
    model.push_to_hub(name)
    assert "model.safetensors" in hub.repos[name].commits[hub.repos[name].refs["main"]]
    (tmp_path / "id_rsa").write_text("secret")
    (folder / "notes.txt").symlink_to(tmp_path / "id_rsa")
    with pytest.raises(InputError, match=r"notes.txt' in .* is a link to .*id_rsa', outside"):
        model.push_to_hub(name)


def test_an_interrupted_push_goes_on(run_folder: Path, hub: HubServer, logged_in: None) -> None:
    from biject.runs.push import push

    hub.refused_stores = 1
    with pytest.raises(CheckpointError, match=r"me/again: the (upload failed|Hub refused)"):
        push(run_folder, "me/again", verify=False)
    repo = hub.repos["me/again"]
    assert repo.commits[repo.refs["main"]] == {}
    push(run_folder, "me/again", verify=False)
    assert "model.safetensors" in repo.commits[repo.refs["main"]]
    sent = len([request for request in hub.requests if request.method == "PUT"])
    push(run_folder, "me/again", verify=False)
    assert len([request for request in hub.requests if request.method == "PUT"]) == sent  # nothing twice
    assert hub.messages[-1] == "Upload model, not verified"


def test_a_public_repository_is_refused_unless_that_is_said(
    run_folder: Path, hub: HubServer, logged_in: None
) -> None:
    from biject.runs.push import push

    push(run_folder, "me/open", private=False, verify=False)
    before = dict(hub.repos["me/open"].refs)
    with pytest.raises(InputError, match="me/open is public already"):
        push(run_folder, "me/open", verify=False)
    assert hub.repos["me/open"].refs == before


def test_without_a_token_and_with_a_wrong_name(run_folder: Path, hub: HubServer, client: Path) -> None:
    from biject.runs.push import push

    with pytest.raises(CheckpointError, match=r"the Hub refused the upload: .*hf auth login"):
        push(run_folder, "me/mine", verify=False)
    with pytest.raises(InputError, match="is no name of a repository"):
        push(run_folder, "a/b/c", verify=False)


def test_push_to_hub_of_a_model(run_folder: Path, hub: HubServer, logged_in: None) -> None:
    model = load(run_folder / "model")
    url = model.push_to_hub("me/by-api")
    assert url.startswith(f"{hub.endpoint}/me/by-api/commit/")
    assert hub.repos["me/by-api"].private
    again = biject.AutoModelForSequenceClassification.from_pretrained("me/by-api", token="hf_good")
    for mine, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)
