"""A second device for the tests, written in Python: its tensors say `fake:0`.

They compute on the CPU, refuse to meet tensors of the CPU as a graphics card does, and
count what a graphics card makes slow: bytes that cross, and waits. The program waits
where it asks for a value that the device may not have computed yet (`.item()`, `if
tensor:`, a boolean index, a copy to the CPU). Only `conv2d` and `conv_transpose2d` know
`torch.autocast` here.

    second_device.install()  # for the rest of this process; it cannot be undone
    with second_device.watch() as seen:
        net(images.to(second_device.DEVICE))
    print(seen.waits, seen.to_host, seen.places)

The device stays in the process, where it would change what others see (after `fork`,
autograd refuses to work beside it). So the tests have a process of their own:
`test_second_device.py` starts `on_second_device.py`.
"""

import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils import _pytree as tree

NAME = "fake"
PACKAGE = f"{Path(__file__).resolve().parent.parent / 'unet_tutorial'}"
aten = torch.ops.aten
VALUE_NEEDED = {  # the program cannot go on before the device has answered
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
    aten.unique_dim.default,
}
READ = {aten.index.Tensor}
WRITE = {
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
}
_kept = []  # libraries of torch end with their last reference


@dataclass
class Traffic:
    "What happened on the device, and on the way to it."

    waits: int = 0  # how often the program waited for the device
    kernels: int = 0  # operations that were begun
    to_device: int = 0  # bytes
    to_host: int = 0  # bytes
    arrivals: int = 0  # copies to the device
    returns: list = field(default_factory=list)  # (dtype, shape) of copies to the host
    seen: Counter = field(default_factory=Counter)  # kernels by name
    places: Counter = field(default_factory=Counter)  # waits by "file:line text"


_watching = []  # of Traffic


@contextmanager
def watch():  # -> Traffic
    "Count what happens in a block."
    traffic = Traffic()
    _watching.append(traffic)
    try:
        yield traffic
    finally:
        _watching.remove(traffic)


def _wait():
    frames = [f for f in traceback.extract_stack() if f.filename.startswith(PACKAGE)]
    for traffic in _watching:
        traffic.waits += 1
        if frames:
            last = frames[-1]
            place = f"{Path(last.filename).name}:{last.lineno} {last.line}"
            traffic.places[place] += 1


def _arrive(raw):
    for traffic in _watching:
        traffic.arrivals += 1
        traffic.to_device += raw.numel() * raw.element_size()


def _return(raw):
    _wait()
    for traffic in _watching:
        traffic.to_host += raw.numel() * raw.element_size()
        traffic.returns.append((raw.dtype, tuple(raw.shape)))


class OnDevice(torch.Tensor):
    "A tensor that says it is on the second device, around one on the CPU."

    @staticmethod
    def __new__(cls, raw):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
            requires_grad=False,
        )

    def __init__(self, raw):
        self.raw = raw

    def __repr__(self):
        return f"OnDevice({self.raw})"

    def tolist(self):  # torch's own looks into the memory
        _return(self.raw)
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _is_ours(device):
    return device is not None and torch.device(device).type == NAME


def _raw(x):
    if isinstance(x, OnDevice):
        return x.raw
    if isinstance(x, torch.device) and x.type == NAME:
        return torch.device("cpu")
    return x


def _copy(args, kwargs):
    "x.to(...), in any direction."
    x, target = args[0], kwargs.get("device")
    here = isinstance(x, OnDevice)
    stays = here if target is None else _is_ours(target)
    left_out = "device", "pin_memory", "non_blocking", "layout"
    options = {k: v for k, v in kwargs.items() if k not in left_out}
    if here and not stays:
        _return(x.raw)
    if stays and not here:
        _arrive(x)
    new = aten._to_copy.default(_raw(x), **options)
    return OnDevice(new) if stays else new


def _copy_into(target, source):
    "target.copy_(source), in any direction."
    if isinstance(source, OnDevice) and not isinstance(target, OnDevice):
        _return(source.raw)
    if isinstance(target, OnDevice) and not isinstance(source, OnDevice):
        _arrive(source)
    _raw(target).copy_(_raw(source))
    return target


