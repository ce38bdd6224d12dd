"""What users of transformers reach for first, on our models."""

from __future__ import annotations

import inspect
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import biject
from biject.errors import ConfigError, InputError, WeightsError
from biject.pretrained import load
from biject.verify.reference import make_reference

IDS = torch.tensor([[5, 6, 7, 8]])
FOUR = {"a": 0, "b": 1, "c": 2, "d": 3}
Auto = biject.AutoModelForSequenceClassification


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_reference("bert", "base", tmp_path_factory.mktemp("surface") / "base")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("surface") / "classifier"
    return make_reference("bert", "seqcls", folder, overrides={"num_labels": 3})


def test_every_public_name_is_there() -> None:
    for name in biject.__all__:
        assert getattr(biject, name) is not None
    assert set(biject.__all__) <= set(dir(biject))


def test_options_stand_in_the_signature() -> None:
    names = set(inspect.signature(biject.AutoModel.from_pretrained).parameters)
    assert {"dtype", "torch_dtype", "num_labels", "id2label", "new_head", "layout", "numerics"} <= names
    with pytest.raises(TypeError, match="nonsense"):
        biject.AutoModel.from_pretrained("x", nonsense=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "given",
    [{"num_labels": 4}, {"id2label": dict(enumerate("abcd"))}, {"label2id": FOUR}],
)
def test_a_head_with_labels_is_new_where_the_file_has_none(given: dict[str, Any], base: Path) -> None:
    with pytest.warns(UserWarning, match="New, randomly initialised"):
        model = Auto.from_pretrained(base, **given)
    assert model(IDS).logits.shape == (1, 4)
    expected = list("abcd") if "num_labels" not in given else [f"LABEL_{i}" for i in range(4)]
    assert list(model.id2label.values()) == expected


def test_without_labels_a_missing_head_stays_an_error(base: Path) -> None:
    with pytest.raises(WeightsError, match="new_head"):
        Auto.from_pretrained(base)


def test_a_head_that_fits_is_the_file_s_own(classifier: Path, tmp_path: Path) -> None:
    plain = Auto.from_pretrained(classifier)
    same = Auto.from_pretrained(classifier, num_labels=3)
    named = Auto.from_pretrained(classifier, id2label=dict(enumerate("xyz")))
    for model in (same, named):
        assert torch.equal(model(IDS).logits, plain(IDS).logits)
        assert not model.provenance.initialized
    assert named.id2label == {0: "x", 1: "y", 2: "z"}
    named.save_pretrained(tmp_path / "named")
    assert json.loads((tmp_path / "named" / "config.json").read_text())["id2label"] == {
        "0": "x",
        "1": "y",
        "2": "z",
    }


def test_another_number_of_labels_makes_the_output_new(classifier: Path) -> None:
    with pytest.warns(UserWarning, match="New, randomly initialised"):
        model = Auto.from_pretrained(classifier, num_labels=7)
    assert model(IDS).logits.shape == (1, 7)


@pytest.mark.parametrize(
    "given",
    [
        {"id2label": {1: "a", 2: "b"}},
        {"num_labels": 3, "id2label": {0: "a", 1: "b"}},
        {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 1, "b": 0}},
        {"num_labels": 2, "new_head": {"labels": ["a", "b"]}},
    ],
    ids=str,
)
def test_labels_that_contradict_are_refused(given: dict[str, Any], base: Path) -> None:
    with pytest.raises(ConfigError, match=r"id2label|new_head"):
        Auto.from_pretrained(base, **given)


