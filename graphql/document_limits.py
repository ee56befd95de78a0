"""Bounds on what one document may ask, and a cache of documents that passed."""

from __future__ import annotations

from dataclasses import dataclass

from cachetools import LRUCache
from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MAX_TOKENS = 4_000
MAX_DEPTH = 12
MAX_ALIASES = 50
MAX_ROOT_FIELDS = 50
#: Larger documents are not worth keeping: their values belong into variables.
MAX_CACHED_LENGTH = 16_384
MAX_CACHED = 256


@dataclass(frozen=True, slots=True)
class Cost:
    """Levels of fields below here, aliases, and fields at this level; fragments counted wherever they are spread."""

    depth: int = 0
    aliases: int = 0
    fields: int = 0


class _Measure:
    """Measures each fragment once, so that spreading fragments in fragments costs no more than reading them."""

    def __init__(self, document: DocumentNode) -> None:
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._known: dict[str, Cost] = {}

    def of(self, selections: SelectionSetNode | None) -> Cost:
        """The cost of a selection set."""
        depth = aliases = fields = 0
        for node in selections.selections if selections is not None else ():
            if isinstance(node, FieldNode):
                if node.name.value.startswith("__"):
                    fields += 1  # introspection is bounded by the schema's size
                    continue
                inner = self.of(node.selection_set)
                part = Cost(inner.depth + 1, inner.aliases + (node.alias is not None), 1)
            elif isinstance(node, InlineFragmentNode):
                part = self.of(node.selection_set)
            elif isinstance(node, FragmentSpreadNode):
                part = self._fragment(node.name.value)
            else:
                continue
            depth, aliases, fields = max(depth, part.depth), aliases + part.aliases, fields + part.fields
        return Cost(depth, aliases, fields)

    def _fragment(self, name: str) -> Cost:
        if name not in self._known:
            self._known[name] = Cost()  # a cycle ends here; validation refuses it
            found = self._fragments.get(name)
            if found is not None:
                self._known[name] = self.of(found.selection_set)
        return self._known[name]


def check_document(document: DocumentNode) -> list[GraphQLError]:
    """What is over a bound; empty: nothing."""
    measure = _Measure(document)
    found = []
    for operation in document.definitions:
        if isinstance(operation, OperationDefinitionNode):
            cost = measure.of(operation.selection_set)
            for what, value, bound in (
                ("levels of fields", cost.depth, MAX_DEPTH),
                ("aliases", cost.aliases, MAX_ALIASES),
                ("root fields", cost.fields, MAX_ROOT_FIELDS),
            ):
                if value > bound:
                    text = f"The operation has {value} {what}; ask for at most {bound}, or in several requests."
                    found.append(GraphQLError(text, [operation], extensions={"code": "INVALID", "value": str(value)}))
    return found


def unclear_operation(document: DocumentNode) -> GraphQLError | None:
    """The error of a request that names no operation, where the document has several."""
    operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
    if len(operations) < 2:
        return None
    text = f"The document has {len(operations)} operations; say in operationName which one is to be executed."
    return GraphQLError(text, operations, extensions={"code": "INVALID"})


class Documents:
    """Documents that were parsed and found valid, by their text; the least recently used go first."""

    def __init__(self) -> None:
        self._known: LRUCache[str, DocumentNode] = LRUCache(MAX_CACHED)

    def get(self, text: str) -> DocumentNode | None:
        """A document that passed."""
        return self._known.get(text)

    def put(self, text: str, document: DocumentNode) -> None:
        """Keep a document that passed."""
        if len(text) <= MAX_CACHED_LENGTH:
            self._known[text] = document


def root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> dict[str, str]:
    """Field names of an operation's root by the names that they have in the answer."""
    fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
    found: dict[str, str] = {}
    left = [operation.selection_set]
    seen: set[str] = set()
    while left:
        for node in left.pop().selections:
            if isinstance(node, FieldNode):
                found[node.alias.value if node.alias else node.name.value] = node.name.value
            elif isinstance(node, InlineFragmentNode):
                left.append(node.selection_set)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in seen:
                seen.add(node.name.value)
                if node.name.value in fragments:
                    left.append(fragments[node.name.value].selection_set)
    return found
