"""Reading ``.pt2`` archives; those that would run code while they are loaded are refused.

``torch.export.load`` (2.13) unpickles with ``weights_only=False`` where a payload asks for it
and where the sample inputs do not load otherwise, evaluates symbolic expressions with
``sympy.sympify``, imports modules that a tree description names, loads AOTInductor libraries,
and later executes Python text made of the names and guards in ``models/model.json``. So
everything in the archive is compared with what ``torch.export.save`` writes for a program of
plain tensors and PyTorch operators, before PyTorch reads it.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import math
import re
import zipfile
from typing import TYPE_CHECKING, Any

from skipc.compiler.errors import CheckpointError
from skipc.compiler.extras import require
from skipc.runtime.errors import sentence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from torch.export import ExportedProgram

MAX_JSON_BYTES = 512 * 1024 * 1024
"""The description of a program of a million operators stays below this."""

_WEIGHTS_CONFIG = "data/weights/model_weights_config.json"
_CONSTANTS_CONFIG = "data/constants/model_constants_config.json"
_SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_OLD_WEIGHTS = "data/weights/model.pt"
_OLD_CONSTANTS = "data/constants/model.pt"
_ARTIFACTS = (_SAMPLE_INPUTS, _OLD_WEIGHTS, _OLD_CONSTANTS)
"""Pickles that PyTorch tries with ``weights_only=True`` first; then they must load so."""

_MODEL = "models/model.json"
_RECORDS = re.compile(
    r"data/weights/weight_\d+|data/constants/tensor_\d+|extra/.*"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id)"
)
_PAYLOAD = re.compile(r"weight_\d+|tensor_\d+")

_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|onnx|onnx_symbolic|_c10d_functional)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.\w+"
    r"|_operator\.\w+|math\.\w+|torch\.sym_\w+|torch\._sym_\w+|#\w*"
    r"|torch\._C\._set_grad_enabled|torch\.amp\.autocast_mode\._(enter|exit)_autocast"
)
_FILE_OPERATORS = re.compile(r"torch\.ops\.aten\.(from_file|save|load)\b")
_NAME = re.compile(r"[\w.\-]*")
_IDENTIFIER_KEYS = {"name", "as_name", "forward_arg_names", "field_names", "arg_names"}
_IDENTIFIER = re.compile(r"\w*")
_FREE_TEXT_KEYS = {"as_string", "as_strings", "torch_version"}
"""Their text is only ever quoted, never part of generated Python."""

_FUNCTION = re.compile(
    r"Symbol|Integer|Rational|Float|Add|Mul|Pow|Abs|Max|Min|Mod|floor|ceiling|sqrt|log"
    r"|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Where|Piecewise|Equality|Unequality|(Strict)?LessThan"
    r"|(Strict)?GreaterThan|FloorDiv|CleanDiv|CeilDiv|PythonMod|ModularIndexing|[LR]Shift"
    r"|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|ToFloat|(Floor|Ceil|Trunc|Round)ToInt"
    r"|TruncToFloat|RoundDecimal|Identity|IsNonOverlappingAndDenseIndicator"
)
_POWERS = ("Pow", "PowByNatural", "FloatPow", "LShift")
_MAX_EXPRESSION = 4096
"""Characters of an expression, and bits of the largest number that it can stand for."""

_NUMBERS = ("Integer", "Rational", "Float")

_SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9]*(_\w+)?")
_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Constant, ast.Name),
    *(ast.Call, ast.keyword, ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


def program_from_file(path: Path, content: bytes | None = None) -> ExportedProgram:
    """Returns the program in a ``.pt2`` archive, whose bytes may be given as ``content``.

    Raises:
        CheckpointError: The archive could run code, is damaged, or of another torch version.
    """
    import torch

    model = check_program_archive(path, content)
    # PyTorch must know the class of an output, which the program refers to by name. Only this
    # module of this library is imported, whatever the name.
    if b"transformers.modeling_outputs." in model:
        require("transformers.modeling_outputs", "dev")
    # It logs a traceback before it raises, which says nothing more to the user.
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        return torch.export.load(path if content is None else io.BytesIO(content))
    # The deserializer raises whatever its asserts and look-ups raise.
    except Exception as cause:
        raise CheckpointError(
            f"{path}: torch {torch.__version__} cannot load this program:"
            f" {type(cause).__name__}: {sentence(_first_line(cause))} Export it again with"
            " this version."
        ) from cause
    finally:
        logger.setLevel(level)


def check_program_archive(path: Path, content: bytes | None = None) -> bytes:
    """Returns the description in a ``.pt2``, after checking that loading it runs nothing.

    Raises:
        CheckpointError: The archive holds something that could run code, or is damaged.
    """
    import torch

    try:
        reader: Any = torch._C.PyTorchFileReader(
            str(path) if content is None else io.BytesIO(content)
        )
        records = list(reader.get_all_records())
        with zipfile.ZipFile(path if content is None else io.BytesIO(content)) as archive:
            _check_records(path, records, archive.infolist())
        for config in {_WEIGHTS_CONFIG, _CONSTANTS_CONFIG} & set(records):
            _check_payloads(path, config, _json(path, reader, config))
        document = _json(path, reader, _MODEL)
        if not isinstance(document, dict):
            raise _refused(path, f"{_MODEL!r} is not an object")
        _check_value(path, document, "")
        for name in set(_ARTIFACTS) & set(records):
            _check_artifact(path, name, bytes(reader.get_record(name)))
        return bytes(reader.get_record(_MODEL))
    except RuntimeError as cause:
        raise CheckpointError(
            f"{path}: damaged torch.export archive: {sentence(_first_line(cause))} Export it"
            " again."
        ) from cause


def _check_records(path: Path, records: list[str], entries: list[zipfile.ZipInfo]) -> None:
    """Checks the record names, and that ``zipfile`` sees the same ones as PyTorch."""
    known = {_WEIGHTS_CONFIG, _CONSTANTS_CONFIG, _MODEL, *_ARTIFACTS}
    for name in records:
        if name not in known and not _RECORDS.fullmatch(name):
            raise _refused(path, f"it holds {name!r}")
    needed = (
        (_MODEL,),
        (_SAMPLE_INPUTS,),
        (_WEIGHTS_CONFIG, _OLD_WEIGHTS),
        (_CONSTANTS_CONFIG, _OLD_CONSTANTS),
    )
    missing = [names[0] for names in needed if not set(names) & set(records)]
    if missing:
        raise CheckpointError(
            f"{path}: the torch.export archive has no {missing[0]!r}. Export it again with"
            " torch.export.save(program, 'model.pt2')."
        )
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _refused(path, "its records are compressed")
    # PyTorch falls back to zipfile for archives of its old form, so both views must agree.
    seen = sorted(entry.filename.partition("/")[2] for entry in entries)
    if seen != sorted(records) or len(set(seen)) < len(seen):
        raise _refused(path, "its table of contents is ambiguous")


def _check_payloads(path: Path, config: str, document: object) -> None:
    entries = document.get("config") if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise _refused(path, f"{config!r} has no 'config'")
    for name, entry in entries.items():
        payload = entry.get("path_name") if isinstance(entry, dict) else None
        if not isinstance(payload, str) or not _PAYLOAD.fullmatch(payload):
            raise _refused(path, f"{name!r} lies in {payload!r}")
        if entry.get("use_pickle") is not False:
            raise _refused(path, f"{name!r} is pickled")


def _check_artifact(path: Path, name: str, data: bytes) -> None:
    import torch

    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as cause:
        raise _refused(path, f"{name!r} holds Python objects") from cause


def _check_value(path: Path, value: object, key: str) -> None:
    """Checks every text in ``models/model.json`` by the key it stands under."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if key == "range_constraints":
                _check_expression(path, name, _in_expression)
            elif not _NAME.fullmatch(name):
                raise _refused(path, f"the name {name!r}")
            if key != "metadata":
                _check_value(path, inner, name)
    elif isinstance(value, list):
        for inner in value:
            _check_value(path, inner, key)
    elif isinstance(value, str):
        _check_text(path, value, key)


