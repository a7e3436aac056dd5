"""HTML pages from templates: what they all share."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from topwork.words import counted

if TYPE_CHECKING:
    import jinja2


def render(template: str, *, title: str, **values: Any) -> str:
    """A page whose body is a template of this package; every value is escaped but those the template calls safe."""
    body = _template(template).render(**values) + "\n"
    return _template("page.html").render(title=title, style=_text("style.css"), body=body) + "\n"


def unbroken(text: str) -> str:
    """`text` with each number on one line with its per cent sign."""
    return text.replace(" %", "\u00a0%")


@cache
def _template(name: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["path"] = _breakable
    environment.filters["counted"] = counted
    environment.filters["percent"] = lambda value, digits=1: unbroken(f"{100 * value:.{digits}f} %")
    return environment.from_string(_text(name))


def _breakable(path: str) -> str:
    """`path`, escaped; a line may end after its slashes."""
    from markupsafe import Markup, escape

    return Markup("/<wbr>").join(escape(part) for part in path.split("/"))


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")
