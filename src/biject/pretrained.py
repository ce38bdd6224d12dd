"""Load, save, resize, generate: what `from_pretrained` returns, above the model itself.

Loading builds the model on the meta device and then places the file's tensors, mapped and not copied,
checking each shape; nothing is ever initialised that the file should hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, get_args

import torch
from torch import Tensor

from biject.adapters.load import head_for, load_adapter, refuse_whole, with_adapter
from biject.adapters.methods import AdapterMethods
from biject.checkpoint.bytes import tensor_bytes
from biject.checkpoint.reader import Reader
from biject.checkpoint.sizes import parse_bytes
from biject.checkpoint.source import Source, open_source
from biject.config.common import stale_labels
from biject.config.heads import ProblemType
from biject.config.quantization import agreed, requested
from biject.errors import ConfigError, WeightsError
from biject.events import notice
from biject.identify import Identity, NewHead, identify, with_family, with_labels
from biject.model import Vocabulary
from biject.nn.kernels import Numerics
from biject.nn.planner import LayoutName
from biject.placing import file_dtype, place, requested_dtype
from biject.quantize import check, replace_linears
from biject.weights.plan import Same

if TYPE_CHECKING:
    from biject.generate.cache import Cache
    from biject.generate.loop import Streamer
    from biject.generate.settings import Arguments
    from biject.generate.stopping import VocabularyLike


class PretrainedModel(AdapterMethods):
    """What `from_pretrained` returns."""

    def resize_token_embeddings(
        self, tokens: int | Vocabulary, *, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> None:
        """Make room for added tokens: `tokens` rows, or as many as a tokenizer needs (it never shrinks then).

        New rows start as HF's do: around the mean of the old ones, or with `mean_resizing=False` from
        `initializer_range`. Parameters are new objects: build optimizers afterwards. A tokenizer that is
        given here is what `save_pretrained` writes.

        Raises:
            InputError: too few rows for the padding token, or an adapter on the table or the output.
        """
        from biject.resize import resize

        resize(self, tokens, pad_to_multiple_of=pad_to_multiple_of, mean_resizing=mean_resizing)
        if not isinstance(tokens, int):
            self.tokenizer = tokens

    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        tokenizer: VocabularyLike | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        streamer: Streamer | None = None,
        past_key_values: Cache | None = None,
        **arguments: Unpack[Arguments],
    ) -> Tensor | Any:
        """Continue prompts: (B, L) → (B, L + new), the prompts first, texts that ended early filled up; with
        `return_dict_in_generate` a `GenerateOutput`.

        What is not given is taken from generation_config.json, else as in Hugging Face: 20 tokens, the
        likeliest each. Greedy texts are HF's; sampled ones, too, on the CPU in float32 with the same seed.

        Args:
            input_ids: the prompts' ids, padded on the left where their lengths differ.
            attention_mask: (B, L), nonzero where a token is real; None where all are, or where padding shows
                by its id.
            tokenizer: the model's, for `stop_strings`.
            seed: of the random numbers, as in `torch.manual_seed`; the global generator where left out.
            generator: one to draw with, instead of `seed`.
            streamer: called with every token as it comes; HF's streamers will do.
            past_key_values: a `biject.Cache` that this call fills: the next one computes only what follows
                the columns that it holds.
            arguments: see `biject.generate.settings.Arguments`.

        Raises:
            InputError: the model has no head for it; a prompt is empty, padded on the right or too long; an
                argument is unknown, out of range or not supported; logits are NaN.
        """
        from biject.generate.loop import generate

        return generate(
            self,
            input_ids,
            attention_mask,
            arguments,
            tokenizer=tokenizer,
            seed=seed,
            generator=generator,
            streamer=streamer,
            past_key_values=past_key_values,
        )

    def push_to_hub(self, repo: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload what `save_pretrained` writes as one commit, and return its address.

        Args:
            repo: `organisation/model`, made where it does not exist.
            private: only its owners may see it; a public repository is refused then.
            token: of the Hub; else `HF_TOKEN` or the one of `hf auth login`.

        Raises:
            InputError: a file of the model's folder is a link out of it; the repository is public.
            CheckpointError: the Hub refuses, or the network fails.
        """
        from tempfile import TemporaryDirectory

        from biject.checkpoint.hub_upload import publishable, upload

        publishable(self.source.folder)  # in the copy, links are files of its own
        with TemporaryDirectory(prefix="biject-push-") as place:
            self.save_pretrained(Path(place) / "model")
            return upload(Path(place) / "model", repo, private=private, token=token)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str | None = None,
        tokenizer: Vocabulary | None = None,
        force: bool = False,
    ) -> None:
        """Write a complete Hugging Face folder: weights, config, tokenizer and assets.

        The tokenizer is the source's, byte for byte, unless `tokenizer` (or the one that
        `resize_token_embeddings` was given) has other tokens, roles or chat templates.

        Args:
            folder: one that does not exist yet, or with `force` an export that is replaced.
            max_shard_size: of a weight file, in bytes or as `5GB`; the source's cuts where left out.
            tokenizer: one that was changed, to be written with the model.
            force: replace the folder.

        Raises:
            InputError: a size that cannot be read.
            CheckpointError: the folder exists (and not `force`), or cannot be written; nothing is
                left half-done.
        """
        from biject.save import save_model

        changed = tokenizer if tokenizer is not None else self.tokenizer
        files = {} if changed is None else changed.changed_files()
        gone = () if changed is None else changed.removed_files()
        size = parse_bytes(max_shard_size) if isinstance(max_shard_size, str) else max_shard_size
        if self.adapters is not None:
            refuse_whole(self)
        save_model(self, Path(folder), max_shard_bytes=size, force=force, extra=files, without=gone)


