"""Checkpoints: a model, and what it takes to train on, in one file. Read after `module.py` and `optim.py`.

The file is safetensors, which holds arrays and text and nothing that could run. The parameters are its tensors
"model.<name>", what the optimiser keeps of parameter i are "optimizer.<i>.<name>", the caller's own arrays "array.<name>",
and the rest (settings, schedule, generator, the caller's metadata) is JSON in its header, under "tinygrad_seq".
Safetensors has no checksum, so we add one over all of that.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from tinygrad_seq import random
from tinygrad_seq.dtypes import Array
from tinygrad_seq.explain import told
from tinygrad_seq.module import Module
from tinygrad_seq.optim import Optimizer, Schedule

FORMAT = 1
DTYPES = {  # safetensors' names for what NumPy has; bfloat16 and the 8-bit floats are not among it
    "F64": "f8", "F32": "f4", "F16": "f2", "BOOL": "b1",
    "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1",
}  # fmt: skip


class CheckpointError(ValueError):
    """A file that is no checkpoint, is damaged, or belongs to another model."""


def save(
    path: str | os.PathLike[str],
    module: Module,
    optimizer: Optimizer | None = None,
    metadata: Any = None,
    *,
    schedule: Schedule | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> None:
    """Write a module to a file, and with it, where given, the state of its training.

    The file appears at once: it is written beside its place under another name (`.<name>.<random>.tmp`), flushed to the disk and
    then renamed. Whatever happens on the way, the file that was there before stays as it was. A process that is killed may leave
    the other one behind, which may be deleted.

    Args:
        path: the file, by convention `*.safetensors`.
        module: its parameters and buffers are saved.
        optimizer: is saved with all that it keeps.
        metadata: anything that JSON can hold (epoch, vocabulary, ...); `load` gives it back, tuples as lists.
        schedule: the learning-rate schedule, is saved where it stands.
        arrays: others to put into the file, by name; `peek` gives them back.

    The state of the engine's random generator is always saved.

    Raises:
        TypeError: something of another kind, metadata that JSON cannot hold, or an array of a dtype that safetensors cannot.
        OSError: the file cannot be written; FileNotFoundError if its folder is not there.
    """
    _refuse_strangers("save", module, optimizer, schedule)
    if not isinstance(arrays, Mapping | None):
        raise TypeError(f"arrays are given by name, as a dict, and not as {told(arrays)}")
    refuse_missing_folder(path)
    tensors = {f"model.{name}": array for name, array in module.state_dict().items()}
    tensors |= {f"array.{name}": np.asarray(array) for name, array in (arrays or {}).items()}
    header: dict[str, Any] = {"format": FORMAT, "metadata": metadata, "generator": random.get_state()}
    if optimizer is not None:
        header["optimizer"], kept = _apart(optimizer.state_dict())
        tensors |= kept
    if schedule is not None:
        header["schedule"] = schedule.state_dict()
    for name, array in tensors.items():
        if f"{array.dtype.kind}{array.dtype.itemsize}" not in DTYPES.values():
            cure = "text goes into metadata" if array.dtype.kind in "US" else "convert it first (Module.to)"
            raise TypeError(f"{name} is {array.dtype}, which a safetensors file cannot hold; {cure}")
    try:
        text = json.dumps(header)
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be what JSON can hold, numbers and text in lists and dicts: {error}") from error
    tensors = {name: array.astype(array.dtype.newbyteorder("=")) for name, array in tensors.items()}
    _write_at_once(path, safetensors.numpy.save(tensors, {"tinygrad_seq": text, "sha256": _digest(text, tensors)}))


def load(
    path: str | os.PathLike[str],
    module: Module,
    optimizer: Optimizer | None = None,
    *,
    schedule: Schedule | None = None,
) -> Any:
    """Read what `save` wrote into a module of the same making. All or nothing: on an error, nothing has been changed.

    With an `optimizer`, training is resumed: its state and that of the engine's random generator are restored too, and the
    run goes on bit for bit as if it had never stopped. Without, only the module is touched.

    Args:
        path: the file.
        module: has the same names, shapes and dtypes as the one that was saved.
        optimizer: of the same kind, for the same parameters.
        schedule: of the same kind.

    Returns:
        The metadata that `save` was given.

    Raises:
        CheckpointError: the file is no checkpoint, is damaged, or does not fit; the message says how.
        OSError: the file cannot be read.
        TypeError: something of another kind.
    """
    _refuse_strangers("load", module, optimizer, schedule)
    header, tensors = _read(Path(path))
    try:
        state = module.fitting({name[len("model.") :]: array for name, array in tensors.items() if name.startswith("model.")})
        state_of_optimizer = None if optimizer is None else optimizer.fitting(_together(_part(header, "optimizer"), tensors))
        state_of_schedule = None if schedule is None else schedule.fitting(_part(header, "schedule"))
        state_of_generator = _part(header, "generator")
        random.started_from(state_of_generator)  # raises if it is not one
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    module.take_over(state)
    if optimizer is not None and state_of_optimizer is not None:
        optimizer.take_over(state_of_optimizer)
        random.set_state(state_of_generator)
    if schedule is not None and state_of_schedule is not None:
        schedule.take_over(state_of_schedule)
    return header.get("metadata")


def refuse_missing_folder(path: str | os.PathLike[str]) -> None:
    """Raise unless a file can stand at this path: a FileNotFoundError if there is no folder for it, or it is one itself."""
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for {target.name}; make it first, with os.makedirs")
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder; a file is needed, such as {target / 'model.safetensors'}")


def peek(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Array]]:
    """What a checkpoint tells besides parameters and state: its metadata, by which to make a fitting module, and extra arrays.

    Args:
        path: the file.

    Returns:
        The metadata and the arrays that `save` was given.

    Raises:
        CheckpointError: the file is no checkpoint, or it is damaged.
        OSError: the file cannot be read.
    """
    header, tensors = _read(Path(path))
    return header.get("metadata"), {
        name.removeprefix("array."): array for name, array in tensors.items() if name.startswith("array.")
    }


def _refuse_strangers(what: str, module: Any, optimizer: Any, schedule: Any) -> None:
    """Raise a TypeError on arguments of another kind."""
    call = f"{what}(path, module, optimizer)"
    if not isinstance(module, Module):
        raise TypeError(f"{call} takes a module, not {told(module)}")
    if not isinstance(optimizer, Optimizer | None):
        by_name = "; metadata is given by name, metadata=..." if what == "save" else ""
        raise TypeError(f"{call} takes an optimiser, one of tg.optim, not {told(optimizer)}{by_name}")
    if not isinstance(schedule, Schedule | None):
        raise TypeError(f"schedule is one of the schedules in tg.optim, not {told(schedule)}")


# ---- the optimiser's state: plain data into the header, arrays beside the model's -------------------------------------


def _apart(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    """An optimiser's state without its arrays, and the arrays by name: `optimizer.<i>.<name>`."""
    plain: list[dict[str, Any]] = [{} for _ in state["kept"]]
    arrays = {}
    for i, kept in enumerate(state["kept"]):
        for name, value in kept.items():
            if isinstance(value, np.ndarray):
                arrays[f"optimizer.{i}.{name}"] = value
            else:
                plain[i][name] = value
    return {**state, "kept": plain}, arrays


