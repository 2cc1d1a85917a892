"""How do I use it with FastAPI?

The orchestrator starts and stops with the application. A handler awaits a run like anything else: the event loop goes
on meanwhile, and where the client does not wait that long, the run goes on all the same.
"""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from fastapi.testclient import TestClient

from py_orchestrate import Orchestrator, activity, workflow
from py_orchestrate.errors import WorkflowNotFoundError


@activity
async def translate(word: str) -> str:
    return {"tea": "Tee", "cake": "Kuchen"}[word]


@workflow
async def translate_all(text: str) -> str:
    return " ".join([await translate.submit(word) for word in text.split()])


def application(database: Path) -> FastAPI:
    orchestrator = Orchestrator(database)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with orchestrator:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/translations/{name}")
    async def begin(name: str, text: str) -> dict[str, Any]:
        run = orchestrator.start_workflow(translate_all, text, workflow_id=name)
        try:
            return {"id": run.id, "text": await run.result_async(timeout=5)}
        except TimeoutError:
            return {"id": run.id, "text": None}  # ask again later

    @app.get("/translations/{name}")
    async def read(name: str) -> dict[str, Any]:
        try:
            return await orchestrator.wait_async(name, timeout=5)
        except WorkflowNotFoundError as error:
            raise HTTPException(404, str(error)) from None

    return app


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, TestClient(application(Path(folder, "translations.db"))) as client:
        print(client.post("/translations/menu", params={"text": "tea cake"}).json())
        found = client.get("/translations/menu").json()
        print(found["status"], found["output"])
        print(client.get("/translations/nothing").status_code)


if __name__ == "__main__":
    main()
