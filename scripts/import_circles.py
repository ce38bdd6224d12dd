"""The contract `no_circles` of lint-imports: no modules of the package import each other in a circle.

`acyclic_siblings` of import-linter compares packages as wholes, does not see a package's own `__init__`
against its modules, and shares the settings of all contracts, which leave imports for type checkers out.
Here every module is a node of its own and every import counts: inside functions, and for type checkers.
"""

from __future__ import annotations

from itertools import product

import grimp
from grimp import ImportGraph
from importlinter.application import contract_utils, output
from importlinter.application.contract_utils import AlertLevel
from importlinter.domain import fields
from importlinter.domain.contract import Contract, ContractCheck


class NoCircles(Contract):
    """Fails on any circle of modules inside `package`."""

    type_name = "no_circles"

    package = fields.StringField()
    ignore_imports = fields.SetField(subfield=fields.ImportExpressionField(), required=False)
    unmatched_ignore_imports_alerting = fields.EnumField(AlertLevel, default=AlertLevel.ERROR)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Build the whole graph anew and look for circles in it."""
        whole = grimp.build_graph(str(self.package), exclude_type_checking_imports=False, cache_dir=None)
        removed = contract_utils.remove_ignored_imports_and_report(
            graph=whole,
            ignore_imports=self.ignore_imports,  # type: ignore[arg-type]
            unmatched_alerting=self.unmatched_ignore_imports_alerting,  # type: ignore[arg-type]
        )
        found = circles(whole)
        return ContractCheck(
            kept=not found,
            warnings=list(removed.warnings),
            ignored_import_count=removed.ignored_import_count,
            metadata={"circles": found, "graph": whole},
        )

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Each circle with its imports and their lines."""
        for circle in check.metadata["circles"]:
            output.print_error(f"{len(circle)} modules import each other:", bold=True)
            for importer, imported in product(circle, repeat=2):
                for place in check.metadata["graph"].get_import_details(importer=importer, imported=imported):
                    line = f"- {importer} -> {imported} (l.{place['line_number']})"
                    output.print_error(line, bold=False)
            output.new_line()


def circles(graph: ImportGraph) -> list[list[str]]:
    """Groups of modules of which each reaches each other, sorted; empty where there is no circle."""
    reached = {module: graph.find_upstream_modules(module) for module in graph.modules}
    groups = {
        tuple(sorted({module, *(other for other in reached[module] if module in reached[other])}))
        for module in graph.modules
    }
    return sorted(list(group) for group in groups if len(group) > 1)
