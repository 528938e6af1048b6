"""What schemathesis must know of this API.

A watch is a stream of documents, which no schema tells; the tours watch. What is made up must not
run: a Job that is taken does nothing, and an Agent waits for nobody. And where a name is asked for,
every second one is that of an object that is there.
"""

import itertools

import schemathesis

THERE = {"agents": "bot", "jobs": "nightly"}
turn = itertools.count()


def harmless(spec):
    spec = dict(spec)
    for member in ("repo", "env", "runtime"):
        spec.pop(member, None)
    if "agent" in spec:
        spec["agent"] = {"command": {}}
    if "task" in spec:
        spec["task"] = "true"
    return spec


@schemathesis.hook
def before_call(context, case, kwargs):
    # Never in place: what is made up may be shared between calls.
    if case.query:
        case.query = {name: value for name, value in case.query.items() if name != "watch"}
    if isinstance(case.body, dict) and isinstance(case.body.get("spec"), dict):
        case.body = {**case.body, "spec": harmless(case.body["spec"])}
    if isinstance(case.body, list):
        on_spec = lambda op: isinstance(op, dict) and str(op.get("path")).startswith("/spec")
        case.body = [op for op in case.body if not on_spec(op)]
    if case.path_parameters and case.method.upper() != "DELETE" and next(turn) % 2:
        plural = case.path.split("/")[4]
        if plural in THERE and "name" in case.path_parameters:
            case.path_parameters = {**case.path_parameters, "name": THERE[plural]}