def _together(state: dict[str, Any], tensors: Mapping[str, Array]) -> dict[str, Any]:
    """The inverse of `_apart`."""
    kept = state.get("kept")
    if not isinstance(kept, list) or not all(isinstance(one, dict) for one in kept):
        raise ValueError("the optimiser's state is malformed")
    whole = [dict(one) for one in kept]
    for name, array in tensors.items():
        owner, _, rest = name.partition(".")
        number, _, key = rest.partition(".")
        if owner == "optimizer":
            if not number.isdecimal() or int(number) >= len(whole):
                raise ValueError(f"there is no parameter for {name}")
            whole[int(number)][key] = array
    return {**state, "kept": whole}


def _part(header: dict[str, Any], name: str) -> dict[str, Any]:
    part = header.get(name)
    if not isinstance(part, dict):
        raise ValueError(f"the file was saved without {name}" if part is None else f"the {name} in it is malformed")
    return part


# ---- the file -------------------------------------------------------------------------------------------------------


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The header and the tensors of a checkpoint, complete and unharmed."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            texts = file.metadata() or {}
            names = list(file.keys())
            foreign = [f"{name} ({kind})" for name in names if (kind := file.get_slice(name).get_dtype()) not in DTYPES]
            if foreign:
                raise CheckpointError(f"{path} has tensors of dtypes that NumPy lacks: {', '.join(foreign)}; convert them first")
            tensors = {name: file.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is no checkpoint, or it is damaged: {error}") from error
    if not {"tinygrad_seq", "sha256"} <= texts.keys():
        raise CheckpointError(
            f"{path} was not written by tinygrad_seq.save; "
            "for bare weights, use module.load_state_dict(safetensors.numpy.load_file(path))"
        )
    text = texts["tinygrad_seq"]
    if _digest(text, tensors) != texts["sha256"]:
        raise CheckpointError(f"{path} is damaged: its checksum does not match its contents")
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a malformed header: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path} is of a format that this version does not read; it reads format {FORMAT}")
    return header, tensors


def _digest(text: str, tensors: Mapping[str, Array]) -> str:
    """SHA-256 over the header's text and over name, dtype, shape and bytes of every tensor, in order of the names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _write_at_once(path: str | os.PathLike[str], data: bytes) -> None:
    """Replace a file by new contents, so that at every moment the whole old or the whole new ones are there."""
    target = Path(os.path.realpath(path))  # a link stays one, and what it points to is replaced
    beside = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except BaseException:
        with suppress(FileNotFoundError):
            beside.unlink()
        raise
    if os.name == "posix":  # the new name must reach the disk as well
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
