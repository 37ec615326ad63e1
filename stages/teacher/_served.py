"""Which models an endpoint serves, asked before the first question so that a wrong name costs nothing.

Source: OpenAI API reference, list models (GET /models): {"data": [{"id": "gpt-4o-mini"}, …]}.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

import orjson

from kpod.stages.teacher._endings import Reached, not_served, refused_us
from kpod.stages.teacher._replies import Failure, failure_of

if TYPE_CHECKING:
    from kpod.stages.teacher._key import Key
    from kpod.stages.teacher._replicas import Replica, Replicas

_DEADLINE_S = 30.0


async def check_served(
    replicas: Replicas, *, model: str, key: Key, deadline_s: float, reached: Reached
) -> dict[str, str]:
    """Ask every server for its models.

    Returns:
        Why a server could not be checked, by URL; the requests will tell.

    Raises:
        StageError: a server does not list the model, or refuses our key.
    """
    wait_s = min(deadline_s, _DEADLINE_S)
    found = await asyncio.gather(
        *(_models(replica, key, deadline_s=wait_s) for replica in replicas.all)
    )
    unchecked: dict[str, str] = {}
    for replica, models in zip(replicas.all, found, strict=True):
        if isinstance(models, Failure):
            if models.reason in {"401", "403"}:
                raise refused_us(models, url=replica.url, key=key, model=model, reached=reached)
            unchecked[replica.url] = models.reason
        elif not models:
            unchecked[replica.url] = "no_list"
        elif not {model, f"{model}:latest"} & set(models):  # Ollama's way to say any version
            raise not_served(model, url=replica.url, served=models)
    return unchecked


async def _models(replica: Replica, key: Key, *, deadline_s: float) -> list[str] | Failure:
    """Names of the models that a server lists, or why it does not."""
    try:
        async with asyncio.timeout(deadline_s):
            said = await replica.client.get("/models", cast_to=str)
        answer = orjson.loads(said)
    except Exception as error:  # noqa: BLE001 - what is no failure of the endpoint is raised again
        return failure_of(error, key=key.value)
    listed = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(listed, list):
        return []
    return [str(model["id"]) for model in listed if isinstance(model, Mapping) and "id" in model]
