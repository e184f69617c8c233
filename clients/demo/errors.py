"""Errors of the demo."""

from ganvas_core.cli import UserError


class DemoError(UserError):
    """A step of the demo failed; the message says which and why."""


class GalleryError(DemoError):
    """The two paths gave different images."""