def load(
    path: str | Path,
    *,
    head: str = "auto",
    revision: str | None = None,
    token: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    layout: LayoutName = "packed",
    numerics: Numerics | None = None,
    new_head: NewHead | None = None,
    labels: int | Sequence[str] | None = None,
    problem_type: ProblemType | None = None,
    legacy: bool | None = None,
    family: str | None = None,
    quantization: str | None = None,
    double_quant: bool | None = None,
    compute_dtype: str | torch.dtype | None = None,
    skip_modules: Sequence[str] | None = None,
    adapter: str | Path | None = None,
) -> PretrainedModel:
    """Load a checkpoint from a folder or the Hub, in eval mode.

    Args:
        path: a folder, or a repository on the Hub; one of an adapter loads the base that it names, too.
        head: `auto` (the file's own), or one of `biject.families.ALL_HEADS`.
        revision: branch, tag or commit of a repository.
        token: of the Hub; else `HF_TOKEN` or the one of `hf auth login`.
        dtype: `auto` keeps the file's; else a torch dtype or its name.
        device: where the parameters go; on the CPU they stay mapped until touched.
        layout: `packed` leaves padding out; `padded` computes exactly HF's rows, pads too, so that training
            with dropout draws HF's random numbers.
        numerics: `exact` leaves out only what keeps HF's bits; `fast` also what changes rounding. Exact on
            the CPU and fast elsewhere where left out.
        new_head: build the head new and random instead of reading it: ``dict(labels=["no", "yes"])``.
        labels: classes of the head, their number or their names: the file's own head where it has as many
            (then called by these names), else a new one, as with `new_head`.
        problem_type: of a sequence classifier, as in config.json, which gets it.
        legacy: which of DeBERTa's two masked-LM heads, where the file and its config disagree.
        family: the `model_type` of a folder whose config.json names none; what is saved names it.
        quantization: `nf4`, `fp4` or `int8`: hold the linears so, frozen, for an adapter to train on.
        double_quant: of nf4 and fp4: quantise the blocks' scales as well; True where left out.
        compute_dtype: of nf4 and fp4: what products are computed in; float32 where left out.
        skip_modules: linears that stay as they are, by Hugging Face's names or ours; what `transformers`
            leaves out where left out.
        adapter: a folder or repository with an adapter for `path`, as PEFT and `save_adapter` write them.

    Raises:
        MissingExtraError: quantization needs bitsandbytes.
        CheckpointError, ConfigError, WeightsError: what is wrong, where, and what to do.
    """
    if layout not in get_args(LayoutName):
        raise ConfigError(f"layout: expected 'packed' or 'padded', found {layout!r}.")
    if numerics is not None and numerics not in get_args(Numerics):
        raise ConfigError(f"numerics: expected 'exact' or 'fast', found {numerics!r}.")
    settings = requested(
        quantization, double_quant=double_quant, compute_dtype=compute_dtype, skip_modules=skip_modules
    )
    folder, stored = with_adapter(path, adapter, revision=revision, token=token)
    source = open_source(folder)
    reader = Reader(source)
    config = with_family(source.config, family, where=str(source.folder))
    if stored is not None:
        asked = new_head is not None or labels is not None
        head, new_head = head_for(stored, config, source.tensors, head, new_head, asked=asked)
    if problem_type is not None:
        config = {**config, "problem_type": problem_type}
    identity = _identified(source, config, reader, head=head, legacy=legacy, new_head=new_head, labels=labels)
    identity.family.config.warn_unknown(source.config)
    _report_passthrough(identity, filled=stored is not None)
    stale = stale_labels(identity.hf_config)
    if stale and identity.head in ("seqcls", "tokcls", "imgcls", "distilled"):
        notice("stale-labels", stale + ".")
    model = PretrainedModel(identity, source, file_dtype(identity, source))
    model.planner.layout, model.planner.numerics = layout, numerics
    held, where = requested_dtype(dtype) or model.file_dtype, torch.device(device)
    codes = identity.codes
    if codes is not None:
        settings = agreed(codes.settings, settings, double_quant=double_quant)
    if settings is not None:
        check(settings, dtype=held, device=where)
        replace_linears(model, settings, fast=numerics == "fast", codes=codes)
    place(model, reader, held, where, codes=codes)
    if stored is not None:
        load_adapter(model, stored)
    return model.eval()


