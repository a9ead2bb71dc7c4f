"""A Kubernetes API that answers what it is told, and kubeconfigs that lead to it."""

from typing import Any

from couchdiscover.sandbox.http import Loop, Request, Response, Server, Wire

TOKEN = "eyJhbGciOiJ.t0ken.s3cret"

Answer = Response | Wire


class Api:
    """An API server that gives the same answer to everything, or one after another."""

    def __init__(self, loop: Loop, **options: Any) -> None:
        self.answers: list[Answer] = [Response(200, {})]
        self.requests: list[Request] = []
        self.server: Server = loop.serve(self._answer, "127.0.0.1", **options)

    async def _answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @property
    def url(self) -> str:
        """Where it listens, for plain HTTP."""
        return f"http://127.0.0.1:{self.server.port}"


def kubeconfig(server: str, token: object = TOKEN, **user: Any) -> dict[str, Any]:
    """A kubeconfig of two contexts, of which the first has a namespace."""
    return {
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token, **user}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "db"}},
            {"name": "two", "context": {"cluster": "c", "user": "u"}},
        ],
        "current-context": "one",
    }
