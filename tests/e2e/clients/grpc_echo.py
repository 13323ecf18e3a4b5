# grpc_echo.py serve ADDRESS:PORT | call HOST:PORT: gRPC without generated code.
import queue, sys, time
from concurrent import futures
import grpc

METHODS = {}

def method(kind):
    def add(function):
        METHODS[function.__name__] = getattr(grpc, kind + "_rpc_method_handler")(function)
        return function
    return add

@method("unary_unary")
def unary(request, context):
    context.set_trailing_metadata([("x-spent", "spent")])
    return request

@method("unary_stream")
def count(request, context):
    for n in range(int(request)):
        yield str(n).encode()

@method("stream_unary")
def add_up(requests, context):
    return str(sum(int(one) for one in requests)).encode()

@method("stream_stream")
def number(requests, context):
    for n, one in enumerate(requests):
        yield one + b":%d" % n

@method("unary_unary")
def refuse(request, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "told so")

@method("unary_unary")
def sleep(request, context):
    time.sleep(float(request))
    return b""

def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", METHODS)])
    server.add_insecure_port(address)
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()

def call(target):
    channel = grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)])
    at = lambda kind, name: getattr(channel, kind)("/test.Echo/" + name)
    print("unary", at("unary_unary", "unary")(b"hello", timeout=10).decode())
    told = at("unary_stream", "count")(b"5", timeout=10)
    print("server-stream", *(one.decode() for one in told))
    print("client-stream", at("stream_unary", "add_up")((str(n).encode() for n in range(5)), timeout=10).decode())
    # One message is answered before the next is sent.
    outgoing, heard = queue.Queue(), []
    answers = at("stream_stream", "number")(iter(outgoing.get, None), timeout=10)
    for one in (b"a", b"b", b"c"):
        outgoing.put(one)
        heard.append(next(answers).decode())
    outgoing.put(None)
    assert list(answers) == []
    print("both", *heard)
    try:
        at("unary_unary", "refuse")(b"", timeout=10)
    except grpc.RpcError as error:
        print("error", error.code().name, error.details())
    _, told = at("unary_unary", "unary").with_call(b"", timeout=10)
    print("trailer", dict(told.trailing_metadata())["x-spent"])
    try:
        at("unary_unary", "sleep")(b"5", timeout=0.5)
    except grpc.RpcError as error:
        print("deadline", error.code().name)

{"serve": serve, "call": call}[sys.argv[1]](sys.argv[2])
