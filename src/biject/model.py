"""Build and load: where a family meets the modules.

`Model` is a `Transformer` that knows where it came from. Loading builds it on the meta device and
then places the file's tensors, mapped and not copied, checking each shape; nothing is ever
initialised that the file should hold.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, get_args

import torch
from torch import Tensor, nn

from biject.checkpoint.bytes import DTYPES, tensor_bytes
from biject.checkpoint.hub import resolve_folder
from biject.checkpoint.reader import Reader
from biject.checkpoint.source import Source, open_source
from biject.errors import ConfigError, WeightsError
from biject.events import notice
from biject.families import Family
from biject.identify import Identity, NewHead, identify
from biject.nn.batch import Batch, HeadRequest
from biject.nn.init import initialise
from biject.nn.kernels import Numerics
from biject.nn.output import ModelOutput
from biject.nn.planner import LayoutName
from biject.nn.transformer import Transformer
from biject.weights.plan import Same
from biject.weights.provenance import Provenance

if TYPE_CHECKING:
    from biject.generate.loop import Streamer
    from biject.generate.settings import Arguments
    from biject.generate.stopping import VocabularyLike
    from biject.resize import Vocabulary


class Model(Transformer):
    """A model with its origin: what `from_pretrained` returns.

    Attributes:
        config: sizes and axes of variation (`ModelConfig`).
        hf_config: config.json as read, with a new head's labels.
        settled: its values by our field names, with what the tensors decided.
        file_dtype: the dtype in which the file's tensors are held unless another was asked for.
        family: the family's declarations.
        head_name: `base`, `seqcls`, `tokcls`, `qa`, `mlm`, `causal` or `rtd`.
        tokenizer: one with added tokens that belongs to this model, or None for the source's.
        provenance: names on disk, what is carried, what was made new.
    """

    def __init__(self, identity: Identity, source: Source, file_dtype: torch.dtype) -> None:
        plan = identity.plan
        config = replace(identity.config, tied_output=plan.tied_output)
        if any(name.startswith("head.pooler.") for name in plan.absent):
            config = replace(config, head=replace(config.head, pooler=False))
        super().__init__(config)
        self.family: Family = identity.family
        self.head_name = identity.head
        self.hf_config: Mapping[str, Any] = identity.hf_config
        self.settled: Mapping[str, Any] = identity.values
        self.source = source
        self.tokenizer: Vocabulary | None = None
        self.file_dtype = file_dtype
        self._mapped = True
        self.provenance = Provenance(
            plan=plan,
            hf_config=source.config,
            head=identity.head,
            file_head=identity.file_head,
            architecture=identity.architecture,
            dtypes={name: info.dtype for name, info in source.tensors.items()},
            fresh=tuple(binding.memory for binding in plan.fresh),
        )

    def forward(  # type: ignore[override]  # Hugging Face's argument names
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        logits_at: Tensor | None = None,
    ) -> ModelOutput:
        """Compute every output of the head, and the loss where labels are given.

        In the packed layout padding is not computed: outputs have HF's shapes and zeros there. A masked-LM
        head given labels computes the labelled rows only, and gives the loss without logits.

        Args:
            input_ids: (B, L) token ids.
            attention_mask: (B, L), nonzero where a token is real; None means all are.
            token_type_ids: (B, L) segments; zeros where None; ignored by models without segments.
            position_ids: (B, L) or (1, L); by the family's rule where None.
            inputs_embeds: (B, L, D of the embedding), instead of `input_ids`.
            labels: (B,) or (B, N) for classification, (B, L) for tokens and language models, -100 ignored.
            start_positions: (B,) first token of each answer, for question answering.
            end_positions: (B,) last token of each answer.
            output_hidden_states: also return the first layer's input and every step's output; by
                default as config.json says.
            output_attentions: also return the attention weights, which are then computed written
                out, as HF's `eager` does, for the whole grid; by default as config.json says.
            logits_at: (B, L), True where a language model's logits are needed: they come as (K, V), in
                the order of the grid.

        Raises:
            InputError: arguments contradict each other or the model's tables.
        """
        config = self.config
        batch = Batch(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
        )
        request = HeadRequest(
            labels=labels,
            start_positions=start_positions,
            end_positions=end_positions,
            logits_at=logits_at,
            hidden_states=config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states,
            attentions=config.output_attentions if output_attentions is None else output_attentions,
        )
        return super().forward(batch, request)

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """A copy with parameters of its own; where it came from does not change, and is shared."""
        memo.update({id(part): part for part in (self.family, self.source, self.provenance, self.settled)})
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def train(self, mode: bool = True) -> Model:
        """Training or eval mode. Before training, parameters that will change move out of the mapped file.

        They would be copied page by page otherwise, and a file's tensors lie at any address: steps of
        BERT-base took 4 to 5 % longer than in memory of their own.
        """
        if mode and self._mapped:
            self._mapped = False
            for parameter in self.parameters():
                mapped = parameter.device.type == "cpu" and not hasattr(parameter, "full_tensor")
                if parameter.requires_grad and mapped:  # shards are copies, which FSDP2 keeps hold of
                    parameter.data = parameter.data.clone()
        super().train(mode)
        return self

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the outputs, as HF names them where config.json does not."""
        given = self.hf_config.get("id2label")
        if given:
            return {int(index): label for index, label in given.items()}
        return {index: f"LABEL_{index}" for index in range(self.config.head.num_labels)}

    def declare_adapter(self, name: str, parameters: Iterable[str]) -> None:
        """Have parameters that a module of yours brought be saved, resumed and restored.

        `save_pretrained` and checkpoints refuse parameters that they do not know. Declared ones are written to
        `adapters/NAME/adapter_model.safetensors` beside the checkpoint's own tensors; `read_adapters` puts them
        back into a model that declares the same.

        Args:
            name: of the adapter.
            parameters: their names among `named_parameters()`.

        Raises:
            WeightsError: there is no such parameter, or the checkpoint has it already.
        """
        names = tuple(parameters)
        own = {found for found, _ in self.named_parameters()}
        strange = [one for one in names if one not in own]
        if strange or not name.isidentifier():
            wrong = f"no parameter is called {', '.join(strange)}" if strange else "its name is no identifier"
            raise WeightsError(f"adapter {name!r}: {wrong}.")
        plan = self.provenance.plan.with_adapter(name, names)
        self.provenance = replace(self.provenance, plan=plan)

    def resize_token_embeddings(
        self, tokens: int | Vocabulary, *, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> None:
        """Make room for added tokens: `tokens` rows, or as many as a tokenizer needs (it never shrinks then).

        New rows start as HF's do: around the mean of the old ones, or with `mean_resizing=False` from
        `initializer_range`. Parameters are new objects: build optimizers afterwards. A tokenizer that is
        given here is what `save_pretrained` writes.

        Raises:
            InputError: too few rows for the padding token.
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
        **arguments: Unpack[Arguments],
    ) -> Tensor:
        """Continue prompts: (B, L) → (B, L + new), the prompts first, texts that ended early filled up.

        What is not given is as generation_config.json says, else as in Hugging Face: 20 tokens, the likeliest
        each. Greedy texts are HF's; sampled ones, too, on the CPU in float32 with the same seed.

        Args:
            input_ids: the prompts' ids, padded on the left where their lengths differ.
            attention_mask: (B, L), nonzero where a token is real; None where all are, or where padding shows
                by its id.
            tokenizer: the model's, for `stop_strings`.
            seed: what draws begin with, as `torch.manual_seed` says; the global generator where left out.
            generator: one to draw with, instead of `seed`.
            streamer: told of every token as it comes; HF's streamers will do.
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
        )

    def save_pretrained(
        self, folder: str | Path, *, tokenizer: Vocabulary | None = None, force: bool = False
    ) -> None:
        """Write a complete Hugging Face folder: weights, config, tokenizer and assets.

        The tokenizer is the source's, byte for byte, unless tokens were added to `tokenizer` (or to the one
        that `resize_token_embeddings` was given).

        Raises:
            CheckpointError: the folder exists (and not `force`), or cannot be written; nothing is
                left half-done.
        """
        from biject.save import save_model

        changed = tokenizer if tokenizer is not None else self.tokenizer
        files = {} if changed is None else changed.changed_files()
        save_model(self, Path(folder), force=force, extra=files)


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
    legacy: bool | None = None,
) -> Model:
    """Load a checkpoint from a folder or the Hub, in eval mode.

    Args:
        path: a folder, or a repository on the Hub.
        head: `auto` (the file's own), `base`, `seqcls`, `tokcls`, `qa`, `mlm`, `causal` or `rtd`.
        revision: branch, tag or commit of a repository.
        token: of the Hub; else `HF_TOKEN` or the one of `hf auth login`.
        dtype: `auto` keeps the file's; else a torch dtype or its name.
        device: where the parameters go; on the CPU they stay mapped until touched.
        layout: `packed` leaves padding out; `padded` computes exactly HF's rows, pads too, so that training
            with dropout draws HF's random numbers.
        numerics: `exact` leaves out only what keeps HF's bits; `fast` also what changes rounding. Exact on
            the CPU and fast elsewhere where left out.
        new_head: build the head new and random instead of reading it: ``dict(labels=["no", "yes"])``.
        legacy: which of DeBERTa's two masked-LM heads, where the file and its config disagree.

    Raises:
        CheckpointError, ConfigError, WeightsError: what is wrong, where, and what to do.
    """
    if layout not in get_args(LayoutName):
        raise ConfigError(f"layout: expected 'packed' or 'padded', found {layout!r}.")
    if numerics is not None and numerics not in get_args(Numerics):
        raise ConfigError(f"numerics: expected 'exact' or 'fast', found {numerics!r}.")
    source = open_source(resolve_folder(path, revision=revision, token=token))
    reader = Reader(source)
    identity = identify(
        source.config,
        source.tensors,
        same=_same_in(reader),
        head=head,
        legacy=legacy,
        new_head=new_head,
        num_elements=sum(info.numel for info in source.tensors.values()),
        where=str(source.folder),
    )
    identity.family.config.warn_unknown(source.config)
    _tell_carried(identity)
    model = Model(identity, source, _file_dtype(identity, source))
    model.planner.layout, model.planner.numerics = layout, numerics
    _place(model, reader, _asked_dtype(dtype) or model.file_dtype, torch.device(device))
    return model.eval()


