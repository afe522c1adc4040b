"""Reads the data of a plot back from its SVG, by the labels of the ticks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

Points = list[tuple[float, float]]
SVG = "{http://www.w3.org/2000/svg}"


class Panel:
    """One pair of axes: its texts, and lines, bars and vertical intervals in units of the data."""

    def __init__(self, group: ET.Element, log_x: bool) -> None:
        self.texts = _texts(group)
        (horizontal, vertical) = (_scale(group, axis) for axis in ("x", "y"))
        x = (lambda at: 2 ** horizontal(at)) if log_x else horizontal
        self._point = lambda at: (x(at[0]), vertical(at[1]))
        self.lines = [self._points(path) for path in _drawn(group, "line2d")]
        self.intervals = [self._points(path) for path in _drawn(group, "LineCollection")]
        self.bars = [self._bar(path) for path in _drawn(group, "patch")]

    def _points(self, path: ET.Element) -> Points:
        numbers = re.findall(r"[ML] (\S+) (\S+)", path.attrib["d"])
        return [self._point((float(x), float(y))) for x, y in numbers]

    def _bar(self, path: ET.Element) -> tuple[float, float, float, float]:
        """(left, right, bottom, top)."""
        xs, ys = zip(*self._points(path), strict=True)
        return min(xs), max(xs), min(ys), max(ys)


def panels(figure: str, log_x: bool = False) -> list[Panel]:
    """All axes of a figure; `log_x`: the abscissa is logarithmic, base 2."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(figure, parser)
    groups = [one for one in root.iter(f"{SVG}g") if re.fullmatch(r"axes_\d+", one.get("id", ""))]
    return [Panel(group, log_x) for group in groups]


def _texts(group: ET.Element) -> list[str]:
    return [(one.text or "").strip() for one in group.iter() if one.tag is ET.Comment]


def _drawn(group: ET.Element, kind: str) -> list[ET.Element]:
    """Paths of the data: children of the axes that are clipped to them."""
    named = [one for one in group if one.get("id", "").startswith(f"{kind}_")]
    return [path for one in named for path in one.iter(f"{SVG}path") if "clip-path" in path.attrib]


def _scale(group: ET.Element, axis: str) -> Callable[[float], float]:
    """Place in the figure -> value (of a logarithmic axis its exponent), by the first and last tick."""
    ticks = []
    for one in group.iter(f"{SVG}g"):
        if re.fullmatch(rf"{axis}tick_\d+", one.get("id", "")) and _texts(one):
            (label,) = _texts(one)
            mark = next(use for use in one.iter(f"{SVG}use") if axis in use.attrib)
            power = re.search(r"\^\{(.*?)\}", label)
            value = float(power[1]) if power else float(label.replace("\u2212", "-"))
            ticks.append((float(mark.attrib[axis]), value))
    (first, low), (last, high) = ticks[0], ticks[-1]
    return lambda at: low + (at - first) * (high - low) / (last - first)
