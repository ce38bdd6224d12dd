"""What is done with an export: predict, evaluate, pipeline, embed; what has no back end says so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tests.fallback.test_runs import run

import biject
from biject.cli.main import main
from biject.config.recipe import FinetuneRecipe
from biject.config.sync import SyncConfig
from biject.errors import BijectWarning, ConfigError, InputError, WeightsError
from biject.runs.fallback import check_fallback
from biject.runs.plan import plan_recipe
from biject.train.optim import freeze
from biject.verify.reference import make_reference

pytestmark = pytest.mark.filterwarnings("ignore::biject.errors.BijectWarning")
TEXTS = ["the quick good fox", "a lazy model is lost one", "films"]


def test_a_classifier_predicts_as_transformers_does(
    checkpoint: Any, write_data: Any, tmp_path: Path, capsys: Any
) -> None:
    data = write_data(tmp_path / "data", "seqcls")
    done, _ = run(tmp_path, checkpoint("mpnet"), data, "seqcls")
    model = done.folder / "model"
    pipe = biject.pipeline(model, backend="hf")
    theirs = transformers.pipeline("text-classification", model=str(model))
    for ours, expected in zip(pipe(TEXTS), theirs(TEXTS), strict=True):
        assert ours[0]["label"] == expected["label"]
        # A batch here, one text at a time there: shapes decide float32's last bits (equal on AVX-512).
        assert ours[0]["score"] == pytest.approx(expected["score"], abs=1e-6)
    loaded = biject.AutoModelForSequenceClassification.from_pretrained(model, backend="hf")
    assert biject.pipeline("classify", model=loaded)(TEXTS) == pipe(TEXTS)
    assert main(["predict", str(model), *TEXTS, "--backend", "hf", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["results"]
    assert [row["result"][0]["label"] for row in found] == [ours[0]["label"] for ours in pipe(TEXTS)]
    assert main(["evaluate", str(done.folder), "--data", str(data), "--backend", "hf", "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert {"loss", "accuracy"} <= metrics.keys()
    assert main(["evaluate", str(model), "--data", str(data), "--task", "seqcls"]) == 2
    assert "--backend hf" in capsys.readouterr().err


def test_an_older_embedder_keeps_its_settings(tmp_path: Path) -> None:
    """Transformer in a folder of its own, first token, lengths of 1: as with the default back end."""
    folder = tmp_path / "older"
    make_reference("bert", "base", folder / "0_Transformer")
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": at, "name": str(at), "path": name, "type": f"sentence_transformers.models.{kind}"}
        for at, (name, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {
        "word_embedding_dimension": 32,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    ours = biject.pipeline("embed", model=folder)(TEXTS)
    found = biject.pipeline(task="embed", model=folder, backend="hf")(TEXTS)
    torch.testing.assert_close(found, ours, atol=1e-6, rtol=0)  # lengths decide float32's last bits
    assert found.norm(dim=1).sub(1).abs().max() < 1e-6
    with pytest.raises(InputError, match="expected `path` or `model`"):
        biject.pipeline(task="embed")


def test_tags_answers_masks_and_vectors(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    done, _ = run(tmp_path / "t", checkpoint("t5-encoder"), write_data(tmp_path / "d", "tokcls"), "tokcls")
    tags = biject.pipeline(done.folder / "model", backend="hf")(TEXTS[0])
    assert all({"entity", "word", "start", "end"} <= tag.keys() for tag in tags)
    done, _ = run(tmp_path / "q", checkpoint("roformer"), write_data(tmp_path / "d", "qa"), "qa")
    answer = biject.pipeline(done.folder / "model", backend="hf")(("what is it ?", "the quick fox"))
    assert answer[0]["answer"] in "the quick fox"
    fill = biject.pipeline(checkpoint("roformer"), backend="hf")
    theirs = transformers.pipeline("fill-mask", model=str(checkpoint("roformer")))
    for ours, expected in zip(fill("the [MASK] fox"), theirs("the [MASK] fox"), strict=True):
        assert (ours["token"], ours["token_str"]) == (expected["token"], expected["token_str"])
        # A softmax over one row here, over the whole text there: float32's last bits (equal on AVX-512).
        assert ours["score"] == pytest.approx(expected["score"], abs=1e-6)
    vectors = biject.pipeline(checkpoint("mpnet"), task="embed", backend="hf")(TEXTS)
    assert vectors.shape == (3, 32)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))  # a quotient's rounding, squared and added up
    with pytest.raises(ConfigError, match="continues texts"):
        biject.pipeline(checkpoint("gpt_neox"), backend="hf")
    with pytest.raises(WeightsError, match="They would be random"):
        biject.pipeline(checkpoint("mpnet"), task="classify", backend="hf")


def test_generate_is_transformers_own(checkpoint: Any) -> None:
    model = biject.AutoModelForCausalLM.from_pretrained(checkpoint("gpt_neox"), backend="hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("gpt_neox"))
    ids = torch.tensor([[9, 11, 30]])
    assert torch.equal(
        model.generate(ids, max_new_tokens=5, do_sample=False),
        theirs.generate(ids, max_new_tokens=5, do_sample=False),
    )


def test_an_unknown_architecture_names_both_ways_on(
    checkpoint: Any, write_data: Any, tmp_path: Path, capsys: Any
) -> None:
    data = str(write_data(tmp_path / "data", "seqcls"))
    given = ["finetune", "--model", str(checkpoint("mpnet")), "--data", data, "--task", "seqcls", "--out"]
    assert main([*given, str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "--backend hf" in error
    assert "biject new-family DIR" in error
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="backend='hf'"):
        biject.AutoModelForSequenceClassification.from_pretrained(checkpoint("mpnet"))
    found = ["--max-steps", "1", "--batch-size", "4", "--backend", "hf", "--quiet"]
    assert main([*given, str(tmp_path / "out"), *found]) == 0
    out = capsys.readouterr().out
    assert "BACKEND hf: MPNetForSequenceClassification of transformers" in out
    assert "VERDICT PASS" in out


def test_the_task_is_the_heads_where_it_is_left_out(
    checkpoint: Any, write_data: Any, tmp_path: Path, capsys: Any
) -> None:
    data = str(write_data(tmp_path / "data", "mlm"))
    given = ["finetune", "--model", str(checkpoint("gpt_neox")), "--data", data, "--backend", "hf"]
    assert main([*given, "--max-steps", "1", "--out", str(tmp_path / "out"), "--no-verify"]) == 0
    assert "GPTNeoXForCausalLM" in capsys.readouterr().out
    given[2] = str(checkpoint("mpnet"))
    assert main([*given, "--out", str(tmp_path / "other")]) == 2
    assert "finetune needs --task" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        (["--method", "qlora"], "method.* is not for .*backend. hf"),
        (["--shard"], "shard. is not for .*backend. hf"),
        (["--numerics", "exact"], "numerics. is not for .*backend. hf"),
        (["--sync", "cadence"], "sync.* is not for .*backend. hf"),
        (["--task", "causal", "--set", "packing=true"], "packing. is not for .*backend. hf"),
        (
            ["--task", "causal"],
            "has no class of `mpnet` for the head `causal`; it has seqcls, tokcls, qa, mlm",
        ),
        (["--backend", "keras"], "keras"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_refused(
    flags: list[str], match: str, checkpoint: Any, write_data: Any, tmp_path: Path, capsys: Any
) -> None:
    given = [
        "finetune",
        "--model",
        str(checkpoint("mpnet")),
        "--backend",
        "hf",
        "--out",
        str(tmp_path / "out"),
    ]
    task = [] if "--task" in flags else ["--task", "seqcls"]
    if "--backend" in flags:
        given = [part for part in given if part not in ("--backend", "hf")]
    data = str(write_data(tmp_path / "data", "mlm" if "causal" in flags else "seqcls"))
    assert main([*given, "--data", data, *task, *flags]) == 2
    assert re.search(match, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["layout", "numerics", "legacy", "family", "quantization", "skip_modules"])
def test_arguments_of_our_own_classes_are_refused(name: str, checkpoint: Any) -> None:
    value: Any = {"layout": "padded", "numerics": "exact", "legacy": True}.get(name, "nf4")
    with pytest.raises(ConfigError, match=f"`{name}` is for Biject's own classes"):
        biject.AutoModel.from_pretrained(checkpoint("mpnet"), backend="hf", **{name: value})
    with pytest.raises(ConfigError, match="expected 'biject' or 'hf'"):
        biject.AutoModel.from_pretrained(checkpoint("mpnet"), backend="keras")


@pytest.mark.parametrize("sync", [SyncConfig(shard=True), SyncConfig(mode="cadence")])
def test_a_model_is_not_spread_and_steps_are_taken_together(sync: SyncConfig) -> None:
    """Under torchrun each process has the whole model (`tests/distributed/test_fallback.py`)."""
    with pytest.raises(ConfigError, match="is not for `backend` hf"):
        FinetuneRecipe(model="mpnet", data="rows.csv", task="seqcls", backend="hf", sync=sync)


@pytest.mark.parametrize("task", ["embed", "rerank", "dpo", "reward"])
def test_tasks_of_our_own_classes_are_refused(task: Any, checkpoint: Any) -> None:
    recipe = FinetuneRecipe(model=str(checkpoint("mpnet")), data="rows.csv", task=task, backend="hf")
    with pytest.raises(
        ConfigError, match=f"`task` is {task}, which is not for `backend` hf; there are seqcls"
    ):
        check_fallback(recipe)


def test_a_plan_is_refused(checkpoint: Any, write_data: Any, tmp_path: Path) -> None:
    recipe = FinetuneRecipe(
        model=str(checkpoint("mpnet")), data=str(write_data(tmp_path, "seqcls")), task="seqcls", backend="hf"
    )
    plan = plan_recipe(recipe).plan
    assert not plan.allowed
    assert "`backend` is hf" in plan.reasons[0]


def test_a_missing_weight_is_named(checkpoint: Any, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for path in checkpoint("roformer").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(folder / "model.safetensors")
    del tensors["roformer.encoder.layer.1.output.dense.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        WeightsError, match=r"`roformer\.encoder\.layer\.1\.output\.dense\.bias`\. They would"
    ):
        biject.AutoModelForMaskedLM.from_pretrained(folder, backend="hf")
    with pytest.raises(WeightsError, match="They would be random"):  # a new head is no leave for the base
        biject.AutoModelForTokenClassification.from_pretrained(folder, backend="hf", num_labels=3)


def test_a_new_head_is_new_though_the_file_has_one(checkpoint: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = biject.AutoModelForTokenClassification.from_pretrained(
        checkpoint("mpnet"), backend="hf", num_labels=3
    )
    first.save_pretrained(tmp_path / "m")
    own = biject.AutoModelForTokenClassification.from_pretrained(tmp_path / "m", backend="hf", num_labels=3)
    assert torch.equal(own.hf.classifier.weight, first.hf.classifier.weight)
    assert own.fresh == ()
    with pytest.warns(BijectWarning, match="classifier.weight"):
        new = biject.AutoModelForTokenClassification.from_pretrained(
            tmp_path / "m", backend="hf", new_head={"labels": ["x", "y", "z"]}
        )
    assert not torch.equal(new.hf.classifier.weight, first.hf.classifier.weight)
    assert new.id2label == {0: "x", 1: "y", 2: "z"}


def test_wrong_calls_are_one_error(checkpoint: Any) -> None:
    model = biject.AutoModel.from_pretrained(checkpoint("mpnet"), backend="hf")
    with pytest.raises(InputError, match="has no argument `pixel_values`"):
        model(pixel_values=torch.zeros(1, 3, 4, 4))
    with pytest.raises(InputError, match="cannot compute this batch"):
        model(input_ids=torch.tensor([[10**6]]))
    segments = model(input_ids=torch.tensor([[4, 5]]), token_type_ids=torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(segments.last_hidden_state, model(input_ids=torch.tensor([[4, 5]])).last_hidden_state)


def test_names_of_parameters_are_transformers_own(checkpoint: Any) -> None:
    model = biject.AutoModel.from_pretrained(checkpoint("mpnet"), backend="hf")
    frozen = freeze(model, ["encoder.layer.0", "embeddings"])
    assert frozen
    assert all(name.startswith(("hf.encoder.layer.0.", "hf.embeddings.")) for name in frozen)
