"""What the API's paths say by themselves, before a handler is found: derived from its routes."""

import re
from collections.abc import Iterable
from typing import Final

from wardgate.portal.rest.routes import Route

ID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{24}")


class Paths:
    """Every path of the API, with its methods."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._templates: dict[str, list[tuple[list[str], str]]] = {}
        callers: dict[tuple[str, str], set[bool]] = {}
        for route in routes:
            segments = route.path.split("/")
            self._templates.setdefault(segments[1], []).append((segments, route.method))
            callers.setdefault(_first_words(route.path), set()).add(route.is_operators)
        self._operators = {words for words, kinds in callers.items() if True in kinds}
        mixed = {words for words in self._operators if False in callers[words]}
        assert not mixed, f"paths of the operator and of accounts begin with the same words: {mixed}"

    @property
    def first_segments(self) -> frozenset[str]:
        return frozenset(self._templates)

    def is_operators(self, path: str) -> bool:
        """Tell whether a path is one that only the operator's token is accepted for, whatever follows its
        noun."""
        return _first_words(path) in self._operators

    def are_ids_valid(self, path: str) -> bool:
        """Tell whether every segment is an id where the API has one; where the API has no such path, there is
        none to be valid."""
        segments = path.split("/")
        fitting = [template for template, _ in self._fitting(segments)]
        # Of `/wardgate/groups/{id}` and `/wardgate/{noun}/{id}` the one with more words is meant.
        most = max((_count_words(template) for template in fitting), default=0)
        return not fitting or any(
            all(
                ID.fullmatch(given)
                for word, given in zip(template, segments, strict=True)
                if _is_parameter(word)
            )
            for template in fitting
            if _count_words(template) == most
        )

    def methods_at(self, path: str) -> list[str]:
        """Return every method that a path has; the framework knows those of one route only."""
        found = {method for _, method in self._fitting(path.split("/"))}
        return sorted(found | ({"HEAD"} if "GET" in found else set()))

    def _fitting(self, segments: list[str]) -> list[tuple[list[str], str]]:
        known = self._templates.get(segments[1], []) if len(segments) > 1 else []
        return [(template, method) for template, method in known if _fits(template, segments)]


def _first_words(path: str) -> tuple[str, str]:
    """Return the first segment, and the second where the first alone says little: all of the portal's own
    begins with `/wardgate`."""
    segments = [*path.split("/"), "", ""]
    return segments[1], segments[2] if segments[1] == "wardgate" else ""


def _fits(template: list[str], segments: list[str]) -> bool:
    return len(template) == len(segments) and all(
        _is_parameter(word) or word == given for word, given in zip(template, segments, strict=True)
    )


def _count_words(template: list[str]) -> int:
    return sum(not _is_parameter(word) for word in template)


def _is_parameter(word: str) -> bool:
    return word.startswith("{")
