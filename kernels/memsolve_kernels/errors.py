"""Exceptions whose messages contain what was given, what was expected, and what to do."""


class InputError(ValueError):
    """An invalid argument; the base class of every error that memsolve raises on purpose."""


class ShapeError(InputError):
    """Incompatible shapes, or a wrong number of dimensions."""


class DtypeError(InputError, TypeError):
    """An unsupported type, layout or dtype, or dtypes that differ."""


class DeviceError(InputError):
    """Tensors on different devices, or a device that the backend cannot use."""


class RangeError(InputError):
    """A number outside its valid range."""


class NonFiniteError(InputError):
    """NaN or infinity that would silently corrupt the result."""


class BackendError(InputError):
    """An explicit backend or precision that is not supported here."""
