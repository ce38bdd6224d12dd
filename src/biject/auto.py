"""`AutoModel` and its kin: `from_pretrained` with the head in the class's name, as in transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import torch

from biject.checkpoint.hub import resolve_folder
from biject.config.heads import ProblemType
from biject.config.recipe import Backend
from biject.errors import ConfigError
from biject.fallback.loading import load_fallback
from biject.fallback.model import FallbackModel
from biject.identify import NewHead
from biject.nn.kernels import Numerics
from biject.nn.planner import LayoutName
from biject.pretrained import PretrainedModel, load

if TYPE_CHECKING:
    from biject.pictures.processor import ImageProcessor
    from biject.tokenization.tokenizer import Tokenizer


class _Auto:
    """Loaders are not instantiated."""

    def __new__(cls) -> Self:
        raise TypeError(f"{cls.__name__} is not instantiated; call {cls.__name__}.from_pretrained(path).")


class AutoModel(_Auto):
    """Loads a checkpoint without a head: `AutoModel.from_pretrained(path, …)`."""

    head: ClassVar[str] = "base"

    @overload
    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        dtype: str | torch.dtype = "auto",
        torch_dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        layout: LayoutName = "packed",
        numerics: Numerics | None = None,
        new_head: NewHead | None = None,
        num_labels: int | None = None,
        id2label: Mapping[int, str] | None = None,
        label2id: Mapping[str, int] | None = None,
        problem_type: ProblemType | None = None,
        legacy: bool | None = None,
        family: str | None = None,
        quantization: str | None = None,
        double_quant: bool | None = None,
        compute_dtype: str | torch.dtype | None = None,
        skip_modules: Sequence[str] | None = None,
        adapter: str | Path | None = None,
        backend: Literal["biject"] = "biject",
    ) -> PretrainedModel: ...
    @overload
    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, backend: Literal["hf"], **options: Any
    ) -> FallbackModel: ...
    @classmethod  # type: ignore[misc]  # the second's options are those of the first that are not ours alone
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        dtype: str | torch.dtype = "auto",
        torch_dtype: str | torch.dtype | None = None,
        device: str | torch.device = "cpu",
        layout: LayoutName = "packed",
        numerics: Numerics | None = None,
        new_head: NewHead | None = None,
        num_labels: int | None = None,
        id2label: Mapping[int, str] | None = None,
        label2id: Mapping[str, int] | None = None,
        problem_type: ProblemType | None = None,
        legacy: bool | None = None,
        family: str | None = None,
        quantization: str | None = None,
        double_quant: bool | None = None,
        compute_dtype: str | torch.dtype | None = None,
        skip_modules: Sequence[str] | None = None,
        adapter: str | Path | None = None,
        backend: Backend = "biject",
    ) -> PretrainedModel | FallbackModel:
        """Load `path` with this class's head, in eval mode.

        Args:
            path: a folder, or a repository on the Hub.
            revision: branch, tag or commit of a repository.
            token: of the Hub; else `HF_TOKEN` or the one of `hf auth login`.
            dtype: `auto` keeps the file's; else a torch dtype or its name.
            torch_dtype: another name of `dtype`.
            device: where the parameters go.
            layout: `packed` leaves padding out; `padded` computes exactly HF's rows, pads too.
            numerics: `exact` leaves out only what keeps HF's bits; `fast` also what changes rounding.
            new_head: build the head new and random: ``dict(labels=["no", "yes"])``.
            num_labels: outputs of the head: the file's own head where it has as many, else a new one, which a
                notice names.
            id2label: the same with names.
            label2id: the same the other way round; beside `id2label` it has to agree.
            problem_type: of a sequence classifier, as in config.json, which gets it.
            legacy: which of DeBERTa's two masked-LM heads, where the file and its config disagree.
            family: the `model_type` of a folder whose config.json names none; what is saved names it.
            quantization: `nf4`, `fp4` or `int8`: hold the linears so, frozen, for an adapter to train on.
            double_quant: of nf4 and fp4: quantise the blocks' scales as well; True where left out.
            compute_dtype: of nf4 and fp4: what products are computed in; float32 where left out.
            skip_modules: linears that stay as they are, by Hugging Face's names or ours; what `transformers`
                leaves out where left out.
            adapter: a folder or repository with an adapter for `path`; `path` itself may be one.
            backend: `hf` is transformers' own class, for any of its architectures: a `FallbackModel`, trained
                and exported as ours are, without some of our gains (`model.gains()`).

        Raises:
            CheckpointError, ConfigError, WeightsError: what is wrong, where, and what to do.
        """
        if backend != "biject":
            return _by_transformers(
                cls.head,
                path,
                backend,
                own={
                    "layout": layout != "packed", "numerics": numerics, "legacy": legacy, "family": family,
                    "quantization": quantization, "double_quant": double_quant,
                    "compute_dtype": compute_dtype, "skip_modules": skip_modules,
                },
                revision=revision, token=token, dtype=dtype if torch_dtype is None else torch_dtype,
                device=device, new_head=new_head, labels=_labels(num_labels, id2label, label2id),
                problem_type=problem_type, adapter=adapter,
            )  # fmt: skip
        return load(
            path,
            head=cls.head,
            revision=revision,
            token=token,
            dtype=dtype if torch_dtype is None else torch_dtype,
            device=device,
            layout=layout,
            numerics=numerics,
            new_head=new_head,
            labels=_labels(num_labels, id2label, label2id),
            problem_type=problem_type,
            legacy=legacy,
            family=family,
            quantization=quantization,
            double_quant=double_quant,
            compute_dtype=compute_dtype,
            skip_modules=skip_modules,
            adapter=adapter,
        )


def _by_transformers(
    head: str, path: str | Path, backend: str, *, own: Mapping[str, object], **options: Any
) -> FallbackModel:
    """Transformers' own class; arguments that only ours has are refused.

    Raises:
        ConfigError: there is no such back end, or an argument would have no effect.
    """
    if backend != "hf":
        raise ConfigError(f"backend: expected 'biject' or 'hf', found {backend!r}.")
    strange = [name for name, value in own.items() if value not in (None, False)]
    if strange:
        raise ConfigError(
            f"`{strange[0]}` is for Biject's own classes and has no effect with backend='hf': leave it out."
        )
    return load_fallback(path, head=head, **options)


def _labels(
    count: int | None, id2label: Mapping[int, str] | None, label2id: Mapping[str, int] | None
) -> int | list[str] | None:
    """One of three ways to name the outputs.

    Raises:
        ConfigError: they contradict each other, or ids are not 0, 1, 2, …
    """
    by_id = None if id2label is None else {int(index): name for index, name in id2label.items()}
    if label2id is not None:
        turned = {int(index): name for name, index in label2id.items()}
        if by_id is not None and by_id != turned:
            raise ConfigError("`id2label` and `label2id` contradict each other; give one of them.")
        by_id = turned
    if by_id is None:
        return count
    if sorted(by_id) != list(range(len(by_id))) or count not in (None, len(by_id)):
        raise ConfigError(
            f"`id2label` should name the outputs 0 to {(count or len(by_id)) - 1}, found ids "
            f"{sorted(by_id)[:10]}."
        )
    return [by_id[index] for index in range(len(by_id))]


class AutoModelForSequenceClassification(AutoModel):
    """Loads a sequence classifier."""

    head = "seqcls"


class AutoModelForTokenClassification(AutoModel):
    """Loads a token classifier."""

    head = "tokcls"


class AutoModelForQuestionAnswering(AutoModel):
    """Loads an extractive question answerer."""

    head = "qa"


class AutoModelForCausalLM(AutoModel):
    """Loads a causal language model."""

    head = "causal"


class AutoModelForMaskedLM(AutoModel):
    """Loads a masked language model."""

    head = "mlm"


class AutoModelForImageClassification(AutoModel):
    """Loads a classifier of pictures."""

    head = "imgcls"


class AutoImageProcessor(_Auto):
    """Loads what turns pictures into a checkpoint's `pixel_values`, without transformers."""

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> ImageProcessor:
        """By the preprocessor_config.json of a folder, or of a repository on the Hub.

        Raises:
            ConfigError: there is none, or it says something that is not computed.
            MissingExtraError: Pillow is not installed.
        """
        from biject.checkpoint.source import open_source
        from biject.pictures.files import pillow
        from biject.pictures.processor import ImageProcessor
        from biject.pictures.settings import read_preprocessing

        pillow()
        folder = resolve_folder(path, revision=revision, token=token)
        return ImageProcessor(read_preprocessing(folder, open_source(folder).config.get("model_type")))


class AutoTokenizer(_Auto):
    """Loads a checkpoint's tokenizer, without transformers."""

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> Tokenizer:
        """The tokenizer of a folder, or of a repository on the Hub; see `Tokenizer` for its calls.

        An adapter's is its own where it has one, else its base's.
        """
        from biject.tokenization.tokenizer import load_tokenizer

        return load_tokenizer(resolve_folder(path, revision=revision, token=token))
