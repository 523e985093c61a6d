"""A gRPC client that knows nothing of p2pbridge but what reflection tells: grpc_client.py HOST:PORT REQUESTS

REQUESTS is a JSON list of [service, method, request]; the answers come as a JSON list: an object, a list of objects for a stream, or
{"code": …, "message": …} for an error. For a method that takes a stream, the request is a list. A fourth element bounds how many messages
are taken from a stream.
"""

import json
import sys

import grpc
from google.protobuf import json_format

from reflected import Server, plain

server, requests = Server(sys.argv[1]), json.loads(sys.argv[2])


def call(service, method, request, most=100):
    if service == "":
        return server.services()
    send, asked, described = server.method(service, method)
    if described.client_streaming:
        request = iter([json_format.ParseDict(part, asked()) for part in request])
    else:
        request = json_format.ParseDict(request, asked())
    try:
        reply = send(request, timeout=20)
        if not described.server_streaming:
            return plain(reply)
        got = []
        for message in reply:
            got.append(plain(message))
            if len(got) == most:
                reply.cancel()
                break
        return got
    except grpc.RpcError as error:
        return {"code": error.code().name, "message": error.details()}


print(json.dumps([call(*request) for request in requests]))
