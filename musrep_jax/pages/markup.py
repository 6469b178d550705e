"""HTML as values: text is escaped, markup stays as it is.

A template language would do the same for a package more to install; these pages are two.
"""

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

from musrep_jax.runtime.files import to_json_safe

VOID_ELEMENTS = ("meta", "link", "input", "br")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Returns an element.

    >>> element("td", "a < b", class_="number", data_value=0.5, hidden=False)
    '<td class="number" data-value="0.5">a &lt; b</td>'

    Args:
        name: of the element.
        *children: text, which is escaped, `Markup`, or sequences of these; None is left out.
        **attributes: `class_` stands for class, underscores for hyphens; None and False are left
            out, True has no value.
    """
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.removesuffix("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{html.escape(str(value))}"')
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening if name in VOID_ELEMENTS else f"{opening}{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Markup:
    """Returns the children one after the other.

    Args:
        children: as in `element`.
    """
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(child))
        elif child is not None:
            parts.append(html.escape(str(child), quote=False))
    return Markup("".join(parts))


def table(
    caption: str,
    heads: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Any]],
    *,
    class_: str | None = None,
) -> Markup:
    """Returns a table whose first column heads its rows.

    Args:
        caption: what it shows.
        heads: title and kind of every column; of the kinds "text" and "number", the latter to the
            right.
        rows: cells from left to right: text, `Markup`, or `(shown, value to sort by)`.
        class_: of the table, "sortable" for one that JavaScript may sort and filter.
    """
    kinds = [kind if kind == "number" else None for _, kind in heads]
    head = [
        element("th", title, scope="col", class_=kind)
        for (title, _), kind in zip(heads, kinds, strict=True)
    ]
    lines = []
    for row in rows:
        cells = []
        for place, (cell, kind) in enumerate(zip(row, kinds, strict=True)):
            shown, value = cell if isinstance(cell, tuple) else (cell, None)
            name, scope = ("td", None) if place else ("th", "row")
            cells.append(element(name, shown, scope=scope, class_=kind, data_value=value))
        lines.append(element("tr", cells))
    return element(
        "div",
        element(
            "table",
            element("caption", caption),
            element("thead", element("tr", head)),
            element("tbody", lines),
            class_=class_,
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def facts(pairs: Iterable[tuple[str, Any]]) -> Markup:
    """Returns a description list.

    Args:
        pairs: name and text or `Markup`; those without are left out.
    """
    listed = [(name, value) for name, value in pairs if value not in (None, "")]
    inside = [(element("dt", name), element("dd", value)) for name, value in listed]
    return element("dl", inside, class_="facts")


def data_block(name: str, value: Any) -> Markup:
    """Returns values for the page's JavaScript; nothing in them ends the block or is run.

    Args:
        name: `id` of the block.
        value: plain data; numbers that are not finite become null.
    """
    text = json.dumps(to_json_safe(value), ensure_ascii=False, separators=(",", ":"))
    safe = Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))
    return element("script", safe, type="application/json", id=name)
