"""What the tests of the house's rules read: its folders, its files and what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# What optimum-cli finds commands of others by; a namespace, which an __init__.py would close to them.
REGISTER, REGISTER_FOLDER = "optimum.commands.register", ROOT / "export" / "optimum_cli"
NOT_PACKAGES = {"tests", "docs", "benchmarks", "examples", "build", "dist"}


def package_folders() -> list[Path]:
    tops = [path for path in ROOT.iterdir() if path.is_dir() and path.name not in NOT_PACKAGES and path.name[0] != "."]
    return sorted(init.parent for top in tops for init in top.rglob("__init__.py"))


def sources() -> list[Path]:
    return sorted(path for folder in (*package_folders(), REGISTER_FOLDER) for path in folder.glob("*.py"))


def imports_of(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that the file imports, and whether that happens when the file itself is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where its arrow leads"
            names = [node.module or ""]
            if node.module == "moedge" or (node.module or "").count(".") == 1:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from ((name, id(node) not in inside) for name in names)


def module_of(path: Path) -> str:
    return ".".join(("moedge", *path.relative_to(ROOT).with_suffix("").parts))


def stage_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]
