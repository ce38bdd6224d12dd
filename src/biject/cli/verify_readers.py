"""`biject verify-readers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from biject.cli.flags import Json, Names, Switch, names


def verify_readers(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    readers: Names = None,
    llama_cpp: Switch = False,
    vllm: Annotated[Path | None, Parameter(metavar="WHEEL")] = None,
    env_dir: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    json: Json = False,
) -> int:
    """Open a checkpoint with other programs and compare what they read and compute with Biject.

    They are safetensors' own reader, onnxruntime, sentence-transformers, llama.cpp (its converter, its
    file as transformers reads it, its engine), and the lists of vLLM and text-embeddings-inference.
    What is not here is skipped, and says why. The exit code is 1 where a reader differs.

    Args:
        folder: An export, or any checkpoint.
        readers: Some of safetensors, onnxruntime, onnxruntime-hf, sentence-transformers, gguf,
            transformers-gguf, llama.cpp, vllm, text-embeddings-inference; all where left out.
        llama_cpp: Have pip make an environment with llama.cpp, once.
        vllm: A wheel of vLLM: its list of models is read, nothing of it is run.
        env_dir: Where that environment is kept; else in BIJECT_CACHE or the user's cache folder.
    """
    chosen = names(readers, flag="--readers")
    from biject.cli.console import print_document, print_lines
    from biject.verify.readers.run import verify_readers as verify

    found = verify(folder, readers=chosen, env_dir=env_dir, llama_cpp=llama_cpp, vllm=vllm)
    if json:
        print_document(found.to_json())
    else:
        print_lines(found.lines())
    return 0 if found.passed else 1
