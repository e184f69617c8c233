"""Networks of anyone's as sources. An adapter file needs `from export.adapters import Spec` alone."""

from export.adapters.spec import Spec

__all__ = ["Spec"]
