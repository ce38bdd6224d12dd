"""Named cases: headers, indexes, pickles and things that are no files. Each spoils a good folder."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import socket
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from .folders import entry, good, tensors, write_header, write_index

Case = Callable[[Path], object]
INDEX = "model.safetensors.index.json"
BIG = 2**62


def headers() -> dict[str, Case]:
    """Safetensors headers that lie."""
    two = {"a": entry(), "b": entry(offsets=(4, 8))}
    bodies: dict[str, tuple[object, bytes]] = {
        "overlapping offsets": ({"a": entry(), "b": entry(offsets=(2, 6))}, bytes(6)),
        "the same bytes twice": ({"a": entry(), "b": entry()}, bytes(4)),
        "a hole": ({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
        "huge offsets": ({"a": entry("U8", (BIG,), (0, BIG))}, bytes(4)),
        "offsets beyond int64": ({"a": entry("U8", (2**70,), (0, 2**70))}, bytes(4)),
        "negative offsets": ({"a": entry(offsets=(-4, 0))}, bytes(4)),
        "offsets backwards": ({"a": entry(offsets=(4, 0))}, bytes(4)),
        "a shape whose product wraps round": ({"a": entry("U8", (2**32, 2**32), (0, 0))}, b""),
        "zero times everything": ({"a": entry("U8", (0, BIG, BIG), (0, 0))}, b""),
        "a negative shape": ({"a": entry(shape=(-1, -1))}, bytes(4)),
        "a shape of booleans": ({"a": entry(shape=(True,))}, bytes(4)),
        "offsets of booleans": ({"a": entry("U8", (1,), (False, True))}, bytes(1)),
        "a shape of floats": ({"a": entry(shape=(1.0,))}, bytes(4)),
        "a shape of thousands of dimensions": ({"a": entry(shape=(1,) * 100_000)}, bytes(4)),
        "a shape of 1000 dimensions": ({"a": entry(shape=(1,) * 1000)}, bytes(4)),
        "an unknown dtype": ({"a": entry("F128")}, bytes(4)),
        "a dtype of another kind": ({"a": entry(["F32"])}, bytes(4)),
        "a dtype of another width": ({"a": entry("F64")}, bytes(4)),
        "metadata that is a list": ({"__metadata__": [], **two}, bytes(8)),
        "metadata of numbers": ({"__metadata__": {"a": 1}, **two}, bytes(8)),
        "an entry that is null": ({"a": None}, b""),
        "a name of a megabyte": ({"a" * 1_000_000: entry()}, bytes(4)),
        "an empty name": ({"": entry()}, bytes(4)),
        "a name with control characters": ({"\x00\x1b[2J\n": entry()}, bytes(4)),
        "no tensors": ({}, b""),
        "a list": ([], b""),
        "duplicate names": ('{"a":' + json.dumps(entry()) + ',"a":' + json.dumps(entry()) + "}", bytes(4)),
        "NaN as an offset": ('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,NaN]}}', bytes(4)),
        "Infinity as a size": ('{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}', bytes(4)),
        "deep nesting": ("[" * 100_000, b""),
        "deep nesting in an entry": ('{"a":' * 50_000 + "1" + "}" * 50_000, b""),
        "brackets only": ('{"a":[' + "[]," * 1_000_000 + "0]}", b""),
        "not UTF-8": (b'{"\xff\xfe": 1}', b""),
        "a lone surrogate": ('{"\\ud800": ' + json.dumps(entry()) + "}", bytes(4)),
        "a byte order mark": ("\ufeff" + json.dumps(two), bytes(8)),
        "UTF-16": (json.dumps(two).encode("utf-16"), bytes(8)),
        "an integer of 5000 digits": ('{"a":' + "9" * 5000 + "}", b""),
        "data longer than said": (two, bytes(100)),
        "data cut short": (two, bytes(3)),
        "30,000 tensors": ({str(i): entry("U8", (1,), (i, i + 1)) for i in range(30_000)}, bytes(30_000)),
        "20 MB of text": ({"__metadata__": {"a": "x" * 20_000_000}, **two}, bytes(8)),
    }
    found: dict[str, Case] = {
        f"header: {name}": lambda folder, header=header, data=data: write_header(folder, header, data=data)
        for name, (header, data) in bodies.items()
    }
    for name, length in (("beyond the file", 1000), ("of exabytes", 2**63), ("of all ones", 2**64 - 1)):
        found[f"header: a length {name}"] = lambda folder, n=length: write_header(folder, {}, length=n)
    for count in (0, 1, 7, 8):
        found[f"header: a file of {count} bytes"] = lambda folder, n=count: _weights(folder, bytes(n))
    found["header: an HTML page"] = lambda folder: _weights(folder, b"<!DOCTYPE html><title>404</title>" * 40)
    found["header: a Git LFS pointer"] = lambda folder: _weights(
        folder, b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 437955512\n"
    )
    found["header: 400 GB that are not there"] = _sparse
    return found


def _weights(folder: Path, data: bytes) -> None:
    (folder / "model.safetensors").write_bytes(data)


def _sparse(folder: Path) -> None:
    """A file with a hole: it has the length that the header says, but no blocks on disk."""
    write_header(folder, {"a": entry("U8", (400 * 10**9,), (0, 400 * 10**9))})
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(file.seek(0, 2) + 400 * 10**9)


def indexes() -> dict[str, Case]:
    """Indexes that lead astray; the folder has two good shards."""
    shard = "model-00001-of-00002.safetensors"
    targets = {
        "path traversal": "../secret.safetensors",
        "deep path traversal": "a/../../../../../../etc/passwd",
        "an absolute path": "/etc/passwd",
        "a Windows path": "..\\secret.safetensors",
        "a drive": "C:secret.safetensors",
        "the folder itself": ".",
        "its parent": "..",
        "an empty name": "",
        "a NUL byte": "a\0b.safetensors",
        "a line break": "a\nb.safetensors",
        "a name of 300 letters": "x" * 300,
        "a lone surrogate": "\ud800.safetensors",
        "itself": INDEX,
        "config.json": "config.json",
        "a shard that is missing": "model-00003-of-00002.safetensors",
        "a number": 3,
        "a list": [shard],
        "null": None,
    }
    found: dict[str, Case] = {
        f"index: {name}": lambda folder, target=target: _remap(folder, target)
        for name, target in targets.items()
    }
    maps: dict[str, object] = {
        "an empty map": {},
        "a list": [],
        "null": None,
        "a ghost entry": {**dict.fromkeys(tensors(), shard), "ghost": shard},
        "one tensor of many": {next(iter(tensors())): shard},
        "100,000 entries": {f"ghost.{i}": f"{i}.safetensors" for i in range(100_000)},
        "names of a megabyte": {"a" * 1_000_000: shard, "b" * 1_000_000: shard},
    }
    for name, value in maps.items():
        found[f"index: {name}"] = lambda folder, value=value: write_index(folder, value)
    texts = {
        "no map": "{}",
        "an empty file": "",
        "duplicate keys": '{"weight_map": {}, "weight_map": {}}',
        "duplicate names": f'{{"weight_map": {{"a": "{shard}", "a": "{shard}"}}}}',
        "NaN": '{"metadata": {"total_size": NaN}, "weight_map": {}}',
        "deep nesting": '{"weight_map": ' + "[" * 100_000,
    }
    for name, text in texts.items():
        found[f"index: {name} in the text"] = lambda folder, text=text: (folder / INDEX).write_text(text)
    return found


def _remap(folder: Path, target: object) -> None:
    value = json.loads((folder / INDEX).read_text())["weight_map"]
    value[next(iter(value))] = target
    write_index(folder, value)


class Canary:
    """Unpickled, it would make a folder."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def pickles() -> dict[str, Case]:
    """`.bin` files in place of the safetensors; whatever runs code would leave `canary` in the folder."""
    return {
        "pickle: code in a zip archive": lambda folder: _archive(folder, _evil(folder)),
        "pickle: code in a plain pickle": lambda folder: _bin(folder, pickle.dumps(_evil(folder))),
        "pickle: code in an old torch file": _old_torch,
        "pickle: eval": lambda folder: _archive(
            folder, {"a": Canary(eval, "__import__('os').mkdir('canary')")}
        ),
        "pickle: import by name": lambda folder: _archive(folder, b"cos\nmkdir\n(X\x06\x00\x00\x00canarytR."),
        "pickle: a gigabyte from one opcode": lambda folder: _archive(folder, b"\x80\x04\x8e" + b"\xff" * 8),
        "pickle: a class's name of a megabyte": lambda folder: _archive(
            folder, b"c" + b"a" * 1_000_000 + b"\nb\n."
        ),
        "pickle: the same in an old file": lambda folder: _bin(folder, b"c" + b"a" * 1_000_000 + b"\nb\n."),
        "pickle: a call of a text of a megabyte": lambda folder: _archive(
            folder, b"\x80\x02X" + (10**6).to_bytes(4, "little") + b"a" * 10**6 + b")R."
        ),
        "pickle: nested lists": lambda folder: _archive(
            folder, b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."
        ),
        "pickle: a huge memo": lambda folder: _archive(folder, b"\x80\x02}r\xff\xff\xff\x7f."),
        "pickle: not a dictionary": lambda folder: _archive(folder, pickle.dumps([1, 2], protocol=2)),
        "pickle: keys that are numbers": lambda folder: _archive(folder, pickle.dumps({1: 2}, protocol=2)),
        "pickle: a zip bomb": _bomb,
        "pickle: a zip bomb named as a pickle": lambda folder: _bomb(folder, name="archive/data.pkl"),
        "pickle: 50,000 empty records": _many_records,
        "pickle: a zip with paths that leave": _escaping_zip,
        "pickle: an empty zip": lambda folder: _bin(folder, b"PK\x05\x06" + bytes(18)),
        "pickle: a zip cut short": lambda folder: _bin(folder, b"PK\x03\x04" + bytes(100)),
        "pickle: a tar": _tar,
        "pickle: gzip": lambda folder: _bin(folder, b"\x1f\x8b\x08" + bytes(100)),
        "pickle: empty": lambda folder: _bin(folder, b""),
        "pickle: storage of a terabyte": lambda folder: _claim(folder, numel=2**38),
        "pickle: a tensor larger than its storage": lambda folder: _claim(folder, numel=4, size=(2**40,)),
        "pickle: a tensor of zero strides": lambda folder: _claim(
            folder, numel=4, size=(2**40,), stride=(0,)
        ),
        "pickle: negative sizes": lambda folder: _claim(folder, numel=4, size=(-1,), stride=(1,)),
        "pickle: a storage offset beyond": lambda folder: _claim(folder, numel=4, offset=2**40),
    }


