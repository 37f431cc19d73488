"""Planned blocks as functions of a Relax module: each becomes one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .importing import Imported

if TYPE_CHECKING:
    import tvm


OPAQUE = frozenset(
    {
        "relax.topk", "relax.sort", "relax.argsort", "relax.cumsum", "relax.cumprod", "relax.unique", "relax.nonzero", "relax.bucketize",
        "relax.scatter_elements", "relax.scatter_nd", "relax.index_put", "relax.multinomial_from_uniform",
    }
)  # fmt: skip
"""Operators that become calls of a library or code written by hand: nothing is fused with them."""


@dataclass
class _Run:
    """Bindings of ``main`` that follow each other; ``block`` names the planned block they came from."""

    block: str | None
    bindings: list[Any]


def outline(imported: Imported) -> tvm.IRModule:
    """The module with each planned block in a private function with the attribute Primitive, called from ``main``.

    Blocks of a single binding, and those that find out the size of something while they run, stay where they are.
    """
    from tvm import relax

    module = imported.module
    main = module["main"]
    if not any(imported.blocks.values()):
        return module
    bindings = [binding for block in main.body.blocks for binding in block.bindings]
    runs = _runs(bindings, imported.blocks)
    needed = _readers(runs, main.body.body)
    builder = relax.BlockBuilder(module)
    written: list[Any] = []
    for serial, run in enumerate(runs):
        if run.block is None or len(run.bindings) < 2 or any(_stands_alone(binding) for binding in run.bindings):
            written += run.bindings
            continue
        if not needed[serial]:
            continue  # Nobody reads what it makes.
        written += _outlined(run, needed[serial], builder)
    body = relax.SeqExpr([relax.BindingBlock(written)], main.body.body)
    builder.update_func(module.get_global_var("main"), relax.Function(main.params, body, main.ret_ty, is_pure=main.is_pure, attrs=main.attrs))
    return builder.get()


def _stands_alone(binding: Any) -> bool:
    """Whether nothing can be in one kernel with a binding."""
    from tvm import relax

    name = getattr(getattr(binding.value, "op", None), "name", "")
    return isinstance(binding, relax.MatchCast) or name in OPAQUE or name.startswith("relax.vision.")


def _runs(bindings: Sequence[Any], blocks: dict[str, str | None]) -> list[_Run]:
    """The bindings in runs of one block each. What says how large things are is moved before the block that it would cut in two."""
    labelled: list[tuple[str | None, Any]] = []
    waiting: list[Any] = []
    for binding in bindings:
        waiting.append(binding)
        if binding.var.name in blocks:
            labelled += [(blocks[binding.var.name], one) for one in waiting]
            waiting = []
    labelled += [(None, one) for one in waiting]
    last = {label: place for place, (label, _) in enumerate(labelled) if label is not None}
    runs: list[_Run] = []
    inside: _Run | None = None
    before: list[Any] = []
    for place, (label, binding) in enumerate(labelled):
        if inside is not None and label is None:
            before.append(binding)
            continue
        if label is None:
            runs.append(_Run(None, [binding]))
            continue
        if inside is None:
            inside, before = _Run(label, []), []
        inside.bindings.append(binding)
        if place == last[label]:
            runs += [*(_Run(None, [one]) for one in before), inside]
            inside = None
    return runs


def _readers(runs: Sequence[_Run], result: Any) -> list[list[Any]]:
    """For each run, the variables it binds that something outside it reads, in order."""
    home = {binding.var: place for place, run in enumerate(runs) for binding in run.bindings}
    wanted: list[dict[Any, None]] = [{} for _ in runs]
    for place, run in enumerate(runs):
        for binding in run.bindings:
            for var in _free(binding.value):
                if var in home and home[var] != place:
                    wanted[home[var]][var] = None
    for var in _free(result):
        if var in home:
            wanted[home[var]][var] = None
    return [list(found) for found in wanted]


def _free(expression: Any) -> list[Any]:
    from tvm import relax

    return list(relax.analysis.free_vars(expression))


def _outlined(run: _Run, outputs: list[Any], builder: Any) -> list[Any]:
    """Add the function of a run to the module; returns the bindings that call it. Equal blocks share one function."""
    from tvm import relax

    bound = {binding.var for binding in run.bindings}
    inputs = list(dict.fromkeys(var for binding in run.bindings for var in _free(binding.value) if var not in bound))
    body = relax.SeqExpr([relax.BindingBlock(run.bindings)], outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
    result = outputs[0].ty if len(outputs) == 1 else relax.TupleType([var.ty for var in outputs])
    loose = _loose_symbols(inputs, run.bindings)
    sizes = [relax.Var("sizes", relax.ShapeType(values=loose))] if loose else []
    function = relax.Function([*inputs, *sizes], body, result, is_pure=True).with_attr("Primitive", True)
    variable = builder.add_func(relax.utils.copy_with_new_vars(function), "block")
    call = builder.normalize(relax.Call(variable, [*inputs, *([relax.ShapeExpr(loose)] if loose else [])]))
    if len(outputs) == 1:
        return [relax.VarBinding(outputs[0], call)]
    whole = relax.Var(f"{outputs[0].name}_all", result)
    parts = [relax.VarBinding(var, relax.TupleGetItem(whole, index)) for index, var in enumerate(outputs)]
    return [relax.VarBinding(whole, call), *parts]


def _loose_symbols(inputs: Sequence[Any], bindings: Sequence[Any]) -> list[Any]:
    """The symbols that a run uses and that the shapes of its inputs do not show by themselves."""
    from tvm import relax

    shown = {symbol for var in inputs for symbol in relax.analysis.definable_tir_vars_in_type(var.ty)}
    used = (symbol for var in (*inputs, *(binding.var for binding in bindings)) for symbol in relax.analysis.tir_vars_in_type(var.ty))
    return [symbol for symbol in dict.fromkeys(used) if symbol not in shown]


def settle(module: tvm.IRModule) -> tvm.IRModule:
    """Make the legalised functions of blocks ready to become kernels: their constants become parameters, which ``main`` hands in.

    A block in which something is no plain loop nest (a sort, a library call) is taken apart again.
    """
    from tvm import relax

    module = relax.transform.DeadCodeElimination()(relax.transform.CanonicalizeBindings()(module))
    builder = relax.BlockBuilder(module)
    made: dict[str, tuple[Any, list[Any]]] = {}
    apart: dict[Any, Any] = {}
    for variable, function in module.functions_items():
        if not _is_block(function):
            continue
        if not _is_plain(function):
            apart[variable] = function.without_attr("Primitive")
        elif constants := _constants(function):
            made[variable.name_hint] = builder.add_func(_with_parameters(function, constants), variable.name_hint), constants
    main = module["main"]
    blocks = [_block_of([_handing_in(binding, made) for binding in block.bindings], block) for block in main.body.blocks]
    body = relax.SeqExpr(blocks, main.body.body)
    whole = relax.Function(main.params, body, main.ret_ty, main.is_pure, main.attrs)
    builder.update_func(module.get_global_var("main"), whole.inline_functions(apart) if apart else whole)
    return relax.transform.DeadCodeElimination()(builder.get())


def _is_block(function: Any) -> bool:
    from tvm import relax

    return isinstance(function, relax.Function) and bool(function.attrs) and "Primitive" in function.attrs


def _is_plain(function: Any) -> bool:
    """Whether all that a block computes are loop nests over tensors."""
    import tvm
    from tvm import relax

    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    results = function.body.body.fields if isinstance(function.body.body, relax.Tuple) else [function.body.body]
    if any(isinstance(expression, tvm.ir.GenericConst) for expression in (*results, *(binding.value for binding in bindings))):
        return False
    calls = [binding.value for binding in bindings if isinstance(binding.value, relax.Call)]
    return not any(isinstance(binding, relax.MatchCast) for binding in bindings) and all(map(_is_kernel_call, calls))


def _is_kernel_call(expression: Any) -> bool:
    from tvm import relax

    return isinstance(expression, relax.Call) and getattr(expression.op, "name", "") == "relax.call_tir"


def _constants(function: Any) -> list[Any]:
    """The constants that the kernels of a block are given, each once."""
    import tvm

    found: list[Any] = []
    for block in function.body.blocks:
        for binding in block.bindings:
            for argument in binding.value.args[1].fields if _is_kernel_call(binding.value) else ():
                if isinstance(argument, tvm.ir.GenericConst) and not any(argument.same_as(one) for one in found):
                    found.append(argument)
    return found


def _with_parameters(function: Any, constants: Sequence[Any]) -> Any:
    """The function with a parameter for each of these constants, before the one that tells sizes."""
    from tvm import relax

    params = [relax.Var(f"c{index}", constant.ty) for index, constant in enumerate(constants)]

    def swapped(argument: Any) -> Any:
        return next((param for constant, param in zip(constants, params, strict=True) if argument.same_as(constant)), argument)

    def rewritten(binding: Any) -> Any:
        call = binding.value
        if not _is_kernel_call(call):
            return binding
        arguments = relax.Tuple([swapped(argument) for argument in call.args[1].fields])
        return relax.VarBinding(binding.var, relax.Call(call.op, [call.args[0], arguments, *call.args[2:]], call.attrs, call.ty_args))

    blocks = [_block_of([rewritten(binding) for binding in block.bindings], block) for block in function.body.blocks]
    tensors = [param for param in function.params if not isinstance(param.ty, relax.ShapeType)]
    sizes = [param for param in function.params if isinstance(param.ty, relax.ShapeType)]
    changed = relax.Function([*tensors, *params, *sizes], relax.SeqExpr(blocks, function.body.body), function.ret_ty, function.is_pure, function.attrs)
    return relax.utils.copy_with_new_vars(changed)


def _handing_in(binding: Any, made: dict[str, tuple[Any, list[Any]]]) -> Any:
    """A binding of ``main`` whose call of a changed block hands in the constants."""
    import tvm
    from tvm import relax

    call = binding.value
    if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.GlobalVar) or call.op.name_hint not in made:
        return binding
    variable, constants = made[call.op.name_hint]
    tensors = [argument for argument in call.args if not isinstance(argument.ty, relax.ShapeType)]
    sizes = [argument for argument in call.args if isinstance(argument.ty, relax.ShapeType)]
    return relax.VarBinding(binding.var, relax.Call(variable, [*tensors, *constants, *sizes], call.attrs, call.ty_args))


def _block_of(bindings: list[Any], like: Any) -> Any:
    from tvm import relax

    return relax.DataflowBlock(bindings) if isinstance(like, relax.DataflowBlock) else relax.BindingBlock(bindings)
