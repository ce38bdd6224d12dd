"""`verify_readers`: open a folder with every reader that is here."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from biject.errors import InputError
from biject.events import progress
from biject.model import Model
from biject.pretrained import load
from biject.verify.readers import llama_cpp, onnx, servers, vectors, weights
from biject.verify.readers.job import Job
from biject.verify.readers.result import Missing, Reading, Readings, Unreadable, about

READERS: dict[str, Callable[[Job], Reading]] = {
    "safetensors": weights.safetensors,
    "onnxruntime": onnx.of_ours,
    "onnxruntime-hf": onnx.of_hf,
    "sentence-transformers": vectors.sentence_transformers,
    "gguf": llama_cpp.converter,
    "transformers-gguf": llama_cpp.transformers_of_gguf,
    "llama.cpp": llama_cpp.engine,
    "vllm": servers.vllm,
    "text-embeddings-inference": servers.text_embeddings_inference,
}


def verify_readers(
    folder: str | Path,
    *,
    readers: Sequence[str] | None = None,
    model: Model | None = None,
    env_dir: Path | None = None,
    llama_cpp: bool = False,
    vllm: Path | None = None,
) -> Readings:
    """Open an export with other programs, and compare what they read and compute with Biject.

    Args:
        folder: A checkpoint.
        readers: Names out of `READERS`; all where left out.
        model: The model to compare with; the folder as Biject loads it where left out.
        env_dir: Where the environment with llama.cpp is kept.
        llama_cpp: Make that environment if it is not there.
        vllm: A wheel of vLLM, whose list of classes is read.

    Raises:
        InputError: No such reader, or no such wheel.
        BijectError: The folder cannot be loaded.
    """
    unknown = [name for name in readers or () if name not in READERS]
    if unknown:
        raise InputError(f"no reader {', '.join(unknown)}; there are {', '.join(READERS)}.")
    if vllm is not None and not vllm.is_file():
        raise InputError(f"--vllm: there is no file {vllm}.")
    place = Path(folder)
    chosen = READERS if readers is None else {name: READERS[name] for name in readers}
    ours = load(place, dtype=torch.float32) if model is None else model
    found = []
    with tempfile.TemporaryDirectory(prefix="biject-readers-") as work:
        job = Job(folder=place, model=ours, work=Path(work), env_dir=env_dir, llama_cpp=llama_cpp, vllm=vllm)
        for count, (name, reader) in enumerate(chosen.items(), 1):
            found.append(_tried(name, reader, job))
            progress("verify-readers", count, len(chosen), unit="readers")
    return Readings(folder=str(place), model=about(ours), readings=tuple(found))


def _tried(name: str, reader: Callable[[Job], Reading], job: Job) -> Reading:
    """One reader's result; one that breaks differs from Biject, which does not."""
    try:
        return reader(job)
    except Unreadable as reason:
        return Reading(reader=name, status="n/a", detail=str(reason))
    except Missing as reason:
        return Reading(reader=name, status="skipped", detail=str(reason))
    except Exception as error:  # the next reader must run
        words = " ".join(str(error).split())[:300]
        return Reading(reader=name, status="fail", detail=f"{type(error).__name__}: {words}")
