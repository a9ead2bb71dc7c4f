"""Bad days: the command on a sandbox, and what is done to the sandbox meanwhile."""

from collections.abc import Callable

from couchdiscover.sandbox import Sandbox
from couchdiscover.sandbox.box import Proceed
from couchdiscover.sandbox.http import Request, Response, Wire
from tests.support.boxes import asked
from tests.support.command import Command
from tests.support.processes import Ended

USER = {"name": "ann", "password": "x", "roles": [], "type": "user"}
ANN = "/_users/org.couchdb.user:ann"
DEAD = "couchdb@couchdb-9.couchdb.default.svc.cluster.local"
QUICK = ("--timeout", "3s", "--request-timeout", "1s")

Meddle = Callable[[str, Request], Response | Wire | None]


def run(couchdiscover: Command, box: Sandbox, *arguments: str, pod: str | None = None) -> Ended:
    """A run, whatever comes of it."""
    return couchdiscover("run", "-o", "json", *arguments, environment=box.environment(pod))


def check(couchdiscover: Command, box: Sandbox, *arguments: str) -> Ended:
    """A check, which must write nothing."""
    before = len(box.writes())
    ended = couchdiscover("check", "-o", "json", *arguments, environment=box.environment())
    sessions = [r for r in box.writes()[before:] if r.path != "/_session"]
    assert sessions == []
    return ended


def kinds(ended: Ended) -> dict[str, str]:
    """Findings, with their severities."""
    return {each["finding"]: each["severity"] for each in ended.json["findings"]}


def steps(ended: Ended) -> list[str]:
    """The kinds of the steps that were taken."""
    return [step["step"] for step in ended.json["steps"]]


def meddle(box: Sandbox, answer: Meddle) -> None:
    """Answers some requests otherwise: None lets them pass."""

    async def intercept(pod: str, request: Request, proceed: Proceed) -> Response | Wire:
        return answer(pod, request) or await proceed()

    box.intercept = intercept


def apart(box: Sandbox, *pods: str) -> None:
    """Cuts these pods' nodes off from all others, as a network policy does."""
    for pod in pods:
        for other in box.pods:
            if other not in pods:
                box.network.cut(box.node(pod).name, box.node(other).name)


def not_running(box: Sandbox, *pods: str) -> None:
    """Their pods are not there yet, and their volumes are: no address is published."""
    for pod in pods:
        box.stop(pod)
        box.set_phase(pod, "pending")


def comes(box: Sandbox, pod: str) -> None:
    """The pod is there again, on its volume."""
    box.set_phase(pod, "running")
    box.start(pod)


def rolling(box: Sandbox, *, under_way: bool = True) -> None:
    """The StatefulSet's status says that a rollout is under way, or that it is over."""
    found = box.api.get("StatefulSet", "default", "couchdb")
    current = found["status"]["updateRevision"].removesuffix("-new")
    found["status"]["currentRevision"] = current
    found["status"]["updateRevision"] = f"{current}-new" if under_way else current
    found["status"]["updatedReplicas"] = 1 if under_way else box.replicas
    box.api.put(found)


def readable(box: Sandbox, pod: str, path: str) -> bool:
    """Whether a node answers a request with 200."""
    return asked(box, pod, path).status_code == 200


def published_at(box: Sandbox, pod: str, host: str) -> None:
    """Slices and Endpoints give a pod another host's address, as they do while they are behind."""
    namespace = box.deployment.namespace
    for part in box.api.find("EndpointSlice", namespace):
        for each in part["endpoints"]:
            if pod in (each.get("targetRef", {}).get("name"), each.get("hostname")):
                each["addresses"] = [host]
        box.api.put(part)
    found = box.api.get("Endpoints", namespace, box.deployment.service)
    for subset in found.get("subsets", []):
        for each in (*subset.get("addresses", []), *subset.get("notReadyAddresses", [])):
            if pod in (each.get("hostname"), each.get("targetRef", {}).get("name")):
                each["ip"] = host
    box.api.put(found)


def fails(*pods: str, path: str, status: int = 500) -> Meddle:
    """Answers of some nodes to requests whose path begins so are errors."""

    def answer(pod: str, request: Request) -> Response | None:
        if pod in pods and request.path.startswith(path):
            return Response(status, {"error": "error", "reason": "of the test"})
        return None

    return answer
