"""The watch reports planted faults, and nothing where there are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.verify.versions.planted import make_planted

from biject.errors import InputError
from biject.events import Notice, Progress, listening
from biject.verify.versions.environments import environment
from biject.verify.versions.result import Watch, WatchedCell
from biject.verify.versions.watch import watch_versions


def kinds(cell: WatchedCell) -> list[str]:
    return [found.kind for found in cell.findings]


def test_other_bits_and_other_names_of_a_release_are_reported(tmp_path: Path) -> None:
    planted = make_planted(tmp_path / "env")
    cells = [("bert", "base"), ("bert", "qa"), ("bert", "tokcls")]
    found = watch_versions(["installed"], cells, environments=[planted], keep=tmp_path / "keep")
    base, answers, tagger = found.releases[0].cells
    assert kinds(base) == ["forward", "gradients"]
    assert "first `pooler_output 0`" in base.findings[0].detail
    assert 0 < (base.findings[0].max_abs_diff or 0) < 1e-5
    assert answers.passed
    assert answers.findings == ()
    assert not tagger.passed
    assert "tagger.weight" in str(tagger.error)
    assert not found.passed
    assert found.verdict() == "VERDICT FAIL 1/3 cells (transformers 99.0)"
    table = json.loads(found.to_json())["table"]
    assert table[1][1] == "1/3 (base: forward,gradients; tokcls: error)"


@pytest.mark.slow
def test_beside_the_installed_release_what_changed_is_reported(tmp_path: Path) -> None:
    both = [environment("installed"), make_planted(tmp_path / "env")]
    found = watch_versions(["installed"], [("bert", "base"), ("bert", "qa")], environments=both)
    assert [release.cells[0].passed for release in found.releases] == [True, False]
    moved = [(head, change.kind, change.detail.split()[0]) for _, head, change in found.changes("bert")]
    assert moved == [("base", "bits", "outputs"), ("base", "bits", "gradients")]
    assert found.newest == "99.0"
    older = found.releases[0].cells[0]
    assert older.of_newest == ()


@pytest.mark.slow
def test_a_release_from_an_index(tmp_path: Path) -> None:
    """transformers 4 needs another huggingface_hub than ours, whatever a constraints file pins."""
    heard: list[str] = []

    class Listener:
        def notice(self, event: Notice) -> None:
            heard.append(event.code)

        def progress(self, event: Progress) -> None:
            pass

    pins = tmp_path / "constraints.txt"
    pins.write_text("huggingface_hub==2.4.0\ntorch==1.0\ntransformers==5.23.0\n")
    try:
        with listening(Listener()):
            made = environment("4.57.6", folder=tmp_path / "envs", constraints=pins)
    except InputError as error:
        if "no package index" not in str(error):
            raise
        pytest.skip(str(error))
    assert (made.version, made.made, heard) == ("4.57.6", True, ["constraints"])
    again = environment("4.57.6", folder=tmp_path / "envs", constraints=pins)
    assert (again.version, again.made, again.python) == ("4.57.6", False, made.python)
    found = watch_versions(["4.57.6"], [("llama", "causal"), ("bert", "mlm")], environments=[again])
    assert found.passed, found.lines()


def test_nothing_is_not_passed() -> None:
    assert not Watch(releases=()).passed
    with pytest.raises(InputError, match="nothing to compare"):
        watch_versions(["installed"], [])


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(InputError, match="holds something"):
        watch_versions(["installed"], [("bert", "base")], keep=tmp_path)
