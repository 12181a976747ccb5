"""An extension of griffe: roles of reStructuredText in docstrings become links, and plain code where there is no page."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:func|class|meth|data|attr|mod|exc):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Turns the roles of every docstring into links."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change one object's docstring.

        Parameters
        ----------
        obj : griffe.Object
            Module, class, function or attribute.
        """
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(lambda match: as_link(match[2], obj), obj.docstring.value)


def as_link(target: str, obj: griffe.Object) -> str:
    """A link that is plain code where the site has no such object.

    Parameters
    ----------
    target : str
        Of the role.
    obj : griffe.Object
        In whose docstring it stands.

    Returns
    -------
    str
        HTML.
    """
    name = target.rpartition(".")[2]
    module = obj.module.path
    full = target if target.startswith("mrlinac.") else f"{module}.{target}"
    return f'<autoref identifier="{full}" optional><code>{name}</code></autoref>'