def _check_text(path: Path, text: str, key: str) -> None:
    if key in _FREE_TEXT_KEYS:
        return
    if key == "expr_str":
        _check_expression(path, text, _in_expression)
    elif key == "guards_code":
        _check_expression(path, text, _in_guard)
    elif key in ("in_spec", "out_spec"):
        _check_tree(path, text)
    elif key in ("target", "as_operator"):
        if not _OPERATOR.fullmatch(text) or _FILE_OPERATORS.match(text):
            raise _refused(path, f"it calls {text!r}, which is no operator of PyTorch")
    elif not (_IDENTIFIER if key in _IDENTIFIER_KEYS else _NAME).fullmatch(text):
        raise _refused(path, f"{key!r} is {text!r}")


def _check_tree(path: Path, text: str) -> None:
    """Checks a pytree description: JSON, whose contexts are JSON once more."""
    try:
        tree = json.loads(text) if text else None
    except ValueError as cause:
        raise _refused(path, f"the tree {text!r}") from cause
    for inner in _texts(tree):
        if inner in ("collections.defaultdict", "__enum__"):
            raise _refused(path, f"a tree with {inner!r}, which imports modules by name")
        if inner[:1] in ("{", "[", '"'):
            _check_tree(path, inner)
        elif not _NAME.fullmatch(inner):
            raise _refused(path, f"a tree with {inner!r}")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _check_expression(path: Path, text: str, allowed: Callable[[ast.AST], bool]) -> None:
    """Checks an expression that PyTorch evaluates, by its syntax tree."""
    error = _refused(path, f"the expression {text[:200]!r}")
    if len(text) > _MAX_EXPRESSION:
        raise error
    # A comment or a line break would be no node of the tree.
    if any(mark in text for mark in "#\\\n\r"):
        raise error
    try:
        tree = ast.parse(text, mode="eval")
        wrong = not all(allowed(node) for node in ast.walk(tree))
        wrong = wrong or _bits(tree) > _MAX_EXPRESSION
    except (SyntaxError, ValueError, ArithmeticError, MemoryError, RecursionError) as cause:
        raise error from cause
    if wrong:
        raise error


