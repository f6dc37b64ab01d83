"""`/problems`: what each problem type means, in both languages; the `type` of every problem points here."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from exchange import MeshError, NotFoundError
from gateway.problems import describe

router = APIRouter(tags=["problems"])


def _tree(error: type[MeshError]) -> list[type[MeshError]]:
    return [error, *(found for child in error.__subclasses__() for found in _tree(child))]


@router.get("/problems")
async def list_problems() -> dict[str, Any]:
    """Every problem type of this mesh."""
    return {"problems": [describe(error) for error in sorted(_tree(MeshError), key=lambda error: error.code)]}


@router.get("/problems/{code}")
async def show_problem(code: str) -> dict[str, Any]:
    """One problem type."""
    for error in _tree(MeshError):
        if error.code == code:
            return describe(error)
    raise NotFoundError(what=f"problem type {code}")
