"""Small faults in a module: what an editing slip, or a careless change, would make of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_OF_TYPES = {"Literal", "TypeVar"}
_WITHOUT_EFFECT = (ast.Import, ast.ImportFrom, ast.Assert, ast.Raise)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault: its line, its kind, the code before and after, and the whole module with it."""

    line: int
    kind: str
    before: str
    after: str
    source: str

    @property
    def change(self) -> str:
        """What is changed, wherever it stands: by this a mutant is known again after an edit elsewhere."""
        return f"{self.kind}: {self.before} -> {self.after}"


def mutants_of(source: str) -> list[Mutant]:
    """Return every mutant of a module, in the order of its lines; comments are lost.

    What has no effect, or only one on words for people, stays as it is: annotations, docstrings, decorators, imports,
    asserts (``strict`` of a zip is one), the texts of errors, all texts of several words, the fixed parts of f-strings.
    """
    tree = ast.parse(source)
    found = []
    for site in _statements(tree, "body"):
        before = _line(site.shown)
        alone = site.at is site.shown  # what is shown is itself replaced
        site.swap()
        after = _line(site.at if alone else site.shown)
        found.append(Mutant(site.line, site.kind, before, after, ast.unparse(tree)))
        site.swap()
    return sorted(found, key=lambda mutant: mutant.line)


@dataclass(slots=True)
class _Site:
    """A place in a tree, ``key`` of ``owner``, and what could stand there; ``shown`` is the code around it."""

    line: int
    kind: str
    shown: ast.AST
    owner: Any
    key: Any
    value: Any

    @property
    def at(self) -> Any:
        """What stands there."""
        return self.owner[self.key] if isinstance(self.owner, list) else getattr(self.owner, self.key)

    def swap(self) -> None:
        """Exchange what stands there and what could."""
        old = self.at
        if isinstance(self.owner, list):
            self.owner[self.key] = self.value
        else:
            setattr(self.owner, self.key, self.value)
        self.value = old


def _statements(node: ast.AST, field: str) -> Iterator[_Site]:
    body = getattr(node, field, None) or []
    for number, statement in enumerate(body):
        line = getattr(statement, "lineno", 0)
        removed = _Site(line, "removed", statement, body, number, ast.Pass())
        match statement:
            case ast.Expr(ast.Call() | ast.Await()) | ast.Raise() | ast.Delete():
                yield removed
            case ast.Break():
                yield _Site(line, "jump", statement, body, number, ast.Continue())
            case ast.Continue():
                yield _Site(line, "jump", statement, body, number, ast.Break())
        yield from _statement(statement)


def _statement(statement: Any) -> Iterator[_Site]:
    """Yield what may be changed in a statement, and in those that it holds."""
    if isinstance(statement, _WITHOUT_EFFECT):
        return
    match statement:
        case ast.Expr(ast.Constant()) | ast.If(ast.Name("TYPE_CHECKING")) | ast.AnnAssign(value=None):
            return
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _defaults(statement.args)
        case ast.AnnAssign():
            yield from _expression(statement.value, statement, statement, "value")
        case ast.Return(ast.AST()):
            if not isinstance(statement.value, ast.Constant) or statement.value.value:  # else it is as good as None
                yield _Site(statement.lineno, "return", statement, statement, "value", ast.Constant(None))
            yield from _expression(statement.value, statement, statement, "value")
        case ast.AugAssign():
            yield from _operators(statement, statement)
            yield from _expression(statement.value, statement, statement, "value")
        case _ if not isinstance(statement, ast.ClassDef):
            yield from _parts(statement, None if hasattr(statement, "body") else statement)
    yield from _blocks(statement)


def _blocks(statement: Any) -> Iterator[_Site]:
    for field in ("body", "orelse", "finalbody"):
        yield from _statements(statement, field)
    for handler in getattr(statement, "handlers", []):
        yield from _statements(handler, "body")