def _bits(node: ast.AST) -> float:
    """Returns how many bits the value of an allowed expression has at most.

    Only powers and shifts grow faster than the text does; their exponents must be numbers.
    """
    if isinstance(node, ast.Constant):
        number = node.value if isinstance(node.value, (int, float)) else 2**63
        return math.log2(abs(number) + 2)  # infinite for 1e999
    if isinstance(node, ast.Name):
        return 63.0
    function = getattr(node, "func", None)
    grows = isinstance(getattr(node, "op", None), (ast.Pow, ast.LShift))
    operands: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):
        grows = isinstance(function, ast.Name) and function.id in _POWERS
        operands = [*node.args, *(keyword.value for keyword in node.keywords)]
        if grows and node.keywords:
            return math.inf
    elif isinstance(node, ast.BinOp):
        operands = [node.left, node.right]
    if not grows:
        return max(1.0, sum(_bits(operand) for operand in operands))
    if len(operands) < 2:
        return math.inf
    base, exponent = operands[:2]
    if any(
        isinstance(each, ast.Name) and each.id not in _NUMBERS for each in ast.walk(exponent)
    ):
        return math.inf
    return _bits(base) * 2 ** _bits(exponent)


def _in_expression(node: ast.AST) -> bool:
    """Returns whether a node may be part of a symbolic shape."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and bool(_FUNCTION.fullmatch(node.func.id))
    if isinstance(node, ast.Constant):
        # sympy evaluates text once more: only the name of a symbol may be one.
        text = node.value if isinstance(node.value, str) else None
        plain = isinstance(node.value, (bool, int, float))
        return plain or (text is not None and _SYMBOL.fullmatch(text) is not None)
    if isinstance(node, ast.Name):
        return _SYMBOL.fullmatch(node.id) is not None
    return isinstance(node, _NODES)


def _in_guard(node: ast.AST) -> bool:
    """Returns whether a node may be part of a guard, such as ``L['x'].size()[0] <= 16``."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return not node.args and not node.keywords
    if isinstance(node, ast.Attribute):
        return node.attr in ("size", "stride", "storage_offset")
    return isinstance(node, ast.Subscript) or _in_expression(node)


def _json(path: Path, reader: Any, record: str) -> object:
    data = bytes(reader.get_record(record))
    if len(data) > MAX_JSON_BYTES:
        raise _refused(path, f"{record!r} has {len(data)} bytes")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as cause:
        raise CheckpointError(
            f"{path}: damaged torch.export archive: {record!r} is not JSON: {cause}."
            " Export it again."
        ) from cause
    return value


def _refused(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: refused, since loading it could run code from the file: {what}. Expected a"
        " program of plain tensors and PyTorch operators, as torch.export.save writes it."
        " Export it again without custom objects and operators, or give weights and --model."
    )


def _first_line(cause: BaseException) -> str:
    return (str(cause).splitlines() or [type(cause).__name__])[0]
