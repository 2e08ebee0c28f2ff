"""The house's rules: packages are the folders, names are told apart, a device installs only what it needs."""

import ast
import fnmatch
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

from house import NOT_PACKAGES, REGISTER, REGISTER_FOLDER, ROOT, imports_of, package_folders, sources, stage_of

from moedge.runtime.failures import EXTRA_OF

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["setuptools"]["packages"]
FOLDER_OF: dict[str, str] = PROJECT["tool"]["setuptools"]["package-dir"]
# What is no data of a package: Python, and the kernels' sources with the library that setup.py makes of them.
NO_DATA = (".py", ".pyc", ".cpp", ".h", ".inc", ".so")
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]


def names_in(requirements: list[str]) -> set[str]:
    return {
        re.split(r"[\s<>=!~\[;]", requirement, maxsplit=1)[0].lower().replace("_", "-") for requirement in requirements
    }


BASE = names_in(PROJECT["project"]["dependencies"])


def test_the_packages_are_the_folders() -> None:
    folders = [folder.relative_to(ROOT) for folder in package_folders()]
    expected = {"moedge." + ".".join(folder.parts): folder.as_posix() for folder in folders}
    expected[REGISTER] = REGISTER_FOLDER.relative_to(ROOT).as_posix()
    assert sorted(PACKAGES) == sorted(expected)
    assert {name: FOLDER_OF.get(name) for name in PACKAGES} == expected
    assert not (REGISTER_FOLDER / "__init__.py").exists()
    orphans = [path for path in ROOT.glob("*/*.py") if path.parent not in package_folders()]
    assert {path.parent.name for path in orphans} <= NOT_PACKAGES


def test_there_is_no_moedge_folder() -> None:
    assert not (ROOT / "moedge").exists()


def test_every_file_that_is_not_python_is_package_data() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for name, folder in FOLDER_OF.items():
        top = ROOT / folder
        inner = [ROOT / other for other in FOLDER_OF.values() if other.startswith(f"{folder}/")]
        for path in top.rglob("*"):
            if path.is_dir() or path.suffix in NO_DATA or any(path.is_relative_to(other) for other in inner):
                continue
            relative = path.relative_to(top).as_posix()
            assert any(fnmatch.fnmatch(relative, pattern) for pattern in data.get(name, [])), (
                f"{path} is not in a wheel"
            )


def test_coverage_measures_the_real_folders() -> None:
    assert sorted(PROJECT["tool"]["coverage"]["run"]["source"]) == sorted({stage_of(path) for path in sources()})


def test_extras_keep_to_themselves() -> None:
    assert not BASE & {"torch", "onnx", "onnx-ir", "transformers", "optimum", "safetensors", "moedge"}
    assert {extra for extra, needs in EXTRAS.items() if "optimum" in names_in(needs)} == {"optimum", "dev"}
    assert not [extra for extra, needs in EXTRAS.items() if "torch" in names_in(needs)]
    assert {"export", "optimum", "dev", "bench"} == set(EXTRAS)
    assert set(EXTRA_OF.values()) == {"export", "optimum"}, "what users are told to install"


def test_every_import_is_declared_where_it_is_used() -> None:
    installed = packages_distributions()
    allowed = {
        "devices": BASE,
        "runtime": BASE,
        "edge_server": BASE,
        "quant": BASE,
        "export": BASE | names_in(EXTRAS["export"]),
    }
    for path in sources():
        for name, _ in imports_of(path):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or top == "moedge":
                continue
            distributions = {given.lower().replace("_", "-") for given in installed.get(top, [top])}
            declared = allowed[stage_of(path)]
            if path.parent == REGISTER_FOLDER:
                declared = declared | names_in(EXTRAS["optimum"])
            assert distributions & declared, f"{path} imports {top}, which its stage does not declare"


def test_torch_is_never_imported() -> None:
    for path in sources():
        assert not [name for name, _ in imports_of(path) if name.split(".")[0] == "torch"], path