def _defaults(arguments: ast.arguments) -> Iterator[_Site]:
    for given in (arguments.defaults, arguments.kw_defaults):
        for number, value in enumerate(given):
            if value is not None:
                yield from _expression(value, arguments, given, number)


def _parts(node: ast.AST, shown: ast.AST | None) -> Iterator[_Site]:
    """Yield what may be changed in the expressions of a node; ``shown`` None shows each of them alone."""
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield from _negated(node.test, shown or node.test, node, "test")
    if isinstance(node, ast.comprehension):
        for number, condition in enumerate(node.ifs):
            yield from _negated(condition, shown or condition, node.ifs, number)
    for field, value in ast.iter_fields(node):
        entries: list[tuple[Any, Any, Any]] = [(value, field, node)] if isinstance(value, ast.AST) else []
        if isinstance(value, list) and field not in {"body", "orelse", "finalbody", "handlers", "targets"}:
            entries = [(entry, number, value) for number, entry in enumerate(value)]
        for entry, key, owner in entries:
            if isinstance(entry, ast.keyword) and entry.arg == "strict":
                continue
            if isinstance(entry, (ast.comprehension, ast.keyword, ast.withitem, ast.match_case)):
                yield from _parts(entry, shown or entry)
            elif isinstance(entry, ast.expr):
                yield from _expression(entry, shown or entry, owner, key)


def _expression(node: Any, shown: ast.AST, owner: Any, key: Any) -> Iterator[_Site]:
    """Yield what may be changed in an expression that stands at ``key`` of its ``owner``."""
    match node:
        case ast.Subscript(ast.Name(name)) | ast.Call(ast.Name(name)) if name in _OF_TYPES:
            return
        case ast.JoinedStr():
            yield from _inside(node, shown)
            return
        case ast.Constant():
            for value in _others(node.value):
                yield _Site(node.lineno, "constant", shown, owner, key, ast.Constant(value))
            return
        case ast.UnaryOp(ast.Not()):
            yield _Site(node.lineno, "boolean", shown, owner, key, node.operand)
        case ast.Call():
            for given in node.keywords:
                if given.arg not in {None, "strict"}:
                    rest = [other for other in node.keywords if other is not given]
                    yield _Site(node.lineno, "argument", shown, node, "keywords", rest)
        case _:
            yield from _operators(node, shown)
    yield from _parts(node, shown)


def _inside(text: ast.JoinedStr, shown: ast.AST) -> Iterator[_Site]:
    for part in text.values:
        if isinstance(part, ast.FormattedValue):
            yield from _expression(part.value, shown, part, "value")


def _operators(node: Any, shown: ast.AST) -> Iterator[_Site]:
    match node:
        case ast.Compare():
            for number, operator in enumerate(node.ops):
                for other in _COMPARISONS[type(operator)]:
                    yield _Site(node.lineno, "comparison", shown, node.ops, number, other())
        case ast.BoolOp():
            other = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield _Site(node.lineno, "boolean", shown, node, "op", other())
        case ast.BinOp() if type(node.op) in _ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
            yield _Site(node.lineno, "arithmetic", shown, node, "op", _ARITHMETIC[type(node.op)]())
        case ast.AugAssign() if type(node.op) in _ARITHMETIC and not _is_text(node.value):
            yield _Site(node.lineno, "arithmetic", shown, node, "op", _ARITHMETIC[type(node.op)]())


def _negated(condition: ast.expr, shown: ast.AST, owner: Any, key: Any) -> Iterator[_Site]:
    """Yield the opposite of a condition that has no operator of its own to change."""
    if not isinstance(condition, (ast.Compare, ast.BoolOp)) and not (
        isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not)
    ):
        yield _Site(condition.lineno, "boolean", shown, owner, key, ast.UnaryOp(ast.Not(), condition))


def _others(value: Any) -> list[Any]:
    """Return what could stand in the place of a constant."""
    match value:
        case bool():
            return [not value]
        case int() | float():
            return [value + 1]
        case str() if " " not in value:
            return ["XX"]
        case bytes():
            return [b"XX"]
    return []


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)))


def _line(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())