def test_torch_dtype_is_dtype(base: Path) -> None:
    model = biject.AutoModel.from_pretrained(base, torch_dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.device == torch.device("cpu")


def test_counting_and_embeddings(classifier: Path, tmp_path: Path) -> None:
    model = Auto.from_pretrained(classifier)
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    model.embed.tokens.weight.requires_grad_(False)
    left = model.num_parameters() - model.embed.tokens.weight.numel()
    assert model.num_parameters(only_trainable=True) == left
    assert model.get_input_embeddings() is model.embed.tokens
    assert model.get_output_embeddings() is None
    tied = load(make_reference("bert", "mlm", tmp_path / "mlm"))
    output = tied.get_output_embeddings()
    assert output is not None
    assert output.weight is tied.embed.tokens.weight
    assert tied.num_parameters() == sum(p.numel() for p in {id(p): p for p in tied.parameters()}.values())


def test_checkpointing_changes_no_gradient(classifier: Path) -> None:
    found = []
    for enabled in (False, True):
        model = load(classifier, layout="padded").train()
        if enabled:
            model.gradient_checkpointing_enable()
        torch.manual_seed(0)
        model(IDS, labels=torch.tensor([1])).loss.backward()
        found.append([parameter.grad for parameter in model.parameters()])
        model.gradient_checkpointing_disable()
        assert not model.gradient_checkpointing
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_checkpointing_by_the_names_of_transformers_5(classifier: Path) -> None:
    model = load(classifier)
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    assert model.gradient_checkpointing
    model.activation_checkpointing_disable()
    assert not model.gradient_checkpointing
    for given in ({"every_n_layers": 2}, {"offload": True}):
        with pytest.raises(InputError, match="every_n_layers=1"):
            model.gradient_checkpointing_enable(**given)  # type: ignore[arg-type]


def test_outputs_are_read_in_every_way(classifier: Path) -> None:
    model = load(classifier)
    out = model(IDS, labels=torch.tensor([1]))
    assert out.keys() == ("loss", "logits")
    assert dict(out.items()).keys() == {"loss", "logits"}
    assert out.get("logits") is out.logits is out[1] is out["logits"]
    assert out.get("attentions", 7) == 7
    assert out[0] is out.loss is out.values()[0]
    plain = model(IDS, labels=torch.tensor([1]), return_dict=False)
    assert isinstance(plain, tuple)
    assert torch.equal(plain[1], out.logits)


def test_shards_of_a_requested_size(classifier: Path, tmp_path: Path) -> None:
    model = load(classifier)
    model.save_pretrained(tmp_path / "cut", max_shard_size="20KB")
    assert len(list((tmp_path / "cut").glob("model-*.safetensors"))) > 1
    assert torch.equal(load(tmp_path / "cut")(IDS).logits, model(IDS).logits)
    with pytest.raises(InputError, match="20 shards"):
        model.save_pretrained(tmp_path / "bad", max_shard_size="20 shards")


def test_a_tokenizer_of_its_own(classifier: Path) -> None:
    tokenizer = biject.AutoTokenizer.from_pretrained(classifier)
    assert tokenizer.vocab
    with pytest.raises(TypeError, match="from_pretrained"):
        biject.AutoTokenizer()


def test_tasks_as_transformers_calls_them(classifier: Path) -> None:
    ours = biject.pipeline(classifier)("the quick fox")
    assert biject.pipeline("text-classification", model=classifier)("the quick fox") == ours
    assert biject.pipeline("sentiment-analysis", classifier)("the quick fox") == ours
    with pytest.raises(InputError, match="text-classification"):
        biject.pipeline("summarization", model=classifier)


def test_a_pipeline_of_a_loaded_model(classifier: Path) -> None:
    ours = biject.pipeline(classifier)("the quick fox")
    model, tokenizer = load(classifier), biject.AutoTokenizer.from_pretrained(classifier)
    assert biject.pipeline("text-classification", model=model)("the quick fox") == ours
    assert biject.pipeline("text-classification", model=model, tokenizer=tokenizer)("the quick fox") == ours
    named = load(classifier, labels=["x", "y", "z"])
    found = biject.pipeline("text-classification", model=named)("the quick fox")
    assert found[0]["label"] in "xyz"
    assert found[0]["score"] == ours[0]["score"]
    assert not biject.pipeline("text-classification", model=named.train()).model.training
    with pytest.raises(InputError, match="needs `qa`"):
        biject.pipeline("question-answering", model=model)


def test_a_new_head_on_an_embedder_is_no_embedder(base: Path, tmp_path: Path) -> None:
    """sentence-transformers' files would have the folder read as one, and the head not used."""
    embedder = shutil.copytree(base, tmp_path / "embedder")
    (embedder / "modules.json").write_text(
        json.dumps(
            [
                {"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            ]
        )
    )
    (embedder / "1_Pooling").mkdir()
    (embedder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert biject.pipeline(embedder).name == "embed"
    Auto.from_pretrained(embedder, num_labels=2).save_pretrained(tmp_path / "classifier")
    assert biject.pipeline(tmp_path / "classifier").name == "classify"
    assert not {"modules.json", "1_Pooling"} & {path.name for path in (tmp_path / "classifier").iterdir()}
    assert biject.verify_export(tmp_path / "classifier", source=embedder).passed
    biject.AutoModel.from_pretrained(embedder).save_pretrained(tmp_path / "same")
    assert (tmp_path / "same" / "1_Pooling" / "config.json").is_file()
    (embedder / "modules.json").write_text("[")
    Auto.from_pretrained(embedder, num_labels=2).save_pretrained(tmp_path / "again")


def test_problem_type(classifier: Path, base: Path, tmp_path: Path) -> None:
    kind = "multi_label_classification"
    labels = torch.tensor([[1.0, 0.0, 1.0]])
    for folder in (classifier, base):
        model = Auto.from_pretrained(folder, num_labels=3, problem_type=kind)
        logits, loss = model(IDS).logits, model(IDS, labels=labels).loss
        assert torch.equal(loss, torch.nn.functional.binary_cross_entropy_with_logits(logits, labels))
        model.save_pretrained(tmp_path / folder.name)
        assert json.loads((tmp_path / folder.name / "config.json").read_text())["problem_type"] == kind
    with pytest.raises(ConfigError, match="problem_type"):
        Auto.from_pretrained(classifier, problem_type="nonsense")  # type: ignore[arg-type]


def test_one_label_is_no_class(classifier: Path, tmp_path: Path) -> None:
    """Its loss is 0 whatever the logits, and transformers opens no folder that says so."""
    import transformers

    kind: Any = "single_label_classification"
    one = Auto.from_pretrained(classifier, num_labels=1)
    one.save_pretrained(tmp_path / "one")
    with pytest.raises(ConfigError, match="needs two labels or more"):
        Auto.from_pretrained(tmp_path / "one", problem_type=kind)
    with pytest.raises(ConfigError, match="needs two labels or more"):
        Auto.from_pretrained(classifier, num_labels=1, problem_type=kind)
    with pytest.raises(ConfigError, match="needs two labels or more"):
        load(classifier, head="seqcls", new_head={"labels": ["yes"], "problem_type": kind})
    assert Auto.from_pretrained(tmp_path / "one", num_labels=2, problem_type=kind).config.problem_type == kind

    stored = json.loads((tmp_path / "one" / "config.json").read_text())
    (tmp_path / "one" / "config.json").write_text(json.dumps({**stored, "problem_type": kind}))
    with pytest.raises(ValueError, match="num_labels > 1"):
        transformers.AutoConfig.from_pretrained(tmp_path / "one")
    with pytest.raises(ConfigError, match="needs two labels or more"):
        load(tmp_path / "one")
    assert Auto.from_pretrained(tmp_path / "one", problem_type="regression").config.num_labels == 1


def test_special_ids_are_set_as_in_transformers(tmp_path: Path) -> None:
    """GPT-2 has no padding token: texts can't be classified together before it is named."""
    import transformers

    folder = make_reference("gpt2", "seqcls", tmp_path / "gpt2", overrides={"pad_token_id": None})
    model = load(folder, layout="padded")
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 1, 1]])
    mask = (ids != 1).long()
    with pytest.raises(InputError, match="pad_token_id"):
        model(ids, attention_mask=mask)
    model.resize_token_embeddings(model.config.vocab_size)
    for each in (model, theirs):
        each.config.pad_token_id = 1
    with torch.no_grad():
        assert torch.equal(model(ids, attention_mask=mask).logits, theirs(ids, attention_mask=mask).logits)
    model.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").config.pad_token_id == 1
    assert model.config.get_text_config() is model.config
    for value in (-1, model.config.vocab_size, "x", True):
        with pytest.raises(ConfigError, match="a token's id"):
            model.config.eos_token_id = value


def test_the_padding_that_positions_count_from_stays(tmp_path: Path) -> None:
    model = load(make_reference("roberta", "base", tmp_path / "roberta"))
    model.config.pad_token_id = model.config.pad_token_id
    with pytest.raises(ConfigError, match="positions count from"):
        model.config.pad_token_id = 7


def test_config_answers_to_the_names_of_config_json(classifier: Path) -> None:
    config = Auto.from_pretrained(classifier).config
    written = json.loads((classifier / "config.json").read_text())
    for name in ("model_type", "num_attention_heads", "hidden_act", "hidden_size"):
        assert getattr(config, name) == written[name]
    assert config.num_labels == 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    assert config.label2id["LABEL_2"] == 2
    assert config.to_dict()["model_type"] == "bert"
    assert config.get("nonsense", 5) == 5
    with pytest.raises(AttributeError, match="nonsense"):
        _ = config.nonsense
    with pytest.raises(AttributeError, match="from_pretrained"):
        config.hidden_size = 7  # type: ignore[misc]
    config.use_cache = False  # HF's Trainer does
    assert pickle.loads(pickle.dumps(config)) == config


def test_config_follows_the_size_of_the_vocabulary(classifier: Path) -> None:
    model = Auto.from_pretrained(classifier)
    count = model.config.vocab_size + 8
    model.resize_token_embeddings(count)
    assert model.config.vocab_size == model.hf_config["vocab_size"] == count
    assert model.config.to_dict()["vocab_size"] == count


def test_a_folder_without_a_model_type_is_loaded_by_its_family(classifier: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(classifier, bare)
    written = json.loads((bare / "config.json").read_text())
    del written["model_type"]
    (bare / "config.json").write_text(json.dumps(written))
    with pytest.raises(ConfigError, match="family=…"):
        Auto.from_pretrained(bare)
    model = Auto.from_pretrained(bare, family="bert")
    assert torch.equal(model(IDS).logits, Auto.from_pretrained(classifier)(IDS).logits)
    model.save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["model_type"] == "bert"
    assert biject.verify_export(tmp_path / "saved").passed
    with pytest.raises(ConfigError, match="given, which is for folders without"):
        Auto.from_pretrained(classifier, family="roberta")
    with pytest.raises(ConfigError, match="nonsense"):
        Auto.from_pretrained(bare, family="nonsense")
