"""The receipt of a merge: what was merged into what, how far that is from the adapter, and a verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from biject._version import __version__
from biject.merging.measure import Measured

FILE = "merge_receipt.json"
GATE = 0.01
"""Of the adapter's effect, by which a merge computed in float32 may miss it. Merging rounds each matrix once:
tiny models of five families were 2e-7 to 1e-6 of the effect away; a scaling 1.1 times as large is found."""
FLOOR = 1e-5
"""Of the outputs' size: rounding of float32, for adapters that change next to nothing."""

ORIGINAL, DEQUANTISED = "original", "dequantised"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What `merge` found.

    Attributes:
        adapter: Its folder.
        base: The base's folder.
        out: The merged model's folder.
        model: Family, head, rank, alpha, how the base was held in training.
        target: `original`, or `dequantised`: which base the adapter was merged into.
        recommended: The one of both that is nearer to the adapter on the base that it was trained on.
        dtype: Of the merged file.
        sample: What was computed, in words.
        results: By target, as it would be written; computed in float32.
        exact: By target, merged in float32 without rounding to the file's dtype.
        problems: Why the verdict is FAIL; none where it is PASS.
        warnings: What a user should know all the same.
        not_checked: What nothing was found out about.
        files: sha256 of the merged folder's files.
    """

    adapter: str
    base: str
    out: str
    model: Mapping[str, Any]
    target: str
    recommended: str
    dtype: str
    sample: str
    results: Mapping[str, Measured]
    exact: Mapping[str, Measured]
    problems: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """The merged model is the adapter on its base, as far as was measured."""
        return not self.problems

    def lines(self) -> list[str]:
        """A line a target, then what is wrong, then the verdict."""
        lines = [f"SAMPLE {self.sample}"]
        for name, found in self.results.items():
            lines.append(f"{'MERGED' if name == self.target else 'OTHER'} {_words(name, self, found)}")
        if len(self.results) > 1:
            lines.append(f"RECOMMENDED {self.recommended}: {self._evidence()}")
        lines += [f"WARN {one}" for one in self.warnings]
        lines += [f"NOT CHECKED {one}" for one in self.not_checked]
        lines += [f"FAIL {one}" for one in self.problems]
        return [*lines, f"VERDICT {'PASS' if self.passed else 'FAIL'} {self.out}"]

    def _evidence(self) -> str:
        measure = "KL" if self.results[self.recommended].kl is not None else "rms"
        found = ", ".join(f"{name} {distance(one):.3g}" for name, one in self.results.items())
        return f"{measure} from the adapter on the base that it was trained on: {found}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        ratios = {name: found.ratio for name, found in self.results.items()}
        own = {"biject_version": __version__, **asdict(self)}
        return {**_plain(own), "ratio": _plain(ratios), "gate": GATE, "passed": self.passed}

    def to_bytes(self) -> bytes:
        """The file."""
        return (json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n").encode()


def distance(found: Measured) -> float:
    """By which one target is nearer than another: mean KL, or rms where outputs are no distributions."""
    value = found.rms if found.kl is None else found.kl
    return math.inf if math.isnan(value) else value


def misses(found: Measured) -> str | None:
    """Why a merge computed in float32 is not the adapter, or None.

    Its outputs have to be nearer to the adapter's than `GATE` of what the adapter changes.
    """
    if math.isnan(found.rms):
        return "outputs are not finite"
    allowed = GATE * found.effect + FLOOR * found.scale
    if found.rms <= allowed:
        return None
    share = f"{100 * found.ratio:.3g} % of what the adapter changes" if found.effect else "no effect to keep"
    return (
        f"merged outputs differ from the adapter's by {found.rms:.3g} (root mean square; {share}), more than "
        f"{allowed:.3g}: this is not the adapter on its base"
    )


def _words(name: str, receipt: Receipt, found: Measured) -> str:
    base = "the original base" if name == ORIGINAL else "the dequantised base"
    parts = [
        f"max abs diff {found.max_abs:.3g}",
        f"rms {found.rms:.3g} ({100 * found.ratio:.3g} % of the adapter's effect)",
    ]
    if found.kl is not None:
        parts.append(f"KL {found.kl:.3g}")
    if found.flips is not None:
        parts.append(f"argmax flips {found.flips} of {found.rows}")
    if found.perplexity is not None:
        parts.append("perplexity {:.4f} -> {:.4f}".format(*found.perplexity))
    if found.accuracy is not None:
        parts.append("accuracy {:.4f} -> {:.4f}".format(*found.accuracy))
    return f"into {base}, {receipt.dtype}: {', '.join(parts)}"


def _plain(value: Any) -> Any:
    """JSON has no infinities and no NaN: as words, they stay readable."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
