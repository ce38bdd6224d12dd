"""What llama.cpp makes of a GGUF file: a program of its own, run by the Python of `llama_environment`.

`python -I llama_program.py JOB.json` writes vectors of texts or likeliest next tokens of prompts, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(path: str) -> None:
    """Do the job of a file."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    import xllamacpp  # type: ignore[import-not-found, unused-ignore]

    settings = xllamacpp.CommonParams()
    settings.model.path = job["gguf"]
    settings.n_parallel = 1
    settings.cpuparams.n_threads = 1
    settings.n_ctx = job["length"]
    settings.warmup = False
    settings.embedding = job["do"] == "embed"
    exact = xllamacpp.ggml_type.GGML_TYPE_F32  # keys and values are kept in float16 otherwise
    settings.cache_type_k = settings.cache_type_v = exact
    settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(settings)
    found = (
        _embed(server, job)
        if settings.embedding
        else [_next(server, ids, job["most"]) for ids in job["prompts"]]
    )
    Path(job["result"]).write_text(json.dumps(found), encoding="utf-8")


def _embed(server: Any, job: dict[str, Any]) -> list[list[float]]:
    found = server.handle_embeddings({"input": job["texts"], "model": "it"})
    return [row["embedding"] for row in found["data"]]


def _next(server: Any, ids: list[int], most: int) -> dict[str, float]:
    """The likeliest tokens after a prompt, with their log-probabilities."""
    asked = {"prompt": ids, "max_tokens": 1, "temperature": 0, "logprobs": most, "model": "it"}
    found = server.handle_completions(asked)
    first = found["choices"][0]["logprobs"]["content"][0]
    return {str(one["id"]): one["logprob"] for one in first["top_logprobs"]}


if __name__ == "__main__":
    main(sys.argv[1])
