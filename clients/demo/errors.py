"""What goes wrong in a demo."""


class DemoError(Exception):
    """A stage of the demo failed; the message says which and why."""


class GalleryError(DemoError):
    """The two paths gave different images."""