def _identified(
    source: Source,
    config: Mapping[str, Any],
    reader: Reader,
    *,
    head: str,
    legacy: bool | None,
    new_head: NewHead | None,
    labels: int | Sequence[str] | None,
) -> Identity:
    """What the folder is with the requested head, which may be new."""

    def found(new: NewHead | None, read: Mapping[str, Any]) -> Identity:
        return identify(
            read,
            source.tensors,
            same=_same_in(reader),
            head=head,
            legacy=legacy,
            new_head=new,
            num_elements=sum(info.numel for info in source.tensors.values()),
            where=str(source.folder),
        )

    if labels is None:
        return found(new_head, config)
    if new_head is not None:
        raise ConfigError("Give `new_head` or the head's labels (`num_labels`, `id2label`), not both.")
    names = [f"LABEL_{index}" for index in range(labels)] if isinstance(labels, int) else list(labels)
    named = config if isinstance(labels, int) else with_labels(config, names)
    asked = {key: value for key, value in config.items() if key != "problem_type"}  # not for the old labels
    try:
        own = found(None, asked)
    except WeightsError:
        return found({"labels": names}, config)
    if own.head != own.file_head or own.config.head.num_labels != len(names):
        return found({"labels": names}, config)
    return own if named == asked else found(None, named)


def same_tensors(source: Source) -> Same:
    """Compares two tensors of a folder, as `identify` needs it."""
    return _same_in(Reader(source))


def _same_in(reader: Reader) -> Same:
    def same(one: str, other: str) -> bool:
        a, b = reader.tensor(one), reader.tensor(other)
        return a.dtype == b.dtype and a.shape == b.shape and tensor_bytes(a) == tensor_bytes(b)

    return same


def _report_passthrough(identity: Identity, *, filled: bool) -> None:
    plan = identity.plan
    if plan.unknown:
        listed = ", ".join(f"`{name}`" for name in plan.unknown[:8])
        more = f" and {len(plan.unknown) - 8} more" if len(plan.unknown) > 8 else ""
        notice(
            "unknown-tensors",
            f"Tensors that no head of `{identity.family.model_type}` uses are passed through, not computed: "
            f"{listed}{more}.",
        )
    if plan.initialized and not filled:
        listed = ", ".join(f"`{binding.memory}`" for binding in plan.initialized)
        notice("new-head", f"New, randomly initialised parameters: {listed}.")
