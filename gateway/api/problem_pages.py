"""`/problems`: what each problem type means, in both languages; the `type` of every problem points here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path

from ca_auth import EDGE_REFUSALS
from exchange import MeshError, NotFoundError
from gateway.api.openapi import problems
from gateway.problems import describe

router = APIRouter(tags=["problems"])


def _tree(error: type[MeshError]) -> list[type[MeshError]]:
    return [error, *(found for child in error.__subclasses__() for found in _tree(child))]


def problem_page(code: str) -> dict[str, Any] | None:
    """What there is to say about a code, with the rules of the edge that refuse under it; None if it is none of ours."""
    for error in _tree(MeshError):
        if error.code == code:
            rules = {each.rule: each.detail for each in EDGE_REFUSALS if each.code == code}
            return {**describe(error), **({"edge_rules": rules} if rules else {})}
    return None


@router.get("/problems")
async def list_problems() -> dict[str, Any]:
    """Every problem type of this mesh."""
    codes = sorted({error.code for error in _tree(MeshError)})
    return {"problems": [problem_page(code) for code in codes]}


@router.get("/problems/{code}", responses=problems(NotFoundError(what="such problem type", what_zh="该问题类型")))
async def show_problem(code: Annotated[str, Path(examples=["access-denied"])]) -> dict[str, Any]:
    """One problem type: title, status, what to do."""
    page = problem_page(code)
    if page is None:
        raise NotFoundError(what="such problem type", what_zh="该问题类型")
    return page
