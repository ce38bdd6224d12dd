"""The contract: what is refused and why; rules say truly which axes decide them; the page is current."""

from __future__ import annotations

import importlib.util
import random
import re
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

from biject.config.tasks import head_of
from biject.errors import InputError
from biject.families import families
from biject.plan import contract
from biject.plan.cell import Cell, Lack, axes
from biject.plan.contract import RULES, Rule, decide

SCRIPT = Path(__file__).parents[3] / "scripts" / "write_contract.py"


@pytest.mark.parametrize("name", families())
def test_full_fine_tuning_of_every_head_is_allowed(name: str) -> None:
    for task in axes()["task"]:
        verdict = decide(Cell(family=name, task=task))
        pictures = "imgcls" in families()[name].heads
        allowed = head_of(task) in families()[name].heads and not (pictures and task == "embed")
        assert verdict.allowed == allowed, verdict.reasons


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"family": "t5"}, "`model_type` is 't5'"),
        ({"family": "bert", "task": "causal"}, "it has seqcls, tokcls, qa, mlm"),
        ({"family": "gpt2", "task": "mlm"}, "no such head"),
        ({"family": "bert", "method": "full", "quantization": "nf4"}, "stays frozen"),
        ({"family": "bert", "method": "lora", "quantization": "int8"}, "Take `method` qlora"),
        ({"family": "bert", "method": "qlora"}, "give nf4"),
        ({"family": "bert", "method": "qlora", "quantization": "nf4", "device": "mps"}, "on cpu and cuda"),
        ({"family": "bert", "tokenizer": "none"}, "no tokenizer: expected tokenizer.json"),
        ({"family": "bert", "device": "cuda", "lacks": frozenset(["device"])}, "'cuda' cannot be used"),
        (
            {
                "family": "bert",
                "method": "qlora",
                "quantization": "nf4",
                "lacks": frozenset(["bitsandbytes"]),
            },
            "pip install 'biject[quant]'",
        ),
        ({"family": "bert", "task": "mlm", "lacks": frozenset(["mask token"])}, "needs a mask token"),
        ({"family": "gpt2", "lacks": frozenset(["pad_token_id"])}, "set `pad_token_id` there, or `batch"),
        ({"family": "bert", "task": "dpo"}, "has no head causal for it; it has seqcls, tokcls, qa, mlm."),
        (
            {"family": "gpt2", "task": "reward", "lacks": frozenset(["pad_token_id"])},
            "`task` is reward, and `gpt2` reads a text's last token",
        ),
    ],
)
def test_a_refusal_says_why(given: dict[str, Any], says: str) -> None:
    verdict = decide(Cell(**given))
    assert not verdict.allowed
    assert len(verdict.reasons) == 1
    assert says in verdict.reasons[0]
    with pytest.raises(InputError, match=re.escape(says)):
        verdict.require()


def test_what_is_lacking_matters_only_where_it_is_needed() -> None:
    nothing_needed: frozenset[Lack] = frozenset(["bitsandbytes", "mask token", "pad_token_id"])
    assert decide(Cell(family="bert", lacks=nothing_needed)).allowed
    assert decide(Cell(family="gpt2", task="causal", lacks=nothing_needed)).allowed


def test_all_reasons_are_given_at_once() -> None:
    cell = Cell(family="gpt2", task="mlm", method="full", quantization="nf4", tokenizer="none")
    assert len(decide(cell).reasons) == 3


def undeclared(rule: Rule, tries: int = 300) -> list[str]:
    """Axes that change a rule's reason without being among those that it names."""
    draw, found = random.Random(0), []
    choices: dict[str, list[Any]] = {name: list(values) for name, values in axes().items()}
    choices["lacks"] = [frozenset(), *(frozenset([lack]) for lack in get_args(Lack))]
    for _ in range(tries):
        one = {name: draw.choice(values) for name, values in choices.items()}
        axis = draw.choice([name for name in choices if name not in rule.axes])
        other = {**one, axis: draw.choice(choices[axis])}
        if rule.reason(Cell(**one)) != rule.reason(Cell(**other)):
            found.append(axis)
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.reason.__name__)
def test_a_rule_names_what_decides_it(rule: Rule) -> None:
    assert undeclared(rule) == []


def test_an_axis_that_a_rule_does_not_name_is_found() -> None:
    rule = Rule(("task",), lambda cell: "no" if cell.task == "qa" and cell.precision == "f16" else None)
    assert set(undeclared(rule)) == {"precision"}


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("an installed package has no scripts")
    spec = importlib.util.spec_from_file_location("write_contract", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(writer: ModuleType) -> None:
    text = writer.PAGE.read_text()
    assert text == writer.page(text), "run `make api`"


def test_a_changed_rule_is_seen(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    stricter = Rule(("method", "task"), lambda cell: "no" if cell.method == "qlora" else None)
    rules = (*RULES[:2], stricter, *RULES[3:])
    monkeypatch.setattr(contract, "RULES", rules)
    monkeypatch.setattr(writer, "RULES", rules)
    assert "| qlora | no: 3 | no: 3 | no: 3 | no: 3 |" in writer.tables()
