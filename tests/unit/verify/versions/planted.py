"""A release of transformers with planted faults: the installed one, patched when it is imported.

`make_planted(folder)` gives an environment whose Python finds this environment's packages and a `.pth` file
that installs the import hook below. Its `BertPooler` is off by a bit; its `BertForTokenClassification` is
saved under another name.
"""

from __future__ import annotations

import sysconfig
import venv
from pathlib import Path

from biject.verify.versions.environments import Environment

HOOK = """
import importlib.abc, importlib.machinery, sys

class Loader(importlib.abc.Loader):
    def __init__(self, real):
        self.real = real

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        self.real.exec_module(module)
        pooled = module.BertPooler.forward
        module.BertPooler.forward = lambda self, x: pooled(self, x) * (1 + 2**-23)
        tagger = module.BertForTokenClassification
        saved = tagger.save_pretrained

        def save(self, folder, **options):
            saved(self, folder, **options)
            from safetensors.torch import load_file, save_file
            path = str(folder) + "/model.safetensors"
            tensors = load_file(path)
            renamed = {name.replace("classifier.", "tagger."): value for name, value in tensors.items()}
            save_file(renamed, path, {"format": "pt"})

        tagger.save_pretrained = save

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "transformers.models.bert.modeling_bert":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = Loader(spec.loader)
        return spec

sys.meta_path.insert(0, Finder())
"""


def make_planted(folder: Path) -> Environment:
    """The environment, in a new folder."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    site_packages = next(iter(folder.glob("lib/python*/site-packages")))
    (site_packages / "here.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (site_packages / "planted.pth").write_text("import planted_hook\n")
    (site_packages / "planted_hook.py").write_text(HOOK)
    return Environment(requested="planted", version="99.0", python=folder / "bin" / "python")
