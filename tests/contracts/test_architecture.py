"""No module of src imports itself by a detour, by an import for type checkers or within a function neither.

`lint-imports` sees cycles among modules that stand side by side; this sees those of a package with its own modules too.
"""

import grimp
import pytest


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("reticket", exclude_type_checking_imports=False, cache_dir=None)


def cycles(graph: grimp.ImportGraph) -> list[set[str]]:
    """Return the sets of modules that import each other: what is left when modules without imports are taken away."""
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    while free := [module for module, others in imports.items() if not others & imports.keys()]:
        for module in free:
            del imports[module]
    return [{module, *graph.find_downstream_modules(module)} & {*imports} for module in imports]


def test_no_module_imports_itself_by_a_detour(graph: grimp.ImportGraph) -> None:
    assert len(graph.modules) > 200
    assert cycles(graph) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("reticket.symmetry.axes", "reticket.symmetry.symmetry"),
        ("reticket.symmetry.terms", "reticket.symmetry"),
        ("reticket.errors", "reticket"),
    ],
)
def test_a_cycle_is_found(graph: grimp.ImportGraph, importer: str, imported: str) -> None:
    graph.add_import(importer=importer, imported=imported)
    try:
        assert any({importer, imported} <= modules for modules in cycles(graph))
    finally:
        graph.remove_import(importer=importer, imported=imported)
