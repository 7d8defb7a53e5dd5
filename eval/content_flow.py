"""Whether a chat template does nothing with the contents of messages but write them.

Most templates put contents between words of their own, as they are or without the white space
around them. For such a template two chats with the same roles are rendered to the same text but
for the contents. That is shown from the template's source, not from examples: every expression
that a content can reach is followed, and what is not known to be harmless is not.

Contents are taken to be strings of more than white space, and messages to have a role and a content
alone. A template may then ask whether a content is a string or empty, and leave white space out at
its ends; it may not look into it (``'</think>' in message.content``), count it, quote it or change
it.

The pillars import nothing of each other: `finetune.content_flow` and `eval.content_flow` are the
same text, which a test holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import TypeVar

import jinja2
from jinja2 import nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

LEFT, RIGHT, MARK = "\u2003", "\u2002", "\ufdd3"
"""White space and a noncharacter that no such template writes; they stand for parts of contents."""

_FILTERS = frozenset(
    {"capitalize", "count", "default", "first", "int", "join", "last", "length", "list", "lower"}
    | {"replace", "reverse", "string", "title", "tojson", "trim", "upper"}
)
"""Of what has no content in it; what they make is always the same, which `random` is not."""

_TYPES = frozenset(
    {"boolean", "defined", "iterable", "mapping", "none", "number", "sequence", "string"}
    | {"undefined"}
)
_STRIPS = frozenset({"strip", "lstrip", "rstrip"})
_OF_LOOP = frozenset(
    {"depth", "depth0", "first", "index", "index0", "last", "length", "revindex", "revindex0"}
)
_FUNCTIONS = frozenset({"raise_exception", "range"})
_NO_NAMES = _FUNCTIONS | frozenset(
    {"caller", "cycler", "dict", "joiner", "kwargs", "lipsum", "loop", "namespace", "self"}
    | {"strftime_now", "super", "varargs"}
)
"""Of functions, and of what else Jinja puts there: used in other ways they are not understood."""


@lru_cache(maxsize=16)
def only_writes_contents(template: str) -> bool:
    """Return whether a template only writes contents, whole or without white space at their ends.

    Returns:
        False if it does more, if it reads the clock or chance, or if that cannot be told.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    try:
        flow = _Flow()
        tree = environment.parse(template)
        while flow.grows:  # names are used before they are assigned: in loops
            flow.grows = False
            flow.follow(tree.body)
    except (_UnknownUseError, jinja2.TemplateError, RecursionError):
        return False
    return True


class _UnknownUseError(Exception):
    """A content, or a message, goes where it is not known what becomes of it."""


class _Kind(Enum):
    """What an expression may hold."""

    PLAIN = "nothing of a content"
    TEXT = "contents and other words, one after the other"
    MESSAGE = "one message"
    MESSAGES = "a list of messages"
    NAMESPACE = "names"


_PLAIN, _TEXT, _MESSAGE, _MESSAGES = _Kind.PLAIN, _Kind.TEXT, _Kind.MESSAGE, _Kind.MESSAGES
_WORDS = (_PLAIN, _TEXT)
_Node = TypeVar("_Node", bound=nodes.Node)


