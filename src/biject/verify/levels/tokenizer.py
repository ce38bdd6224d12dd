"""Level `tokenizer`: Biject and HF turn the same texts into the same ids, and those have embeddings."""

from __future__ import annotations

from dataclasses import asdict

from biject.errors import BijectError
from biject.tokenization.files import ADDED, SETTINGS, SPECIAL_MAP, MissingTokenizerError, read_files
from biject.tokenization.fit import check_fits
from biject.tokenization.tokenizer import load_tokenizer
from biject.verify.hf import quiet
from biject.verify.limited import limited
from biject.verify.report import Check, NotApplicable, NothingToCompare
from biject.verify.subject import Subject
from biject.verify.tokenizers import compare_tokenizers

_SETTINGS = (SETTINGS, SPECIAL_MAP, ADDED)


def tokenizer(subject: Subject) -> list[Check]:
    """The fixed corpus through both tokenizers of the export, in a process of its own.

    Raises:
        NotApplicable: The model reads pictures.
        NothingToCompare: The folder has no tokenizer, or only one that HF does not read either.
        BijectError: It has one that is damaged or not whole, or that takes too much time or memory.
    """
    if subject.family.reads_pictures:
        raise NotApplicable("the model reads pictures, no texts")
    _import_before_forking()
    checks = limited(
        lambda: [asdict(check) for check in _compare(subject)],
        what=f"the tokenizer or chat template of {subject.folder}",
    )
    return [Check(**check) for check in checks]


def _import_before_forking() -> None:
    with quiet():
        from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401


def _compare(subject: Subject) -> list[Check]:
    try:
        ours = load_tokenizer(subject.folder, subject.config)
    except MissingTokenizerError as error:
        files = read_files(subject.folder)
        if files.vocabularies:
            raise NothingToCompare(
                f"transformers reads none of the vocabularies that are there: {error}"
            ) from error
        if not any(files.has(name) for name in _SETTINGS):
            raise NothingToCompare("the folder has no tokenizer") from error
        raise
    with quiet():
        from transformers import AutoTokenizer

        try:
            theirs = AutoTokenizer.from_pretrained(
                subject.folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers raises what its many tokenizers raise
            detail = f"transformers cannot read the tokenizer: {type(error).__name__}: {error}"
            return [Check(name="reload", passed=False, detail=detail)]
        checks = compare_tokenizers(ours, theirs)
    try:
        check_fits(ours, subject.config)
    except BijectError as error:
        return [*checks, Check(name="ids", passed=False, detail=str(error))]
    return [*checks, Check(name="ids", passed=True, detail="every token has an embedding")]