def _evil(folder: Path) -> dict[str, Canary]:
    return {"a": Canary(os.mkdir, str(folder / "canary"))}


def _bin(folder: Path, data: bytes) -> Path:
    (folder / "model.safetensors").unlink(missing_ok=True)
    path = folder / "pytorch_model.bin"
    path.write_bytes(data)
    return path


def _archive(folder: Path, content: object, *, storage: bytes = bytes(16)) -> None:
    """As `torch.save` lays it out."""
    data = content if isinstance(content, bytes) else pickle.dumps(content, protocol=2)
    with zipfile.ZipFile(_bin(folder, b""), "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", storage)
        archive.writestr("archive/version", "3\n")


def _claim(
    folder: Path, *, numel: int, size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), offset: int = 0
) -> None:
    """One tensor on one storage, by torch's own words, with numbers that need not be true."""
    long = pickle.dumps

    def number(value: int) -> bytes:
        return long(value, protocol=2)[2:-1]

    shape = b"(" + b"".join(map(number, size)) + b"t"
    strides = b"(" + b"".join(map(number, stride)) + b"t"
    pid = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"
        + number(numel)
        + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + number(offset) + shape + strides
    tensor += b"\x89ccollections\nOrderedDict\n)RtR"
    _archive(folder, b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s.")


def _old_torch(folder: Path) -> None:
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    parts = (1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}, _evil(folder), [])
    _bin(folder, magic + b"".join(pickle.dumps(part, protocol=2) for part in parts))