def _place(model: Model, reader: Reader, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter its tensor.

    Raises:
        WeightsError: tensors whose shape or kind the config contradicts; all of them in one message.
    """
    faults, plan = [], model.provenance.plan
    for binding in plan.bindings:
        tensor, meta = reader.tensor(binding.disk[0]), model.get_parameter(binding.memory)
        if tensor.shape != meta.shape or not tensor.is_floating_point():
            faults.append(
                f"`{binding.disk[0]}` should be floating of shape {tuple(meta.shape)} by config.json, found "
                f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            )
        else:
            set_parameter(model, binding.memory, tensor.to(device=device, dtype=dtype))
    if faults:
        more = f"; and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise WeightsError(f"{model.source.folder}: " + "; ".join(faults[:8]) + more + ".")
    for binding in plan.fresh:
        made = torch.empty_like(model.get_parameter(binding.memory), dtype=torch.float32, device="cpu")
        initialise(binding.memory, made, std=model.config.initializer_range)
        set_parameter(model, binding.memory, made.to(device=device, dtype=dtype))
    model.tie_weights()
    left = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    assert not left, f"no tensor for {left}"


def set_parameter(model: nn.Module, name: str, value: Tensor) -> None:
    """Give the module that holds the parameter `name` a new one."""
    module, _, leaf = name.rpartition(".")
    model.get_submodule(module)._parameters[leaf] = nn.Parameter(value)


def _asked_dtype(asked: str | torch.dtype) -> torch.dtype | None:
    """The dtype that the caller wants, or None for the file's."""
    if isinstance(asked, torch.dtype):
        return asked
    if asked == "auto":
        return None
    found = getattr(torch, asked, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype: expected 'auto' or a floating torch dtype, found {asked!r}.")
    return found


def _file_dtype(identity: Identity, source: Source) -> torch.dtype:
    """The dtype of the tensors that the head uses; a file of several is held in the widest, with a
    notice.
    """
    used = {DTYPES[source.tensors[binding.disk[0]].dtype] for binding in identity.plan.bindings}
    floating = sorted((dtype for dtype in used if dtype.is_floating_point), key=str)
    if not floating:
        return torch.float32
    widest = floating[0]
    for other in floating[1:]:
        widest = torch.promote_types(widest, other)
    if len(floating) > 1:
        notice(
            "mixed-dtypes",
            f"The file mixes {', '.join(map(str, floating))}; parameters are held as {widest}.",
        )
    return widest


def same_tensors(source: Source) -> Same:
    """Compares two tensors of a folder, as `identify` asks."""
    return _same_in(Reader(source))


def _same_in(reader: Reader) -> Same:
    def same(one: str, other: str) -> bool:
        a, b = reader.tensor(one), reader.tensor(other)
        return a.dtype == b.dtype and a.shape == b.shape and tensor_bytes(a) == tensor_bytes(b)

    return same


def _tell_carried(identity: Identity) -> None:
    plan = identity.plan
    if plan.unknown:
        listed = ", ".join(f"`{name}`" for name in plan.unknown[:8])
        more = f" and {len(plan.unknown) - 8} more" if len(plan.unknown) > 8 else ""
        notice(
            "unknown-tensors",
            f"Tensors that no head of `{identity.family.model_type}` uses are carried, not computed: "
            f"{listed}{more}.",
        )
    if plan.fresh:
        listed = ", ".join(f"`{binding.memory}`" for binding in plan.fresh)
        notice("new-head", f"New, randomly initialised parameters: {listed}.")
