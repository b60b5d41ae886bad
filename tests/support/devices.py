"""A device that every machine has: its tensors are computed on the CPU, and refuse those of the CPU as a GPU's do."""

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

AWAY = torch.device("meta")  # autograd needs no other thread for it
INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_")  # these take places from the CPU, as CUDA's do
BETWEEN_DEVICES = ("_to_copy", "copy_")


class Away(torch.Tensor):
    """A tensor that says that it is on ``AWAY`` and keeps its numbers in ``here``."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, here.size(), device=AWAY, **layout)

    def __init__(self, here):
        self.here = here

    def tolist(self):
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """``torch.tensor`` makes what is asked for on this device without telling a dispatch mode the numbers."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.tensor and kwargs.get("device") == AWAY:
            return func(*args, **kwargs | {"device": "cpu"}).to(AWAY)
        return func(*args, **kwargs)


@contextmanager
def away():
    """Inside this block tensors are made on ``AWAY`` where they are asked for there."""
    with _Made(), _Literals():
        yield


class _Made(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    name, tensors = (
        func.overloadpacket.__name__,
        [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)],
    )
    there = any(isinstance(v, Away) for v in tensors)
    if there and name not in BETWEEN_DEVICES:
        _refuse(name, args, tensors)
    given = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if given == AWAY and getattr(kwargs.get("generator"), "device", AWAY) != AWAY:
        raise RuntimeError(f"{name}: expected a generator of {AWAY}")
    kwargs = kwargs | ({"device": "cpu"} if given == AWAY else {})
    out = func(*_here(args), **_here(kwargs))
    if name.endswith("_"):
        return args[0]
    stays = given == AWAY if given else there and name != "_local_scalar_dense"
    return tree_map_only(torch.Tensor, Away, out) if stays else out


def _here(values):
    return tree_map_only(Away, lambda v: v.here, values)


def _refuse(name, args, tensors):
    if name in INDEXING and isinstance(args[0], Away):
        tensors = [args[0], *args[2:3]]
    scalars_too = name in ("cat", "stack")
    if any(not isinstance(v, Away) and (v.ndim or scalars_too) for v in tensors if isinstance(v, torch.Tensor)):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, but found {AWAY} and cpu")
