//! gRPC clients that nobody here wrote: they know nothing but what reflection tells.

use serde_json::Value;

use crate::process::{must, script};
use crate::{Bridge, Json, tools, venv_python};

/// Python's grpcio: each request is `[service, method, request]`, and for a stream how many messages are taken at most; see
/// `programs/grpc_client.py`.
pub async fn grpcio(bridge: &Bridge, requests: Value) -> Vec<Json> {
    let (client, requests) = (script("grpc_client.py"), requests.to_string());
    let client = client.to_str().expect("a plain path");
    let python = venv_python();
    let python = python.to_str().expect("a plain path");
    Json::parse(&must(60, python, [client, &bridge.grpc_target(), &requests]).await).items()
}

/// `buf curl`: one answer, or one of each message of a stream, a line each.
pub async fn buf_curl(bridge: &Bridge, method: &str, request: Value) -> Json {
    let url = format!("{}/{method}", bridge.server());
    let request = request.to_string();
    let args = ["curl", "--protocol", "grpc", "--http2-prior-knowledge", "-d", &request, &url];
    let buf = tools().join("venv/bin/buf");
    Json::parse(&must(60, buf.to_str().expect("a plain path"), args).await)
}
