"""`Model`: a transformer that knows which checkpoint it came from, called with Hugging Face's names."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from biject.checkpoint.source import Source
from biject.config.heads import HeadConfig
from biject.config.layers import ExpertsConfig
from biject.config.loaded import LoadedConfig
from biject.config.quantization import Quantization
from biject.errors import InputError, WeightsError
from biject.families import Family
from biject.identify import Identity
from biject.nn.addresses import copied
from biject.nn.batch import Batch, HeadRequest
from biject.nn.experts import Experts
from biject.nn.output import ModelOutput
from biject.nn.patches import PatchEmbeddings
from biject.nn.quantised import QuantisedLinear
from biject.nn.transformer import Transformer
from biject.weights.plan import Plan
from biject.weights.provenance import Provenance


class Vocabulary(Protocol):
    """The side of a tokenizer that a model needs: `biject.tokenization.tokenizer.Tokenizer` has it."""

    @property
    def vocab(self) -> Mapping[str, int]:
        """Every token's id."""

    def changed_files(self) -> Mapping[str, bytes]:
        """Files that say something else since it was loaded."""

    def removed_files(self) -> frozenset[str]:
        """Files that are not to be copied any more."""


class Model(Transformer):
    """A model with its origin; `biject.pretrained` loads and saves it.

    Attributes:
        config: sizes and axes of variation (`ModelConfig`), and config.json's values under their own names.
        file_dtype: the dtype in which the file's tensors are loaded unless another was requested.
        family: the family's declarations.
        head_name: `base`, `seqcls`, `tokcls`, `qa`, `mlm`, `causal` or `rtd`.
        quantization: how its linears are held, or None.
        tokenizer: one with added tokens that belongs to this model, or None for the source's.
        adapters: the `AdapterSet` of `biject.adapters`, or None.
        provenance: names on disk, what is passed through, what was made new.
    """

    config: LoadedConfig

    def __init__(self, identity: Identity, source: Source, file_dtype: torch.dtype) -> None:
        plan = identity.plan
        head = _without_absent(identity.config.head, plan)
        config = replace(identity.config, tied_output=plan.tied_output, head=head)
        super().__init__(LoadedConfig.of(config, identity.hf_config, identity.values))
        self.family: Family = identity.family
        self.head_name = identity.head
        self.source = source
        self.quantization: Quantization | None = None
        self.tokenizer: Vocabulary | None = None
        self.adapters: Any = None
        self.file_dtype = file_dtype
        self._mapped = True
        self.provenance = Provenance(
            plan=plan,
            hf_config=source.config,
            head=identity.head,
            file_head=identity.file_head,
            architecture=identity.architecture,
            dtypes={name: info.dtype for name, info in source.tensors.items()},
            initialized=tuple(binding.memory for binding in plan.initialized),
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
        return_dict: bool | None = None,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        output_log_probs: bool = False,
        output_router_logits: bool | None = None,
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
            return_dict: False for a plain tuple of the values, as in transformers.
            pixel_values: (B, C, H, W) pictures, for models of pictures; their first argument, too.
            interpolate_pos_encoding: positions for pictures of another size than the model's.
            output_log_probs: of a causal language model, each label's log-probability in place of the loss,
                `log_probs` (B, L - 1); all logits are never held.
            output_router_logits: of a model with experts, also return what its routers gave; the loss of a
                language model then has its share of `aux_loss`. By default as config.json says.

        Raises:
            InputError: arguments contradict each other or the model's tables.
        """
        config = self.config
        batch = self.batch_of(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
            position_ids=position_ids,
            pixel_values=pixel_values,
            interpolate_pos_encoding=interpolate_pos_encoding,
        )
        request = HeadRequest(
            labels=labels,
            start_positions=start_positions,
            end_positions=end_positions,
            logits_at=logits_at,
            log_probs=output_log_probs,
            hidden_states=config.output_hidden_states
            if output_hidden_states is None
            else output_hidden_states,
            attentions=config.output_attentions if output_attentions is None else output_attentions,
            router_logits=self._reports_routers(output_router_logits),
        )
        output = super().forward(batch, request)
        return output if return_dict is not False else output.to_tuple()  # type: ignore[return-value]

    def _reports_routers(self, requested: bool | None) -> bool:
        """Whether a call gives the logits of routers: as config.json says, where nothing is requested.

        Raises:
            InputError: they are requested, and there are none.
        """
        config = self.config
        if requested and not any(isinstance(layer.mlp, ExpertsConfig) for layer in config.layers):
            raise InputError("`output_router_logits` is for models with experts, and this one has none.")
        wanted = config.output_router_logits if requested is None else requested
        return wanted and config.head.routers != "unseen"

    def batch_of(
        self,
        *,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        interpolate_pos_encoding: bool | Tensor | None = None,
        **others: Any,
    ) -> Batch:
        """The inputs of a call as the layers' planner takes them; pictures may come as the first argument.

        Raises:
            InputError: texts for a model of pictures, pictures for one of texts, or of another size.
        """
        if self.config.embedding.patches is not None and pixel_values is None:
            pixel_values, input_ids = input_ids, None
        batch = Batch(input_ids=input_ids, **others)
        return self.embed.with_pictures(batch, pixel_values, interpolate=bool(interpolate_pos_encoding))

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """A copy with parameters of its own; where it came from does not change, and is shared."""
        memo.update(
            {id(part): part for part in (self.family, self.source, self.provenance, self.resolved_config)}
        )
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
                    parameter.data = copied(parameter.data)
            for module in self.modules():
                if isinstance(module, Experts) and not hasattr(module.router.weight, "full_tensor"):
                    module.join()
        super().train(mode)
        return self

    @property
    def main_input_name(self) -> str:
        """What a call needs first."""
        return "input_ids" if self.config.embedding.patches is None else "pixel_values"

    @property
    def hf_config(self) -> Mapping[str, Any]:
        """config.json as read, with a new head's labels."""
        return self.config.hf

    @property
    def resolved_config(self) -> Mapping[str, Any]:
        """config.json's values by our field names, with what the tensors decided."""
        return self.config.resolved

    @property
    def id2label(self) -> dict[int, str]:
        """Names of the outputs, as HF names them where config.json does not."""
        return self.config.id2label

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """How many numbers the parameters hold; tied ones count once, codes as the values."""
        tables = {id(p) for p in self.embed.parameters()} if exclude_embeddings else set()
        sizes = {
            id(module.weight): module.in_features * module.out_features
            for module in self.modules()
            if isinstance(module, QuantisedLinear)
        }
        counted = (p for p in self.parameters() if id(p) not in tables)
        return sum(sizes.get(id(p), p.numel()) for p in counted if p.requires_grad or not only_trainable)

    def get_input_embeddings(self) -> nn.Module:
        """The token table; of a model of pictures, the linear over patches."""
        return self.embed.patches if isinstance(self.embed, PatchEmbeddings) else self.tokens

    def get_output_embeddings(self) -> nn.Module | None:
        """The linear over the vocabulary of a language model; None for other heads."""
        return self.head.output_matrix

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Any = None, every_n_layers: int = 1, offload: bool = False
    ) -> None:
        """Compute layers again in the backward pass instead of keeping what they made.

        Args:
            gradient_checkpointing_kwargs: of torch's function; ours are always without re-entering.
            every_n_layers: 1: every layer is computed again.
            offload: False: nothing goes to another device's memory.

        Raises:
            InputError: another choice of layers, or an offload.
        """
        del gradient_checkpointing_kwargs
        if every_n_layers != 1 or offload:
            raise InputError(
                "gradient checkpointing computes every layer again and keeps nothing elsewhere: expected "
                f"every_n_layers=1 and offload=False, found {every_n_layers} and {offload}."
            )
        self.gradient_checkpointing = True

    def gradient_checkpointing_disable(self) -> None:
        """Keep what layers made."""
        self.gradient_checkpointing = False

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Any = None, every_n_layers: int = 1, offload: bool = False
    ) -> None:
        """The same by the name that transformers 5 gives it."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    activation_checkpointing_disable = gradient_checkpointing_disable

    def declare_adapter(self, name: str, parameters: Iterable[str]) -> None:
        """Have parameters that a module of yours brought be saved, resumed and restored.

        `save_pretrained` and checkpoints refuse parameters that they do not know. Declared ones are written
        to `adapters/NAME/adapter_model.safetensors` beside the checkpoint's own tensors; `read_adapters` puts
        them back into a model that declares the same.

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


def _without_absent(head: HeadConfig, plan: Plan) -> HeadConfig:
    """The head without a pooler that the file does not have."""
    if not any(name.startswith("head.pooler.") for name in plan.absent):
        return head
    changes: dict[str, Any] = {"pooler": False}
    return replace(head, **changes)
