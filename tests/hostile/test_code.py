"""Nothing that a checked folder brings is ever executed: ways in, each with a canary that must not appear."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from biject.checkpoint.source import open_source
from biject.verify.reference import make_reference
from biject.verify.staged import staged
from hostile.canaries import Pickled, change, code

pytestmark = pytest.mark.attack("code in a checked folder")


def auto_map_of_the_config(folder: Path, canary: Path) -> None:
    change(folder, "config.json", auto_map={"AutoConfig": "own.OwnConfig", "AutoModel": "own.Own"})


def auto_model_class(folder: Path, canary: Path) -> None:
    names = ("AutoConfig", "AutoModelForImageClassification", "AutoModelForSequenceClassification")
    change(folder, "config.json", architectures=[names[1]], auto_map=dict.fromkeys(names, "own.Own"))


def class_of_ones_own(folder: Path, canary: Path) -> None:
    change(folder, "config.json", architectures=["Own"], auto_map={"AutoModel": "own.Own"})


def unknown_model_type(folder: Path, canary: Path) -> None:
    change(folder, "config.json", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})


def function_as_class(folder: Path, canary: Path) -> None:
    change(folder, "config.json", architectures=["pipeline"])


def auto_map_of_the_tokenizer(folder: Path, canary: Path) -> None:
    own = {"AutoTokenizer": ["own.OwnTokenizer", "own.OwnTokenizer"]}
    change(folder, "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=own)


def auto_map_of_a_processor(folder: Path, canary: Path) -> None:
    own = {"AutoProcessor": "own.Own", "AutoTokenizer": ["own.OwnTokenizer", None]}
    for file in ("processor_config.json", "preprocessor_config.json"):
        change(folder, file, processor_class="Own", auto_map=own)


def adapter_that_is_loaded_by_itself(folder: Path, canary: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Pickled(canary)))
    change(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path=str(folder), r=4)


def own_generation(folder: Path, canary: Path) -> None:
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(
        code(canary, "Bert", "BertForSequenceClassification")
    )
    change(folder, "generation_config.json", custom_generate=str(folder))


def custom_pipeline(folder: Path, canary: Path) -> None:
    own = {"text-classification": {"impl": "own.Own", "pt": ["AutoModelForSequenceClassification"]}}
    change(folder, "config.json", custom_pipelines=own)


def kernel_of_a_repository(folder: Path, canary: Path) -> None:
    change(folder, "config.json", _attn_implementation=str(folder), attn_implementation="own/kernels")


def pickled_weights(folder: Path, canary: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Pickled(canary)))


def pickle_beside_the_weights(folder: Path, canary: Path) -> None:
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "vocab.pkl"):
        (folder / name).write_bytes(pickle.dumps(Pickled(canary)))


def chat_template(folder: Path, canary: Path) -> None:
    reach = "{{ cycler.__init__.__globals__.os.system('touch " + str(canary) + "') }}"
    (folder / "chat_template.jinja").write_text(reach)
    change(folder, "tokenizer_config.json", chat_template=reach)


WAYS: list[Callable[[Path, Path], None]] = [
    auto_map_of_the_config,
    auto_model_class,
    class_of_ones_own,
    unknown_model_type,
    function_as_class,
    auto_map_of_the_tokenizer,
    auto_map_of_a_processor,
    adapter_that_is_loaded_by_itself,
    own_generation,
    custom_pipeline,
    kernel_of_a_repository,
    pickled_weights,
    pickle_beside_the_weights,
    chat_template,
]
COMMANDS = (
    ("verify-export", "{folder}"),
    ("verify-export", "{folder}", "--source", "{good}"),
    ("verify-export", "{folder}", "--prompt", "the fox"),
    ("inspect", "{folder}"),
    ("predict", "{folder}", "the fox"),
    ("export", "--hub", "{folder}", "--out", "{out}"),
    ("new-family", "{folder}"),
    ("new-family", "{folder}", "--file", "{out}.py"),
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_code_runs(way: Callable[[Path, Path], None], tmp_path: Path) -> None:
    folder, canary = make_reference("bert", "seqcls", tmp_path / "folder"), tmp_path / "canary"
    good = shutil.copytree(folder, tmp_path / "good")
    (folder / "own.py").write_text(code(canary, "Bert", "BertForSequenceClassification"))
    way(folder, canary)
    script = (
        "import sys, json\nfrom biject.cli.main import main\n"
        "for command in json.loads(sys.argv[1]):\n    print('rc', main(command))\n"
    )
    filled = [
        [part.format(folder=folder, good=good, out=tmp_path / f"out{number}") for part in command]
        for number, command in enumerate(COMMANDS)
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(filled)],
        input="y\n" * 100,  # whoever asks is told yes
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,  # the worst place to stand
    )
    assert not canary.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    codes = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("rc ")]
    assert len(codes) == len(COMMANDS), done.stderr[-2000:]
    assert set(codes) <= {0, 1, 2}
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "way", [auto_model_class, class_of_ones_own, function_as_class, adapter_that_is_loaded_by_itself]
)
def test_what_is_not_loaded_fails(way: Callable[[Path, Path], None], tmp_path: Path) -> None:
    from biject.verify import verify_export

    folder = make_reference("bert", "seqcls", tmp_path / "folder")
    way(folder, tmp_path / "canary")
    report = verify_export(folder)
    assert not report.passed
    reload = next(level for level in report.levels if level.name == "reload")
    assert reload.status == "fail"


def test_a_canary_can_be_seen(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Pickled(canary)))
    assert canary.exists()
    canary.unlink()
    exec(code(canary, "Bert", "BertForSequenceClassification"))
    assert canary.exists()


def test_transformers_sees_config_and_weights_alone(tmp_path: Path) -> None:
    folder = make_reference("bert", "seqcls", tmp_path / "folder")
    (folder / "own.py").write_text("")
    with staged(open_source(folder)) as seen:
        assert sorted(path.name for path in seen.iterdir()) == ["config.json", "model.safetensors"]
    assert not seen.exists()


def command(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed program, as a user starts it."""
    program = Path(sys.executable).with_name("biject")
    return subprocess.run(
        [str(program), *map(str, arguments)],
        input="y\n" * 100,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=cwd,
        check=False,
    )


