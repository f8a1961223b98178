"""Finds the values of an ONNX graph that are our tensors, by the modules that its nodes come from.

The TorchScript exporter, which optimum uses too, names nodes by their module (`/model/layers.3/mlp/down_proj/MatMul`);
the newer exporter has the modules in the nodes' metadata (`pkg.torch.onnx.name_scopes`).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from . import keys, modules

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

SCOPES = "pkg.torch.onnx.name_scopes"
LAYER = re.compile(r"^(?P<prefix>(?:.*\.)?)layers\.(?P<index>\d+)(?:\.(?P<inner>.+))?$")
# Operations whose values are no activations.
SHAPES = ("Constant", "ConstantOfShape", "Shape", "Range", "Size")
PRODUCTS = ("MatMul", "Gemm", "MatMulNBits", "MatMulInteger")


def module_of(node: NodeProto) -> str:
    """The module that a node comes from, `model.layers.3.mlp.down_proj`; "" outside of all."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            return modules.plain(ast.literal_eval(entry.value)[-2:][0])
    return modules.plain(".".join(node.name.split("/")[1:-1])) if node.name.startswith("/") else ""


class Values:
    """The values of a graph by our keys, as `found`; `missing` has the keys of what was looked for and is not there."""

    def __init__(self, graph: GraphProto) -> None:
        """Raises ValueError when no node comes from a decoder layer."""
        self.nodes = list(graph.node)
        self.outputs = {value.name for value in graph.output}
        self.constant = {value.name for value in graph.initializer}
        self.constant |= {name for node in self.nodes if node.op_type in SHAPES for name in node.output}
        self.made_by = {name: node for node in self.nodes for name in node.output}
        self.modules = [module_of(node) for node in self.nodes]
        self.module_by_node = {id(node): module for node, module in zip(self.nodes, self.modules, strict=True)}
        self.users: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.prefix, self.layers = self.decoder()
        self.found: dict[str, str] = {}
        self.find()
        expected = keys.in_order(self.layers)
        sparse = {key.partition(".")[0] for key in self.found if key.endswith(keys.ROUTER)}
        self.missing = [
            key
            for key in expected
            if key not in self.found and (not key.endswith(keys.ROUTER) or key.partition(".")[0] in sparse)
        ]

    def decoder(self) -> tuple[str, int]:
        """What stands before `layers`, and how many layers there are."""
        found = [match for match in map(LAYER.match, set(self.modules)) if match]
        prefixes = {match["prefix"] for match in found}
        if len(prefixes) != 1:
            some = sorted({node.name for node in self.nodes if node.name})[: modules.MOST]
            where = f"several decoders: {', '.join(sorted(prefixes))}" if prefixes else "no node is in a decoder layer"
            raise ValueError(
                f"{where}: nodes named /model/layers.0/.., or with {SCOPES} in their metadata, were looked for; "
                f"some names there are: {', '.join(some)}"
            )
        return prefixes.pop(), 1 + max(int(match["index"]) for match in found)

    def find(self) -> None:
        """Fills `found`."""
        self.keep(keys.EMBEDDING, self.returned(f"{self.prefix}embed_tokens"))
        for layer in range(self.layers):
            path = f"{self.prefix}layers.{layer}"
            self.keep(keys.layer_output(layer), self.returned(path))
            for name in keys.FROM_MODULES:
                self.keep(keys.inside(layer, name), self.returned(f"{path}.{name}"))
            self.keep(keys.inside(layer, keys.CONTEXT), self.taken(f"{path}.self_attn.o_proj"))
            for name, norm in ((keys.Q_ROPE, "self_attn.q_norm"), (keys.K_ROPE, "self_attn.k_norm")):
                self.keep(keys.inside(layer, name), self.rotated(self.found.get(keys.inside(layer, norm))))
            self.find_router(layer, f"{path}.mlp.gate")
        self.keep(keys.FINAL_NORM, self.returned(f"{self.prefix}norm"))
        self.keep(keys.LOGITS, self.logits())

    def keep(self, key: str, value: str | None) -> None:
        """Notes the value of a key, if there is one."""
        if value is not None:
            self.found[key] = value

    def of(self, path: str) -> list[NodeProto]:
        """The nodes of a module and of those in it, in the order of computation."""
        nodes = zip(self.nodes, self.modules, strict=True)
        return [node for node, module in nodes if module == path or module.startswith(f"{path}.")]

    def returned(self, path: str) -> str | None:
        """What a module returns: the last of its values that is used outside of it, or by nobody.

        The first are copies of what it is given, which exporters share among modules.
        """
        nodes = self.of(path)
        inside = {id(node) for node in nodes}
        for node in reversed(nodes):
            users = self.users.get(node.output[0], [])
            leaves = node.output[0] in self.outputs or any(id(user) not in inside for user in users)
            if leaves and node.op_type not in SHAPES and not self.is_shape(node):
                return node.output[0]
        return None

    def is_shape(self, node: NodeProto) -> bool:
        """Whether a node computes with shapes: all that it is given is constant or a shape."""
        given = [name for name in node.input if name]
        if not given or all(name in self.constant for name in given):
            self.constant.update(node.output)
            return True
        return False

    def taken(self, path: str) -> str | None:
        """What a module is given: the first value from outside that is no weight."""
        nodes = self.of(path)
        inside = {name for node in nodes for name in node.output}
        given = (name for node in nodes for name in node.input)
        return next((name for name in given if name in self.made_by and name not in inside | self.constant), None)

    def rotated(self, normed: str | None) -> str | None:
        """Queries or keys behind RoPE: x * cos + (-x2, x1) * sin, with x the transposed output of their norm."""
        if normed is None:
            return None
        transposed = {node.output[0] for node in self.users.get(normed, []) if node.op_type == "Transpose"}
        for x in transposed:
            for straight in self.users.get(x, []):
                if straight.op_type != "Mul":
                    continue
                for total in self.users.get(straight.output[0], []):
                    others = [self.made_by.get(name) for name in total.input if name != straight.output[0]]
                    if total.op_type == "Add" and len(others) == 1 and self.turns(others[0], x):
                        return total.output[0]
        return None

    def turns(self, node: NodeProto | None, x: str) -> bool:
        """Whether a node is (-x2, x1) * sin."""
        if node is None or node.op_type != "Mul":
            return False
        halves = [self.made_by.get(name) for name in node.input]
        joined = next((half for half in halves if half is not None and half.op_type == "Concat"), None)
        if joined is None or len(joined.input) != 2:
            return False
        second, first = (self.made_by.get(name) for name in joined.input)
        if first is None or second is None or second.op_type != "Neg":
            return False
        negated = self.made_by.get(second.input[0])
        return all(half is not None and half.op_type == "Slice" and half.input[0] == x for half in (first, negated))

    def find_router(self, layer: int, path: str) -> None:
        """The router's logits, and with them the indices and weights of the chosen experts, which `routing` joins."""
        nodes = self.of(path)
        products = [node for node in nodes if node.op_type in PRODUCTS]
        chosen = [node for node in nodes if node.op_type == "TopK"]
        if len(products) != 1:
            return
        self.keep(keys.inside(layer, keys.ROUTER_LOGITS), products[0].output[0])
        if len(chosen) == 1:
            self.keep(keys.inside(layer, keys.CHOSEN_EXPERTS), chosen[0].output[1])
            behind = nodes[nodes.index(chosen[0]) :]
            weights = [node.output[0] for node in behind if self.comes_of(node, chosen[0].output[0])]
            self.keep(keys.inside(layer, keys.EXPERT_WEIGHTS), weights[-1] if weights else chosen[0].output[0])

    def comes_of(self, node: NodeProto, value: str) -> bool:
        """Whether a node passes on, divides or casts `value`."""
        while node is not None and node.op_type in ("Div", "Cast", "Identity"):
            if node.input[0] == value:
                return True
            node = self.made_by.get(node.input[0])
        return False

    def logits(self) -> str | None:
        """What the head returns; it may be no module of its own, and the graph's output is named so."""
        heads = {module for module in self.modules if module.rpartition(".")[2] == "lm_head"}
        head = self.returned(heads.pop()) if len(heads) == 1 else None
        return head or ("logits" if "logits" in self.outputs else None)