def _refuse_strangers(func, args, kwargs, tensors):
    "Raise the error of a graphics card that meets a tensor of the CPU."
    strangers = [x for x in tensors if x.dim() and not isinstance(x, OnDevice)]
    if func in READ | WRITE:  # torch itself brings a CPU index to the device
        strangers = [x for x in (args[0], *args[2:3]) if any(x is s for s in strangers)]
    if strangers:
        shape = tuple(strangers[0].shape)
        raise RuntimeError(f"{func}: a CPU tensor of shape {shape} meets the device")
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{func}: a CPU generator for a tensor of the device")


def _waits_for(func, args):
    "Whether the size or the course of what follows hangs on values."
    if func in VALUE_NEEDED:
        return True
    if func not in READ | WRITE:
        return False
    masks = any(x is not None and x.dtype == torch.bool for x in args[1])
    return masks and not (func in WRITE and args[2].numel() == 1)  # masked_fill


def _run(func, args, kwargs):
    if func is aten._to_copy.default:
        return _copy(args, kwargs)
    if func is aten.copy_.default:
        return _copy_into(*args[:2])
    tensors = [x for x in tree.tree_leaves((args, kwargs)) if torch.is_tensor(x)]
    _refuse_strangers(func, args, kwargs, tensors)
    if _waits_for(func, args):
        _wait()
    for traffic in _watching:
        traffic.kernels += 1
        traffic.seen[func.name().removeprefix("aten::")] += 1
    raw_args, raw_kwargs = tree.tree_map(_raw, (args, kwargs))
    out = func(*raw_args, **raw_kwargs)
    same = {id(x.raw): x for x in tensors if isinstance(x, OnDevice)}

    def back(x):
        if not torch.is_tensor(x):
            return x
        if id(x) in same:  # it was changed in place
            return same[id(x)]
        return OnDevice(x)

    return tree.tree_map(back, out)


class _Module:
    "What torch asks of `torch.fake`."

    is_available = is_initialized = staticmethod(lambda: True)
    is_autocast_enabled = _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    set_device = manual_seed = manual_seed_all = staticmethod(lambda value: None)
    get_rng_state = staticmethod(lambda device=None: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, device=None: None)

    @staticmethod
    def synchronize(device=None):
        _wait()

    @staticmethod
    def get_amp_supported_dtype():
        return [torch.bfloat16, torch.float16]


def _empty(
    size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None
):
    form = memory_format or torch.contiguous_format
    return OnDevice(torch.empty(size, dtype=dtype, memory_format=form))


def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype))


def _in_few_bits(function):
    "A convolution that obeys torch.autocast."
    key = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def cast(x):
        if torch.is_tensor(x) and x.dtype == torch.float32:
            return x.to(torch.get_autocast_dtype(NAME))
        return x

    def convolution(*args):
        with torch._C._ExcludeDispatchKeyGuard(key):
            return function(*map(cast, args))

    return convolution


def can_be_installed():  # bool
    "Whether this torch lets a device be written in Python."
    import torch.utils.backend_registration as registration

    return hasattr(registration, "_setup_privateuseone_for_python_backend")


def install():
    "Add the device to torch, for the rest of this process."
    global DEVICE
    if _kept:
        return
    import torch.utils.backend_registration as registration

    registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    ours = torch.library.Library("aten", "IMPL")
    ours.impl("empty.memory_format", _empty, "PrivateUse1")
    ours.impl("empty_strided", _empty_strided, "PrivateUse1")
    for name in ("conv2d", "conv_transpose2d.input"):
        operation = getattr(aten, name.split(".")[0])
        ours.impl(name, _in_few_bits(operation), "AutocastPrivateUse1")
    rest = torch.library.Library("_", "IMPL")
    rest.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs), "PrivateUse1")
    rest.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    _kept.extend([ours, rest])
    # net.to(device) shall keep its parameters, which an optimizer may hold
    torch.__future__.set_swap_module_params_on_conversion(True)
    DEVICE = torch.device(NAME, 0)