def test_a_device_loads_neither_torch_nor_the_exporter() -> None:
    code = (
        "import sys, moedge.devices.commands, moedge.runtime.commands, moedge.edge_server.commands; "
        "from moedge.runtime import Engine; print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert "llguidance" not in loaded  # it takes its time, and most answers have no grammar
    assert not loaded & {"torch", "transformers", "onnx", "onnx_ir", "safetensors", "moedge.export", "moedge.quant"}


def test_files_are_named_for_what_they_own() -> None:
    vague = ("util", "helper", "base", "common", "misc", "manager", "handler")
    assert not [path for path in sources() if any(word in path.stem for word in vague)]


def test_no_two_classes_share_a_name() -> None:
    """Nor does an alias, which reads like a class: `Header = Mapping[...]`."""
    places: dict[str, list[str]] = {}
    for path in sources():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            match node:
                case (
                    ast.ClassDef(name=name)
                    | ast.Assign(targets=[ast.Name(id=name)])
                    | ast.AnnAssign(target=ast.Name(id=name))
                ):
                    if name[0].isupper() and not name.isupper():
                        places.setdefault(name, []).append(path.relative_to(ROOT).as_posix())
    assert len(places) > 100
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_two_files_share_a_name() -> None:
    """Whoever asks for one must not find the other; those of `everywhere` are named for their place in a package."""
    everywhere = {"__init__.py", "__main__.py", "commands.py", "errors.py"}
    places: dict[str, list[str]] = {}
    for path in sources():
        if path.name not in everywhere:
            places.setdefault(path.name, []).append(path.relative_to(ROOT).parent.as_posix())
    assert len(places) > 100
    shared = {name: sorted(folders) for name, folders in places.items() if len(folders) > 1}
    assert shared == {"gpt_oss.py": ["export/families", "runtime/chat/formats"]}  # both are called so by its makers


def test_every_public_method_says_what_it_does() -> None:
    """In its docstring, or in that of the Protocol whose methods and attributes the class has all."""
    classes = [
        (path, node)
        for path in sources()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    ]
    promises = [
        public_names(node) for _, node in classes if any(ast.unparse(base) == "Protocol" for base in node.bases)
    ]
    assert len(promises) > 5
    for path, node in classes:
        names = public_names(node)
        told = {name for promise in promises if promise <= names for name in promise}
        for method in node.body:
            if isinstance(method, ast.FunctionDef) and method.name in names - told and node.name[0] != "_":
                assert ast.get_docstring(method), f"{path}: {node.name}.{method.name} has no docstring"


def public_names(node: ast.ClassDef) -> set[str]:
    """The methods and annotated attributes of a class."""
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    attributes = {ast.unparse(each.target) for each in node.body if isinstance(each, ast.AnnAssign)}
    return {name for name in methods | attributes if not name.startswith("_")}


def test_the_wheel_holds_one_namespace_the_profiles_and_one_file_for_optimum(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"moedge", "optimum", "moedge-0.1.0.dist-info"}
    assert [name for name in names if name.startswith("optimum/")] == ["optimum/commands/register/register_moedge.py"]
    assert "moedge/devices/profiles/generic-aarch64.toml" in names
    assert "moedge/export/families/__init__.py" in names
    assert "moedge/__init__.py" not in names
    assert not [name for name in names if name.startswith("moedge/export/optimum_cli")]


def test_the_readme_shows_every_folder_and_both_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "\nmake serve" in readme
    assert "\nmake test" in readme
    shown = set(re.findall(r"^([a-z_]+)/ ", readme, re.MULTILINE))
    there = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and any(path.iterdir())}
    assert shown >= {name for name in there if name not in ("build", "dist") and not name.endswith(".egg-info")}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in ("serve", "test", "check", "types"))


def test_links_between_pages_lead_somewhere() -> None:
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
