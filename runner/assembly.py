"""One recipe out of its parts: `extends`, `--set`, `like`; every value keeps the place it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from kpod.runner import document
from kpod.runner.document import Mapping, Node, Scalar
from kpod.runner.errors import Position, Problem, RecipeError, nearest
from kpod.runner.recipe_schema import recipe_schema

# Shapes of keys that providers hand out (OpenAI sk-…, Hugging Face hf_…, AWS AKIA…, GitHub ghp_…, Google AIza…).
_SECRET = re.compile(r"^(sk-[\w-]{12,}|hf_\w{16,}|AKIA\w{12,}|gh[pousr]_\w{20,}|AIza[\w-]{20,})$")
_SECRET_NAMES = frozenset({"api_key", "apikey", "token", "secret", "password"})


def find_recipe(name: str) -> Path:
    """The file that a person means: a path, or the bare name of a recipe that ships with kpod."""
    path = Path(name)
    return path if path.is_file() else _shipped(name) or path


def _shipped(name: str) -> Path | None:
    """The recipe of that bare name that ships with kpod, if there is one."""
    if Path(name).name != name:
        return None
    shipped = shipped_recipes() / (name if name.endswith(".yaml") else f"{name}.yaml")
    return shipped if shipped.exists() else None


def _refuse_misspelt(path: Path) -> None:
    """Name the shipped recipe that a bare name may mean, where no file beside it has a name that is nearer."""
    if path.exists() or path.parent != Path():
        return
    shipped = nearest(path.name, [recipe.stem for recipe in shipped_recipes().glob("*.yaml")])
    if shipped and not nearest(path.name, [file.name for file in Path().glob("*.y*ml")]):
        raise RecipeError(
            [
                Problem(
                    message="there is no such file, nor does a recipe of that name ship with kpod",
                    where=Position(str(path)),
                    hint=shipped,
                )
            ]
        )


def shipped_recipes() -> Path:
    """The folder of the recipes that ship with kpod."""
    from importlib.util import find_spec

    spec = find_spec("kpod.recipes")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def compose(path: Path, *, settings: Sequence[str] = ()) -> Mapping:
    """The recipe with what it extends merged in, the command line's settings on top, and every `like` written out.

    Raises:
        RecipeError: with all problems found.
    """
    _refuse_misspelt(path)
    root = _project_root(path)
    node = _with_bases(path, root=root, chain=())
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise RecipeError(
                [Problem(message=f"got '{setting}'", where=Position("--set"), allowed="name=value")]
            )
        _refuse_unknown_name(name.strip(), value, node)
        node = _mapping(document.set_value(node, name.strip(), value, Position("--set")))
        if value.strip() == "null" and ".in." in name:  # null unwires
            node = _mapping(_without(node, name.strip().split(".")))
    problems = list(_secrets(node, ""))
    if problems:
        raise RecipeError(problems)
    return _with_likes(node)


def _refuse_unknown_name(name: str, value: str, node: Mapping) -> None:
    """Refuse a `--set` that begins with nothing a recipe has; say what was meant where a stage has that id."""
    first, _, rest = name.partition(".")
    known = recipe_schema()["properties"]
    if first in known:
        return
    stages = node.entries.get("stages")
    is_stage = (
        stages is not None and isinstance(stages.node, Mapping) and first in stages.node.entries
    )
    meant = (
        f"stages.{first}.{rest if rest.startswith(('with.', 'in.')) else f'with.{rest}'}={value}"
    )
    hint = f"did you mean {meant}?" if is_stage else nearest(first, known)
    raise RecipeError(
        [
            Problem(
                message=f"a recipe has no '{first}'",
                where=Position("--set"),
                path=name,
                allowed=", ".join(known),
                hint=hint,
            )
        ]
    )


def _without(node: Node, parts: list[str]) -> Node:
    """The node with the value of that dotted name taken out."""
    assert isinstance(node, Mapping)
    entries = dict(node.entries)
    entry = entries.pop(parts[0])
    if len(parts) > 1:
        entries[parts[0]] = document.Entry(entry.key_position, _without(entry.node, parts[1:]))
    return Mapping(entries, node.position)


def _mapping(node: Node) -> Mapping:
    if isinstance(node, Mapping):
        return node
    raise RecipeError(
        [
            Problem(
                message="a recipe is a mapping of names to values",
                where=node.position,
                allowed="kpod, name, stages, …",
            )
        ]
    )


def _project_root(path: Path) -> Path:
    """The folder that a recipe may reach: the nearest one above it that holds a project, else its own folder."""
    folder = path.absolute().resolve().parent
    for parent in (folder, *folder.parents):
        if any((parent / mark).exists() for mark in (".git", "pyproject.toml")):
            return parent
    return folder


def _with_bases(path: Path, *, root: Path, chain: tuple[Path, ...]) -> Mapping:
    node = _mapping(document.load_document(path))
    entry = node.entries.get("extends")
    if entry is None:
        return node
    bases = entry.node.items if isinstance(entry.node, document.Sequence) else (entry.node,)
    merged: Node | None = None
    for base in bases:
        base_path = _base_path(base, path, root=root, chain=(*chain, path.resolve()))
        base_node = _with_bases(base_path, root=root, chain=(*chain, path.resolve()))
        merged = base_node if merged is None else document.merge(merged, base_node)
    own = Mapping(
        {name: kept for name, kept in node.entries.items() if name != "extends"}, node.position
    )
    return own if merged is None else _mapping(document.merge(merged, own))


def _base_path(base: Node, path: Path, *, root: Path, chain: tuple[Path, ...]) -> Path:
    """The file that one item of `extends` names."""
    if not isinstance(base, Scalar) or not isinstance(base.value, str):
        raise RecipeError(
            [
                Problem(
                    message="an item of extends is no text",
                    where=base.position,
                    allowed="a path to a recipe",
                )
            ]
        )
    target = path.parent / base.value
    if not target.is_file():
        target = _shipped(base.value) or target
    resolved = target.resolve()
    problem = hint = ""
    if resolved in chain:
        names = " -> ".join(part.name for part in (*chain[chain.index(resolved) :], resolved))
        problem = f"extends runs in a circle: {names}"
    elif not resolved.is_relative_to(root) and resolved.parent != shipped_recipes().resolve():
        problem = f"{base.value} lies outside the project ({root})"
    elif not resolved.exists():
        problem = f"there is no file {target}"
        hint = nearest(base.value, [shipped.stem for shipped in shipped_recipes().glob("*.yaml")])
    if problem:
        allowed = (
            "a path from this file's folder, or the bare name of a recipe that ships with kpod"
        )
        raise RecipeError(
            [
                Problem(
                    message=problem, where=base.position, path="extends", allowed=allowed, hint=hint
                )
            ]
        )
    return target


def _secrets(node: Node, path: str) -> Iterator[Problem]:
    """Keys that stand in the recipe in clear text; the value is never shown."""
    if isinstance(node, Scalar):
        if isinstance(node.value, str) and _SECRET.match(node.value):
            yield _secret(node.position, path)
    elif isinstance(node, Mapping):
        for name, entry in node.entries.items():
            inner = f"{path}.{name}" if path else name
            if name.lower() in _SECRET_NAMES and isinstance(entry.node, Scalar):
                yield _secret(entry.node.position, inner)
            else:
                yield from _secrets(entry.node, inner)
    else:
        for item in node.items:
            yield from _secrets(item, path)


def _secret(position: Position, path: str) -> Problem:
    return Problem(
        message="this looks like a secret, and a recipe is archived and shared", where=position, path=path,
        allowed="the NAME of an environment variable (api_key_env: OPENAI_API_KEY)", hint="and change the key: it has been in a file",
    )  # fmt: skip


def _with_likes(node: Mapping) -> Mapping:
    """Every `like: ID` replaced by the stage it names, merged as `extends` does."""
    stages = node.entries.get("stages")
    if stages is None or not isinstance(stages.node, Mapping):
        return node
    written: dict[str, Node] = {}
    problems: list[Problem] = []
    for name in stages.node.entries:
        _write_out(name, stages.node, written=written, problems=problems, chain=())
    if problems:
        raise RecipeError(problems)
    entries = {
        name: document.Entry(entry.key_position, written[name])
        for name, entry in stages.node.entries.items()
    }
    whole = document.Entry(stages.key_position, Mapping(entries, stages.node.position))
    return Mapping({**node.entries, "stages": whole}, node.position)


def _write_out(
    name: str,
    stages: Mapping,
    *,
    written: dict[str, Node],
    problems: list[Problem],
    chain: tuple[str, ...],
) -> Node:
    if name in written:
        return written[name]
    node = stages.entries[name].node
    like = node.entries.get("like") if isinstance(node, Mapping) else None
    if like is None or not isinstance(node, Mapping):
        written[name] = node
        return node
    written[name] = node
    target = like.node.value if isinstance(like.node, Scalar) else None
    path = f"stages.{name}.like"
    others = [key for key in stages.entries if key != name]
    if not isinstance(target, str) or target not in stages.entries:
        problems.append(
            Problem(
                message=f"no stage has the id '{target}'", where=like.node.position, path=path,
                allowed=", ".join(others), hint=nearest(str(target), others),
            )
        )  # fmt: skip
    elif target in (*chain, name):
        problems.append(
            Problem(
                message=f"like runs in a circle: {' -> '.join((*chain, name, target))}",
                where=like.node.position,
                path=path,
            )
        )
    elif "uses" in node.entries:
        problems.append(
            Problem(
                message="a stage says uses or like, not both", where=like.key_position, path=path
            )
        )
    else:
        base = _write_out(target, stages, written=written, problems=problems, chain=(*chain, name))
        own = Mapping(
            {key: entry for key, entry in node.entries.items() if key != "like"}, node.position
        )
        written[name] = document.merge(base, own)
    return written[name]