class _Flow:
    """Where contents go in a template. A name has one kind in all of it, whatever its scope."""

    def __init__(self) -> None:
        self.names: dict[tuple[str, ...], _Kind] = {("messages",): _MESSAGES}
        self.grows = True

    def follow(self, body: Iterable[nodes.Node]) -> None:
        for node in body:
            self._statement(node)

    def _statement(self, node: nodes.Node) -> None:
        match node:
            case nodes.Output():
                self._all(node.nodes, _WORDS)
            case nodes.If():
                self._if(node)
            case nodes.For(recursive=False):
                kind = self._of(node.iter, (_PLAIN, _MESSAGES))
                self._assign(node.target, _MESSAGE if kind is _MESSAGES else _PLAIN)
                if node.test is not None:
                    self.kind(node.test)
                self.follow([*node.body, *node.else_])
            case nodes.Assign(node=nodes.Call(node=nodes.Name(name="namespace")) as call):
                self._all([keyword.value for keyword in call.kwargs], (_PLAIN,))
                if call.args or call.dyn_args or call.dyn_kwargs:
                    raise _UnknownUseError
                self._assign(node.target, _Kind.NAMESPACE)
            case nodes.Assign():
                known = (_PLAIN, _TEXT, _MESSAGE, _MESSAGES)  # a namespace has one name
                self._assign(node.target, self._of(node.node, known))
            case nodes.AssignBlock(filter=None):
                self.follow(node.body)
                self._assign(node.target, _TEXT)
            case nodes.Break() | nodes.Continue():
                pass
            case _:
                raise _UnknownUseError

    def _if(self, node: nodes.If) -> None:
        """Follow the branches that can be taken: a content is always a string."""
        for test, body in [(node.test, node.body), *((n.test, n.body) for n in node.elif_)]:
            self.kind(test)
            is_true = self._is_string(test)
            if is_true is not False:
                self.follow(body)
            if is_true:
                return
        self.follow(node.else_)

    def _is_string(self, test: nodes.Node) -> bool | None:
        match test:
            case nodes.Test(name="string", node=nodes.Getattr() | nodes.Getitem() as given):
                return True if self._is_content(given) else None
            case nodes.Not(node=nodes.Node() as inner):
                is_true = self._is_string(inner)
                return None if is_true is None else not is_true
        return None

    def _is_content(self, node: nodes.Getattr | nodes.Getitem) -> bool:
        return _key_of(node) == "content" and self.kind(node.node) is _MESSAGE

    def _assign(self, target: nodes.Node, kind: _Kind) -> None:
        match target:
            case nodes.Name():
                self._grow((target.name,), kind)
            case nodes.NSRef():
                self._grow((target.name, target.attr), kind)
            case nodes.Tuple() if kind is _PLAIN:
                for one in target.items:
                    self._assign(one, kind)
            case _:
                raise _UnknownUseError

    def _grow(self, name: tuple[str, ...], kind: _Kind) -> None:
        if name[0] in _NO_NAMES:
            raise _UnknownUseError
        before = self.names.get(name)
        if before is not None and {before, kind} == {*_WORDS}:
            kind = _TEXT
        elif before not in (None, kind):
            raise _UnknownUseError
        self.grows = self.grows or before is not kind
        self.names[name] = kind

    def _all(self, given: Iterable[nodes.Node], kinds: tuple[_Kind, ...]) -> None:
        for node in given:
            self._of(node, kinds)

    def _of(self, node: nodes.Node, kinds: tuple[_Kind, ...]) -> _Kind:
        """Return the kind of an expression.

        Raises:
            _UnknownUseError: if it is none of these.
        """
        kind = self.kind(node)
        if kind not in kinds:
            raise _UnknownUseError
        return kind

    def kind(self, node: nodes.Node) -> _Kind:
        """Return what an expression may hold.

        Raises:
            _UnknownUseError: if it does with a content, or with a message, what is not known.
        """
        match node:
            case nodes.TemplateData(data=text) | nodes.Const(value=str(text)):
                if any(one in text for one in (LEFT, RIGHT, MARK)):
                    raise _UnknownUseError
                return _PLAIN
            case nodes.Const():
                return _PLAIN
            case nodes.Name():
                return self._name(node.name)
            case nodes.Getattr() | nodes.Getitem():
                return self._part(node)
            case nodes.Add():
                return self._sum(node)
            case nodes.Concat():
                return self._joined(node.nodes)
            case nodes.CondExpr():
                self.kind(node.test)
                return self._either([node.expr1, *([node.expr2] if node.expr2 else [])])
            case nodes.And() | nodes.Or():
                return self._either([node.left, node.right])
            case nodes.Not():
                self.kind(node.node)
                return _PLAIN
            case nodes.Compare():
                return self._compared(node)
            case nodes.Test():
                allowed = tuple(_Kind) if node.name in _TYPES else (_PLAIN,)
                self._of(node.node, allowed)
                return self._arguments(node)
            case nodes.Filter():
                return self._filtered(node)
            case nodes.Call():
                return self._called(node)
            case nodes.Dict():
                return self._dict(node)
            case nodes.List() | nodes.Tuple():
                kinds = {self._of(item, (_PLAIN, _MESSAGE)) for item in node.items}
                if kinds == {_MESSAGE}:
                    return _MESSAGES
                return self._plain(node.items)
            case nodes.BinExpr() | nodes.UnaryExpr():
                return self._plain(node.iter_child_nodes())
        raise _UnknownUseError

    def _plain(self, given: Iterable[nodes.Node]) -> _Kind:
        self._all(given, (_PLAIN,))
        return _PLAIN

    def _joined(self, given: Iterable[nodes.Node]) -> _Kind:
        kinds = {self._of(node, _WORDS) for node in given}
        return _TEXT if _TEXT in kinds else _PLAIN

    def _either(self, given: Iterable[nodes.Node]) -> _Kind:
        kinds = {self.kind(node) for node in given}
        if len(kinds) == 1:
            return kinds.pop()
        if kinds == {*_WORDS}:
            return _TEXT
        raise _UnknownUseError

    def _name(self, name: str) -> _Kind:
        if name in _NO_NAMES:
            raise _UnknownUseError
        return self.names.get((name,), _PLAIN)

    def _part(self, node: nodes.Getattr | nodes.Getitem) -> _Kind:
        if isinstance(node.node, nodes.Name):
            if node.node.name == "loop":
                if isinstance(node, nodes.Getattr) and node.attr in _OF_LOOP:
                    return _PLAIN
                raise _UnknownUseError
            if self._name(node.node.name) is _Kind.NAMESPACE:
                if isinstance(node, nodes.Getattr):
                    return self.names.get((node.node.name, node.attr), _PLAIN)
                raise _UnknownUseError
        kind, key = self.kind(node.node), _key_of(node)
        if kind is _MESSAGE and key is not None and not hasattr(dict, key):
            return _TEXT if key == "content" else _PLAIN
        if isinstance(node, nodes.Getattr) or key is not None:
            return self._plain([node.node])
        self._plain(node.arg.iter_child_nodes() if _is_slice(node.arg) else [node.arg])
        if kind is _MESSAGES:
            return _MESSAGES if _is_slice(node.arg) else _MESSAGE
        return self._plain([node.node])

    def _sum(self, node: nodes.Add) -> _Kind:
        kinds = {self.kind(node.left), self.kind(node.right)}
        if kinds == {_MESSAGES}:
            return _MESSAGES
        return self._joined([node.left, node.right])

    def _compared(self, node: nodes.Compare) -> _Kind:
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        operators = {operand.op for operand in node.ops}
        if len(sides) == 2 and operators <= {"eq", "ne"}:  # a content is no such value
            kinds = [self.kind(side) for side in sides]
            if _TEXT in kinds and any(_is_no_content(side) for side in sides):
                return _PLAIN
        if len(sides) == 2 and operators <= {"in", "notin"} and isinstance(sides[0], nodes.Const):
            self._of(sides[1], (_PLAIN, _MESSAGE))  # the keys of a message
            return _PLAIN
        return self._plain(sides)

    def _arguments(self, node: nodes.Call | nodes.Filter | nodes.Test) -> _Kind:
        dynamic = [one for one in (node.dyn_args, node.dyn_kwargs) if one is not None]
        return self._plain([*node.args, *(one.value for one in node.kwargs), *dynamic])

    def _filtered(self, node: nodes.Filter) -> _Kind:
        if node.node is None or node.name not in _FILTERS:
            raise _UnknownUseError
        self._arguments(node)
        kind = self.kind(node.node)
        if kind is _PLAIN:
            return kind
        if _has_arguments(node):
            raise _UnknownUseError
        if kind is _TEXT and node.name in ("trim", "string"):
            return kind
        if kind is _MESSAGES:
            if node.name in ("length", "count"):
                return _PLAIN
            if node.name in ("first", "last"):
                return _MESSAGE
            if node.name == "list":
                return _MESSAGES
        raise _UnknownUseError

    def _called(self, node: nodes.Call) -> _Kind:
        self._arguments(node)
        match node.node:
            case nodes.Name(name=name) if name in _FUNCTIONS:
                return _PLAIN
            case nodes.Getattr(node=owner, attr=attr):
                kind = self._of(owner, _WORDS)
                if kind is _PLAIN or (attr in _STRIPS and not _has_arguments(node)):
                    return kind
        raise _UnknownUseError

    def _dict(self, node: nodes.Dict) -> _Kind:
        """Return the kind of a dictionary; one with a content is a message."""
        values: dict[object, nodes.Node] = {}
        for pair in node.items:
            if not isinstance(pair.key, nodes.Const):
                raise _UnknownUseError
            values[pair.key.value] = pair.value
        kinds = {key: self._of(value, _WORDS) for key, value in values.items()}
        if _TEXT not in kinds.values():
            return _PLAIN
        if kinds == {"role": _PLAIN, "content": _TEXT} and self._is_text(values["content"]):
            return _MESSAGE
        raise _UnknownUseError

    def _is_text(self, node: nodes.Node) -> bool:
        """Return whether a value is a string, whatever its names hold."""
        match node:
            case nodes.Concat() | nodes.Const(value=str()):
                return True
            case nodes.Add():
                return self._is_text(node.left) or self._is_text(node.right)
            case nodes.Getattr() | nodes.Getitem():
                return self._is_content(node)
        return False


def _has_arguments(node: nodes.Call | nodes.Filter) -> bool:
    return bool(node.args or node.kwargs or node.dyn_args or node.dyn_kwargs)


def _key_of(node: nodes.Getattr | nodes.Getitem) -> str | None:
    """Return the name by which a part is taken; None if it is no name."""
    match node:
        case nodes.Getattr():
            return str(node.attr)
        case nodes.Getitem(arg=nodes.Const(value=str(key))):
            return key
    return None


def _is_slice(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Slice)


def _is_no_content(node: nodes.Node) -> bool:
    if not isinstance(node, nodes.Const):
        return False
    return not isinstance(node.value, str) or not node.value.strip()
