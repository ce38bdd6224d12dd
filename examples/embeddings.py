"""Names of Python's functions find what they do: python examples/embeddings.py CHECKPOINT OUT [SEED]"""

from __future__ import annotations

import ast
import json
import random
import sys
import sysconfig
from pathlib import Path

import biject
from biject.tasks.evaluators import InformationRetrievalEvaluator

checkpoint, out, seed = (*sys.argv[1:], "0")[:3] if len(sys.argv) > 2 else sys.exit(__doc__)
found: dict[str, str] = {}
for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*/*.py")):
    skipped = path.parent.name in ("test", "idlelib", "lib2to3", "site-packages")
    for node in () if skipped else ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            arguments = ", ".join(one.arg for one in node.args.args if one.arg != "self")
            if len(first.split()) > 3:
                found.setdefault(first, f"{node.name.replace('_', ' ')} ({arguments})")
pairs = [(name, first) for first, name in found.items()]
random.Random(int(seed)).shuffle(pairs)

held, rest = pairs[:300], pairs[300:]  # the held-out ones are looked for among themselves, before and after
names, texts = ({str(i): pair[side] for i, pair in enumerate(held)} for side in (0, 1))
evaluate = InformationRetrievalEvaluator(names, texts, {name: {name} for name in names})
data = Path(out).with_suffix(".jsonl")
data.write_text("".join(json.dumps({"query": a, "document": b}) + "\n" for a, b in rest))
before = evaluate(biject.EmbeddingModel.from_pretrained(checkpoint))
train = biject.TrainConfig(epochs=1, batch_size=64, lr=5e-5, warmup=0.1, seed=int(seed))
recipe = biject.FinetuneRecipe(model=checkpoint, data=str(data), task="embed", validation=0, train=train)
biject.finetune(recipe, out=out)
after = evaluate(biject.EmbeddingModel.from_pretrained(Path(out) / "model"))
for metric in ("cosine_recall@1", "cosine_recall@10", "cosine_mrr@10"):
    print(f"{len(rest)} pairs, seed {seed}: {metric} {before[metric]:.3f} -> {after[metric]:.3f}")
