"""A gRPC client that knows nothing of p2pbridge but what reflection tells: grpc_client.py HOST:PORT REQUESTS

REQUESTS is a JSON list of [service, method, request]; the answers come as a JSON list: an object, a list of objects for a stream, or
{"code": …, "message": …} for an error. A fourth element bounds how many messages are taken from a stream.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

target, requests = sys.argv[1], json.loads(sys.argv[2])
channel = grpc.insecure_channel(target)
grpc.channel_ready_future(channel).result(timeout=10)
database = ProtoReflectionDescriptorDatabase(channel)
pool = descriptor_pool.DescriptorPool(database)


def plain(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def call(service, method, request, most=100):
    if service == "":
        return sorted(database.get_services())
    described = pool.FindServiceByName(service).methods_by_name[method]
    asked = message_factory.GetMessageClass(described.input_type)
    answered = message_factory.GetMessageClass(described.output_type)
    maker = channel.unary_stream if described.server_streaming else channel.unary_unary
    send = maker(f"/{service}/{method}", request_serializer=asked.SerializeToString, response_deserializer=answered.FromString)
    try:
        reply = send(json_format.ParseDict(request, asked()), timeout=20)
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
