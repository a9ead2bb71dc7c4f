"""The result for machines: JSON, on one line."""

import json
from collections.abc import Callable
from typing import Any

from couchdiscover.decide.findings import Finding
from couchdiscover.output import docs
from couchdiscover.output.report import Report, problem
from couchdiscover.state.nodes import NodeView, Sight
from couchdiscover.state.steps import Step

Clean = Callable[[str], str]


def as_json(report: Report, clean: Clean) -> str:
    """The report; ``clean`` takes secrets out of every value that may hold text.

    Keys, numbers, enumerations and names that were validated stay as they are: a password that is
    ``null`` or ``couchdb`` must neither break the JSON nor mask every pod.
    """
    record = report.record
    topology = record.topology
    return json.dumps(
        {
            "command": record.command or None,
            "result": report.result,
            "exit_code": report.exit_code,
            "message": clean(report.message),
            "docs_url": docs.of_exit_code(report.exit_code),
            "namespace": record.namespace,
            "statefulset": record.statefulset,
            "expected": [pod.name for pod in topology.expected] if topology else [],
            "coordinator": record.coordinator,
            "nodes": [_node(sight, clean) for sight in record.sights],
            "steps": [_step(step, clean) for step in record.steps],
            "conditions": [
                {
                    "type": condition.type,
                    "status": condition.status,
                    "reason": condition.reason,
                    "message": clean(condition.message),
                }
                for condition in report.conditions
            ],
            "warnings": [clean(warning) for warning in record.warnings],
            **(
                {"findings": [_finding(found, clean) for found in record.findings]}
                if record.command == "check"
                else {}
            ),
            "elapsed_seconds": round(report.elapsed_seconds, 3),
        },
        ensure_ascii=False,
    )


def _node(sight: Sight, clean: Clean) -> dict[str, Any]:
    seen = sight if isinstance(sight, NodeView) else None
    told = problem(sight)
    return {
        "pod": sight.pod,
        "address": str(sight.address) if sight.address else None,
        "name": clean(seen.name) if seen else None,
        "version": clean(seen.version) if seen and seen.version else None,
        "state": str(seen.state) if seen else None,
        "members": len(seen.cluster_nodes) if seen else None,
        "connected": len(seen.all_nodes & seen.cluster_nodes) if seen else None,
        "problem": clean(told) if told else None,
    }


def _step(step: Step, clean: Clean) -> dict[str, Any]:
    return {
        "step": str(step.kind),
        "node": step.pod,
        **step.details(),
        "reason": clean(step.why),
    }


def _finding(found: Finding, clean: Clean) -> dict[str, Any]:
    return {
        "finding": found.kind,
        "severity": str(found.severity),
        "subjects": list(found.subjects),
        "message": clean(found.message),
        "docs_url": docs.of_finding(found.kind),
    }
