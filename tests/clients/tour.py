"""The client library of Kubernetes for Python, driven against a real server.

It says each step that it has done. At `restart`, whoever started it kills the server, starts it
again, and writes a line.
"""

import sys
import threading
import time
from types import SimpleNamespace

from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError
from kubernetes.informer import ADDED, DELETED, MODIFIED, SharedInformer

GROUP, VERSION = "opendispatch.dev", "v1alpha1"
MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
PATIENCE = 60


def agent(name, **labels):
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Agent",
        "metadata": {"name": name, "labels": labels},
        "spec": {"agent": {"command": {}}, "suspend": True, "idleTimeout": "15m"},
    }


def done(step):
    print(f"done {step}", flush=True)


def refused(code, call):
    """The refusal with which a call has to end."""
    try:
        call()
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"{code} was expected")


def until(holds, what):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def custom_objects(api):
    at = (GROUP, VERSION, "agents")
    made = api.create_cluster_custom_object(*at, agent("one", team="red"))
    assert made["metadata"]["generation"] == 1, made
    assert api.get_cluster_custom_object(*at, "one")["spec"]["suspend"] is True
    listed = api.list_cluster_custom_object(*at, label_selector="team=red")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["one"], listed
    assert not api.list_cluster_custom_object(*at, label_selector="team=blue")["items"]
    refused(409, lambda: api.create_cluster_custom_object(*at, agent("one")))
    refused(404, lambda: api.get_cluster_custom_object(*at, "none"))
    bad = agent("bad")
    bad["spec"]["suspended"] = True
    refusal = refused(422, lambda: api.create_cluster_custom_object(*at, bad))
    assert "spec.suspended" in refusal.body, refusal
    tried = api.create_cluster_custom_object(*at, agent("tried"), dry_run="All")
    assert tried["metadata"]["name"] == "tried"
    refused(404, lambda: api.get_cluster_custom_object(*at, "tried"))

    set_to = lambda body, sort: api.patch_cluster_custom_object(*at, "one", body, _content_type=sort)
    merged = set_to({"spec": {"idleTimeout": "20m"}}, MERGE)
    assert merged["spec"]["idleTimeout"] == "20m" and merged["metadata"]["generation"] == 2, merged
    replaced = set_to([{"op": "replace", "path": "/spec/idleTimeout", "value": "25m"}], JSON)
    assert replaced["spec"]["idleTimeout"] == "25m", replaced

    stale = api.get_cluster_custom_object(*at, "one")
    set_to({"metadata": {"labels": {"more": "yes"}}}, MERGE)
    stale["spec"]["idleTimeout"] = "30m"
    refused(409, lambda: api.replace_cluster_custom_object(*at, "one", stale))
    # What a client does about that: it reads again and makes its change to what is there.
    fresh = api.get_cluster_custom_object(*at, "one")
    fresh["spec"]["idleTimeout"] = "30m"
    assert api.replace_cluster_custom_object(*at, "one", fresh)["metadata"]["labels"]["more"] == "yes"
    precise = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="another"))
    refused(409, lambda: api.delete_cluster_custom_object(*at, "one", body=precise))
    api.delete_cluster_custom_object(*at, "one")
    gone = lambda: not api.list_cluster_custom_object(*at)["items"]
    until(gone, "the agent is gone")
    done("custom objects")


def pages(api):
    at = (GROUP, VERSION, "agents")
    for n in range(7):
        api.create_cluster_custom_object(*at, agent(f"page-{n}"))
    names, token = [], None
    while True:
        page = api.list_cluster_custom_object(*at, limit=3, _continue=token)
        names += [item["metadata"]["name"] for item in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
    assert names == [f"page-{n}" for n in range(7)], names
    api.delete_collection_cluster_custom_object(*at)
    until(lambda: not api.list_cluster_custom_object(*at)["items"], "the collection is gone")
    done("pages")


def dynamic_client():
    finder = dynamic.DynamicClient(client.ApiClient())
    agents = finder.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Agent")
    assert not agents.namespaced
    agents.create(body=agent("two"))
    assert agents.get(name="two").spec.suspend is True
    agents.patch(name="two", body={"spec": {"idleTimeout": "20m"}}, content_type=MERGE)
    applied = agent("two")
    applied["spec"]["idleTimeout"] = "25m"
    apply = lambda force: agents.server_side_apply(
        body=applied, name="two", field_manager="tour", force_conflicts=force
    )
    try:
        apply(False)
        raise AssertionError("a conflict was expected")
    except ConflictError as error:
        assert "idleTimeout" in str(error.body), error
    assert apply(True).spec.idleTimeout == "25m"
    agents.delete(name="two")
    try:
        until(lambda: agents.get(name="two") is None, "the agent is gone")
    except NotFoundError:
        pass
    done("dynamic client")


def expired(api):
    """A place in the history that is not there is told as 410, and a list helps."""
    at = (GROUP, VERSION, "agents")
    stream = lambda: list(
        watch.Watch().stream(
            api.list_cluster_custom_object, *at, resource_version="1", timeout_seconds=1
        )
    )
    try:
        stream()
    except ApiException as error:
        assert error.status == 410, error
    done("expired")


def informer(api):
    at = (GROUP, VERSION, "agents")

    # The informer knows lists that are typed; those of custom objects are plain.
    def listing(**words):
        answer = api.list_cluster_custom_object(*at, **words)
        if not isinstance(answer, dict):
            return answer
        version = answer["metadata"]["resourceVersion"]
        return SimpleNamespace(
            items=answer["items"], metadata=SimpleNamespace(resource_version=version)
        )

    listing.__doc__ = api.list_cluster_custom_object.__doc__
    seen, lock = [], threading.Lock()

    def note(event):
        def take(item):
            with lock:
                seen.append((event, item["metadata"]["name"], item["spec"]["idleTimeout"]))

        return take

    shared = SharedInformer(listing, key_func=lambda item: item["metadata"]["name"])
    for event in (ADDED, MODIFIED, DELETED):
        shared.add_event_handler(event, note(event))
    api.create_cluster_custom_object(*at, agent("first"))
    shared.start()
    until(lambda: (ADDED, "first", "15m") in seen, "the first object")
    set_to = lambda name, time: api.patch_cluster_custom_object(
        *at, name, {"spec": {"idleTimeout": time}}, _content_type=MERGE
    )
    set_to("first", "20m")
    until(lambda: (MODIFIED, "first", "20m") in seen, "a change")
    print("restart", flush=True)
    sys.stdin.readline()
    set_to("first", "25m")
    api.create_cluster_custom_object(*at, agent("second"))
    until(lambda: ("second" in [name for _, name, _ in seen]), f"what came behind: {seen}")
    until(lambda: any(time == "25m" for _, _, time in seen), f"what changed behind: {seen}")
    api.delete_cluster_custom_object(*at, "first")
    until(lambda: any(event == DELETED for event, _, _ in seen), f"what went: {seen}")
    until(lambda: [i["metadata"]["name"] for i in shared.cache.list()] == ["second"], "the cache")
    shared.stop()
    done("informer")


def main():
    config.load_kube_config()
    api = client.CustomObjectsApi()
    custom_objects(api)
    pages(api)
    dynamic_client()
    expired(api)
    informer(api)
    done("all")


main()
