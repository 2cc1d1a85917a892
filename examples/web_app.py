"""How do I use it in a web application?

One orchestrator for the process, started with the application and stopped with it. A request starts a workflow and
returns at once; the workflow is on disk by then. Another request asks how it stands. This uses the standard library's
server; with a framework it is the same.
"""

import json
import tempfile
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from py_orchestrate import Orchestrator, activity, workflow


@activity
def pack(order: str) -> str:
    return f"parcel with {order}"


@activity
def send(parcel: str) -> str:
    return f"sent {parcel}"


@workflow
def ship(order: str) -> str:
    return send(pack(order))


def handler_for(orchestrator: Orchestrator) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """POST /books starts the workflow "ship-books"; posting it again does not start another."""
            order = self.path.strip("/")
            run = orchestrator.start_workflow(ship, order, workflow_id=f"ship-{order}")
            self.answer(202, {"id": run.id})

        def do_GET(self) -> None:
            status = orchestrator.get_workflow_status(self.path.strip("/"))
            self.answer(404 if status is None else 200, status)

        def answer(self, code: int, content: Any) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *args: Any) -> None:
            """Say nothing: the client below prints."""

    return Handler


def request(url: str, method: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as response:  # noqa: S310
        return json.load(response)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        Orchestrator(Path(folder, "shop.db")) as orchestrator,
        ThreadingHTTPServer(("127.0.0.1", 0), handler_for(orchestrator)) as server,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        print(request(f"{address}/books", "POST"))
        print(request(f"{address}/books", "POST"))
        orchestrator.wait_for_workflow("ship-books", timeout=10)
        status = request(f"{address}/ship-books", "GET")
        print(status["status"], status["output"])
        server.shutdown()


if __name__ == "__main__":
    main()