def _bomb(folder: Path, *, name: str = "archive/data/0") -> None:
    with zipfile.ZipFile(_bin(folder, b""), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/byteorder", "little")
        with archive.open(name if name != "archive/data.pkl" else "archive/x", "w") as record:
            for _ in range(300):
                record.write(bytes(1_000_000))


def _many_records(folder: Path) -> None:
    with zipfile.ZipFile(_bin(folder, b""), "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        for i in range(50_000):
            archive.writestr(f"archive/data/{i}", b"")


def _escaping_zip(folder: Path) -> None:
    with zipfile.ZipFile(_bin(folder, b""), "w") as archive:
        archive.writestr("../../escaped", b"gotcha")
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))


def _tar(folder: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(_evil(folder), protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    _bin(folder, stream.getvalue())


def odd_files() -> dict[str, Case]:
    """Links, pipes, devices and names."""
    found: dict[str, Case] = {}
    for file in ("config.json", "model.safetensors", "vocab.txt"):
        for name, make in _odd_makers().items():
            found[f"{file} is {name}"] = lambda folder, file=file, make=make: _replace(folder / file, make)
    return found | {
        "a folder that links to itself": lambda folder: (folder / "loop").symlink_to("."),
        "folders that link to each other": _two_links,
        "a link out of the folder": lambda folder: (folder / "notes.txt").symlink_to("/etc/hostname"),
        "a pipe among the assets": lambda folder: os.mkfifo(folder / "README.md"),
        "a name that is not UTF-8": lambda folder: Path(
            os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.txt")
        ).touch(),
        "a name with a line break": lambda folder: (folder / "a\nb\x1b[2J.txt").touch(),
        "a very deep folder": _deep,
        "5,000 assets": lambda folder: [(folder / f"{i}.txt").touch() for i in range(5000)],
        "an empty folder": lambda folder: [path.unlink() for path in folder.iterdir()],
        "no folder": shutil.rmtree,
    }


def _odd_makers() -> dict[str, Callable[[Path], object]]:
    return {
        "missing": lambda path: None,
        "empty": lambda path: path.touch(),
        "a folder": lambda path: path.mkdir(),
        "a pipe": os.mkfifo,
        "a link to itself": lambda path: path.symlink_to(path.name),
        "a link to nothing": lambda path: path.symlink_to("nowhere"),
        "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
        "a link to a process's memory": lambda path: path.symlink_to("/proc/self/mem"),
        "a link to a file out of the folder": lambda path: path.symlink_to("/etc/hostname"),
        "a socket": _socket,
    }


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


def _two_links(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / "a" / "b").symlink_to("../b")
    (folder / "b" / "a").symlink_to("../a")


def _deep(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(60):
            Path("x" * 100).mkdir()
            os.chdir("x" * 100)
    finally:
        os.chdir(here)


def sharded(folder: Path) -> Path:
    """The good folder that `indexes` spoil."""
    return good(folder, shards=2)
