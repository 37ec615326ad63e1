"""From a composed document to a Recipe: names looked up, settings checked, inputs wired; every problem is collected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kpod.runner import document
from kpod.runner.agreement import Agreement, Configured
from kpod.runner.canonical import digest_of
from kpod.runner.config import build_config, local_path_fields, unsettled
from kpod.runner.document import Mapping, Node, Scalar
from kpod.runner.errors import KpodError, Position, Problem, RecipeError, SettingError, nearest
from kpod.runner.memo import Memo
from kpod.runner.paths import with_absolute
from kpod.runner.placing import placement_problems, placements
from kpod.runner.recipe import Recipe, RecipeStage, RecipeView
from kpod.runner.recipe_advice import with_advice
from kpod.runner.recipe_schema import load_schema, recipe_schema
from kpod.runner.registry import AnyStage, UnknownStage, find_stage, stage_names, suggestion
from kpod.runner.schema import validate
from kpod.runner.stage import Stage, View
from kpod.runner.wiring import Named, Unwired, Wires, Wiring


class RecipeReader:
    """Turns a composed document into a Recipe, collecting problems on the way."""

    def __init__(self, path: Path, node: Mapping, memo: Memo | None) -> None:
        self.path = path
        self.node = node
        self.memo = memo
        self.problems: list[Problem] = []
        self.origins: dict[str, str] = {}

    def read(self) -> Recipe:
        """The recipe; raises RecipeError with every problem."""
        plain = document.plain(self.node)
        if self._is_new(plain, recipe_schema()):
            told = validate(self.node, recipe_schema(), path="", subject="a recipe")
            self.problems += with_advice(told, self.node)
        self._raise()
        found = self._find_stages()
        self._check_settings(found, plain)
        are_settings_sound = not self.problems
        stages = {key: stage for key, stage in found.items() if issubclass(stage, Stage)}
        views = {key: view for key, view in found.items() if issubclass(view, View)}
        wiring = Wiring(
            {key: self._unwired(key, stage) for key, stage in stages.items()}, views=views
        )
        wires = wiring.wire_all()
        if len(found) == len(
            plain["stages"]
        ):  # with a stage unknown, nobody can say what could be wired
            self.problems += wiring.problems
        self._check_views(views)
        self._check_primary(found)
        self.problems += placement_problems(self.node, stages)
        configs = (
            {key: self._config(key, stage) for key, stage in found.items()}
            if are_settings_sound
            else {}
        )
        self._raise()
        self._collect_origins(self.node, "")
        self._agree({key: stages[key] for key in wiring.order()}, configs, wires)
        self._check_together(stages, configs, wires)
        placed = placements(self.node, stages)
        return Recipe(
            path=self.path,
            text=self.path.read_text(encoding="utf-8"),
            name=plain["name"],
            description=plain.get("description") or "",
            seed=plain.get("seed", 0),
            stages={
                key: RecipeStage(
                    id=key, uses=stages[key].uses, stage=stages[key], config=configs[key], wires=wires[key],
                    placement=placed[key],
                )
                for key in wiring.order()
            },
            views={key: RecipeView(id=key, uses=view.uses, view=view, config=configs[key]) for key, view in views.items()},
            primary=tuple((plain.get("compare") or {}).get("primary") or ()),
            origins=self.origins,
        )  # fmt: skip

    def _raise(self) -> None:
        if self.problems:
            raise RecipeError(sorted(self.problems, key=_place))

    def _is_new(self, plain: Any, schema: dict[str, Any]) -> bool:
        """Whether this value was not yet found right under this schema."""
        if self.memo is None:
            return True
        name = digest_of([repr(plain), schema])
        if self.memo.get("valid", name):
            return False
        self.pending = name
        return True

    def _stage_node(self, stage_id: str) -> Mapping:
        stages = self.node.entries["stages"].node
        assert isinstance(stages, Mapping)
        node = stages.entries[stage_id].node
        assert isinstance(node, Mapping)
        return node

    def _find_stages(self) -> dict[str, AnyStage]:
        found: dict[str, AnyStage] = {}
        stages = self.node.entries["stages"].node
        assert isinstance(stages, Mapping)
        for stage_id in stages.entries:
            uses = self._stage_node(stage_id).entries["uses"].node
            assert isinstance(uses, Scalar)
            path = f"stages.{stage_id}.uses"
            try:
                found[stage_id] = find_stage(str(uses.value))
            except UnknownStage as error:
                self.problems.append(
                    Problem(
                        message=f"unknown stage '{error.uses}'", where=uses.position, path=path,
                        allowed=", ".join(stage_names()), hint=suggestion(error.uses),
                    )
                )  # fmt: skip
            except KpodError as error:
                self.problems.append(Problem(message=str(error), where=uses.position, path=path))
        return found

    def _check_settings(self, found: dict[str, AnyStage], plain: dict[str, Any]) -> None:
        """Every `with` against its stage's JSON Schema; the verdict is remembered by content."""
        schemas = {stage.uses: load_schema(stage) for stage in found.values()}
        if not self._is_new(plain, schemas):
            return
        before = len(self.problems)
        for stage_id, stage in found.items():
            node = self._stage_node(stage_id)
            entry = node.entries.get("with")
            with_node = entry.node if entry else Mapping({}, node.entries["uses"].node.position)
            self.problems += validate(
                with_node, schemas[stage.uses], path=f"stages.{stage_id}.with", subject=stage.uses
            )
        if self.memo is not None and len(self.problems) == before:
            self.memo.put("valid", self.pending, "1")
            self.memo.put("valid", digest_of([repr(plain), recipe_schema()]), "1")

    def _config(self, stage_id: str, stage: AnyStage) -> Any:
        node = self._stage_node(stage_id)
        entry = node.entries.get("with")
        with_node = entry.node if entry else None
        data = document.plain(with_node) if with_node is not None else {}
        data = data or {}
        path = f"stages.{stage_id}.with"
        try:
            for dotted in local_path_fields(stage.config_class):
                data = with_absolute(data, with_node, dotted.split("."))
            return build_config(stage.config_class, data, node=with_node or node, path=path)
        except RecipeError as error:
            self.problems += error.problems
            return None

    def _agree(
        self, stages: dict[str, type[Stage[Any]]], configs: dict[str, Any], wires: dict[str, Wires]
    ) -> None:
        """Fill in the settings that stages share; raises RecipeError where they contradict each other."""
        agreement = Agreement(
            {
                key: Configured(
                    stage=stage, config=configs[key], wires=wires[key], node=self._stage_node(key)
                )
                for key, stage in stages.items()
            }
        )
        agreement.settle()
        self.problems += agreement.problems
        self._raise()
        configs.update(agreement.configs)
        self.origins.update(agreement.origins)

    def _check_together(
        self, stages: dict[str, type[Stage[Any]]], configs: dict[str, Any], wires: dict[str, Wires]
    ) -> None:
        """Settings beside wires, as every stage judges them; raises RecipeError with what cannot be."""
        for stage_id, stage in stages.items():
            wired = frozenset(name for name, sources in wires[stage_id].items() if sources)
            try:
                stage.check(configs[stage_id], wired)
            except SettingError as error:
                node = self._stage_node(stage_id)
                entry = node.entries.get("with")
                where = entry.node if entry else node
                self.problems.append(unsettled(error, where, f"stages.{stage_id}.with"))
        self._raise()

    def _unwired(self, stage_id: str, stage: type[Stage[Any]]) -> Unwired:
        node = self._stage_node(stage_id)
        entry = node.entries.get("in")
        sources = entry.node if entry else None
        named: dict[str, tuple[Named, ...]] = {}
        positions: dict[str, Position] = {}
        if isinstance(sources, Mapping):
            for name, source in sources.entries.items():
                items = (
                    source.node.items
                    if isinstance(source.node, document.Sequence)
                    else (source.node,)
                )
                named[name] = tuple(
                    Named(str(item.value), item.position)
                    for item in items
                    if isinstance(item, Scalar)
                )
                positions[name] = source.key_position
        return Unwired(stage, named, node.entries["uses"].node.position, positions)

    def _check_views(self, views: dict[str, type[View[Any]]]) -> None:
        for stage_id, view in views.items():
            entry = self._stage_node(stage_id).entries.get("in")
            if entry is not None:
                self.problems.append(
                    Problem(
                        message=f"{view.uses} is a view of the whole run and takes no inputs",
                        where=entry.key_position,
                        path=f"stages.{stage_id}.in",
                    )
                )

    def _check_primary(self, found: dict[str, AnyStage]) -> None:
        compare = self.node.entries.get("compare")
        primary = (
            compare.node.entries.get("primary")
            if compare and isinstance(compare.node, Mapping)
            else None
        )
        for item in (
            primary.node.items if primary and isinstance(primary.node, document.Sequence) else ()
        ):
            if isinstance(item, Scalar) and item.value not in found:
                self.problems.append(
                    Problem(
                        message=f"no stage has the id '{item.value}'",
                        where=item.position,
                        path="compare.primary",
                        allowed=", ".join(found),
                        hint=nearest(str(item.value), found),
                    )
                )

    def _collect_origins(self, node: Node, path: str) -> None:
        if isinstance(node, Mapping):
            for name, entry in node.entries.items():
                self._collect_origins(entry.node, f"{path}.{name}" if path else name)
        else:
            self.origins[path] = str(node.position)


def _place(problem: Problem) -> tuple[str, int, int]:
    where = problem.where or Position("")
    return where.file, where.line, where.column