MODULES = (
    *("torch", "transformers", "safetensors", "tokenizers", "configuration_bert", "modeling_bert", "json"),
    *("sitecustomize", "usercustomize", "numpy", "own", "biject"),
)


def test_modules_in_the_folder_where_one_stands(tmp_path: Path) -> None:
    """Names of modules that are imported, in the folder that is the current one."""
    folder, canary = make_reference("bert", "seqcls", tmp_path / "folder"), tmp_path / "canary"
    text = f"open({str(canary)!r}, 'w').write('ran')\n"
    for name in MODULES:
        (folder / f"{name}.py").write_text(text)
    (folder / "own.pth").write_text(f"import os; {text}")
    done = command("verify-export", ".", cwd=folder)
    assert not canary.exists()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_TRUST_REMOTE_CODE": "1"},
        {"TRUST_REMOTE_CODE": "true"},
        {"TRANSFORMERS_TRUST_REMOTE_CODE": "1"},
        {"HF_MODULES_CACHE": "{cache}"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_switches_and_caches_of_the_environment(tmp_path: Path, environment: dict[str, str]) -> None:
    """Code of the folder that transformers has kept from before, and variables that seem to allow it."""
    folder, canary = make_reference("bert", "seqcls", tmp_path / "folder"), tmp_path / "canary"
    cache = tmp_path / "cache"
    for place in (folder, cache / "transformers_modules" / "folder", cache / "transformers_modules"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "own.py").write_text(code(canary, "Bert", "BertForSequenceClassification"))
        (place / "__init__.py").write_text(code(canary, "Bert", "BertForSequenceClassification"))
    auto_model_class(folder, canary)
    given = {name: value.format(cache=cache) for name, value in environment.items()}
    done = command("verify-export", folder, cwd=tmp_path, **given)
    assert not canary.exists()
    assert "[y/N]" not in done.stdout + done.stderr
    assert done.returncode == 1


def test_a_crash_while_loading_is_no_answer(tmp_path: Path) -> None:
    """Whatever ends the child, the command says that there is no result."""
    folder = make_reference("bert", "seqcls", tmp_path / "folder")
    site = tmp_path / "site"
    site.mkdir()
    crash = "import os, signal\ndef crash(*_, **__): os.kill(os.getpid(), signal.{name})\n"
    hook = "import biject.verify.hf as hf\nhf.load_hf = crash\n"
    for name, words in (("SIGSEGV", "SIGSEGV ended it"), ("SIGKILL", "memory ran out")):
        lazy = (
            "import os, sys\nclass Late:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'biject.verify.subject':\n"
            "            sys.meta_path.remove(self)\n"
            f"            exec({crash.format(name=name) + hook!r}, {{}})\n"
            "if os.environ.get('BIJECT_CHILD'): sys.meta_path.insert(0, Late())\n"
        )
        (site / "sitecustomize.py").write_text(lazy)
        done = command("verify-export", folder, cwd=tmp_path, PYTHONPATH=str(site))
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "VERDICT" not in done.stdout
