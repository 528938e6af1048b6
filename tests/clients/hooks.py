"""What schemathesis must know of this API: a watch goes on until its time is over."""

import schemathesis


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.query and "watch" in case.query:
        case.query["timeoutSeconds"] = "1"
