"""Services found by reflection: nothing of p2pbridge is known before."""

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Server:
    def __init__(self, target):
        self.channel = grpc.insecure_channel(target)
        grpc.channel_ready_future(self.channel).result(timeout=10)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def services(self):
        return sorted(self.database.get_services())

    def method(self, service, method):
        """How to call it, what it is asked with, and its descriptor."""
        described = self.pool.FindServiceByName(service).methods_by_name[method]
        asked = message_factory.GetMessageClass(described.input_type)
        answered = message_factory.GetMessageClass(described.output_type)
        kinds = {(False, False): "unary_unary", (False, True): "unary_stream", (True, False): "stream_unary", (True, True): "stream_stream"}
        maker = getattr(self.channel, kinds[described.client_streaming, described.server_streaming])
        send = maker(f"/{service}/{method}", request_serializer=asked.SerializeToString, response_deserializer=answered.FromString)
        return send, asked, described


def plain(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
