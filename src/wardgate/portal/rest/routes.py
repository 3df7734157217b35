"""The routes of one noun, each declared with everything that the rest of the API must know of it.

The pipeline asks a route's path whose call it is and where its ids are; the document adds to what the
framework finds out what a handler does with versions, places and missing objects. All of that is said once,
where the handler is, and derived from there.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute

from wardgate.portal.rest.caller import ForOperator

_HandlerT = TypeVar("_HandlerT", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path.

    Attributes:
        path: with its parameters in braces.
        is_operators: only the operator's token is accepted; else an account's API token.
        is_versioned: a GET, PUT or PATCH answers with `ETag`, and what changes anything honours `If-Match`.
        makes_object: the answer has the new object's address in `Location`, and its version in `ETag`.
        required: names of query parameters that must be given; the handler checks them, to explain what is
            missing.
        may_find_nothing: answers with 404 although there is no id in the path.
    """

    method: str
    path: str
    is_operators: bool
    is_versioned: bool
    makes_object: bool
    required: frozenset[str]
    may_find_nothing: bool


class Routes:
    """Where handlers of one noun are registered.

    Args:
        noun: the first word of the operations' ids.
        prefix: what all paths begin with.
        tag: under which the document lists the operations.
        is_documented: whether it lists them at all.
    """

    def __init__(
        self, noun: str, prefix: str = "", *, tag: str | None = None, is_documented: bool = True
    ) -> None:
        self._noun = noun
        self._prefix = prefix
        self._tag = tag
        self._registered: list[Route] = []
        self.router = APIRouter(
            prefix=prefix,
            include_in_schema=is_documented,
            generate_unique_id_function=self._operation_id,
        )

    def __iter__(self) -> Iterator[Route]:
        return iter(self._registered)

    @property
    def first_segments(self) -> frozenset[str]:
        return frozenset(route.path.split("/")[1] for route in self._registered)

    def get(self, path: str, **declared: Any) -> Callable[[_HandlerT], _HandlerT]:
        """Register a handler of GET; `declared` as of `add`."""
        return self._registering(["GET"], path, declared)

    def post(self, path: str, **declared: Any) -> Callable[[_HandlerT], _HandlerT]:
        """Register a handler of POST, which answers with 201."""
        return self._registering(["POST"], path, declared)

    def put(self, path: str, **declared: Any) -> Callable[[_HandlerT], _HandlerT]:
        """Register a handler of PUT, which replaces the whole."""
        return self._registering(["PUT"], path, declared)

    def patch(self, path: str, **declared: Any) -> Callable[[_HandlerT], _HandlerT]:
        """Register a handler of PATCH, which differs from that of PUT."""
        return self._registering(["PATCH"], path, declared)

    def edit(self, path: str, **declared: Any) -> Callable[[_HandlerT], _HandlerT]:
        """Register a handler of PATCH and PUT, which mean the same of most objects: a merge patch (rest-api
        §3)."""
        return self._registering(["PATCH", "PUT"], path, declared)

    def delete(self, path: str, **declared: Any) -> Callable[[_HandlerT], _HandlerT]:
        return self._registering(["DELETE"], path, declared)

    def add(
        self,
        method: str,
        path: str,
        handler: Callable[..., Any],
        *,
        tag: str | None = None,
        is_versioned: bool = False,
        makes_object: bool = False,
        required: Sequence[str] = (),
        may_find_nothing: bool = False,
        **of_framework: Any,
    ) -> None:
        """Register a handler of one method.

        Args:
            tag: beside that of all routes.
            of_framework: what `APIRouter.add_api_route` takes.
        """
        if method == "POST":
            of_framework["status_code"] = HTTPStatus.CREATED
        tags: list[str | Enum] = [one for one in (self._tag, tag) if one is not None]
        self.router.add_api_route(path, handler, methods=[method], tags=tags, **of_framework)
        caller = inspect.signature(handler).parameters.get("caller")
        self._registered.append(
            Route(
                method=method,
                path=self._prefix + path,
                is_operators=caller is not None and caller.annotation is ForOperator,
                is_versioned=is_versioned,
                makes_object=makes_object,
                required=frozenset(required),
                may_find_nothing=may_find_nothing,
            )
        )

    def _registering(
        self, methods: Sequence[str], path: str, declared: dict[str, Any]
    ) -> Callable[[_HandlerT], _HandlerT]:
        def register(handler: _HandlerT) -> _HandlerT:
            for method in methods:
                self.add(method, path, handler, **declared)
            return handler

        return register

    def _operation_id(self, route: APIRoute) -> str:
        (method,) = route.methods or {"get"}
        return f"{self._noun}.{route.name}.{method.lower()}"
