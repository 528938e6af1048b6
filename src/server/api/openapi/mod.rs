//! What the API is, for programs: OpenAPI documents, made of the types that serde reads.
//!
//! They are checked in under `specs/schema/`, and served: version 3 for kubectl's `explain` and
//! `--validate`, for generators and for testers; version 2 for kubectl from before that.

mod beside;
mod paths;
mod proto;
mod schemas;
mod v2;
mod v3;

use std::sync::LazyLock;

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Redirect, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::params::Params;

/// Where the document of version 3 is.
const V3: &str = "/openapi/v3/apis/opendispatch.dev/v1alpha1";
/// What kubectl calls version 2 in protocol buffers.
const PROTO: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The OpenAPI document of version 3.0.
#[must_use]
pub fn v3() -> Value {
    v3::document()
}

/// The OpenAPI document of version 2.
#[must_use]
pub fn v2() -> Value {
    v2::document()
}

/// The OpenAPI document of version 2 in protocol buffers, as kubectl reads it.
#[must_use]
pub fn v2_protobuf() -> Vec<u8> {
    proto::encode(&v2())
}

fn info() -> Value {
    json!({
        "title": "Open Dispatch",
        "version": env!("CARGO_PKG_VERSION"),
        "description": "Desired state of coding agents, in the shape of the Kubernetes API.",
    })
}

/// A document as it is sent, made once.
struct Page {
    bytes: Bytes,
    hash: String,
}

impl Page {
    fn new(bytes: Vec<u8>) -> Self {
        let hash = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02X}")).collect();
        Self { bytes: bytes.into(), hash }
    }

    /// The answer with the document, or without, where the client has it.
    fn answer(&self, headers: &HeaderMap, sort: &'static str) -> Response {
        let tag = format!("\"{}\"", self.hash);
        let known =
            headers.get(header::IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == tag.as_bytes());
        let tag = HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static(""));
        let dress = [
            (header::ETAG, tag),
            (header::VARY, HeaderValue::from_static("Accept")),
            (header::CONTENT_TYPE, HeaderValue::from_static(sort)),
        ];
        if known {
            return (StatusCode::NOT_MODIFIED, dress).into_response();
        }
        (dress, self.bytes.clone()).into_response()
    }
}

fn page_v3() -> &'static Page {
    static PAGE: LazyLock<Page> = LazyLock::new(|| Page::new(v3().to_string().into_bytes()));
    &PAGE
}

/// `GET /openapi/v3`: which documents there are, each with the hash of what it says.
pub(super) async fn index() -> Json<Value> {
    let address = format!("{V3}?hash={}", page_v3().hash);
    Json(json!({"paths": {"apis/opendispatch.dev/v1alpha1": {"serverRelativeURL": address}}}))
}

/// `GET /openapi/v3/apis/opendispatch.dev/v1alpha1`; a hash of yesterday leads to the one of today.
pub(super) async fn get_v3(uri: Uri, headers: HeaderMap) -> Response {
    let page = page_v3();
    match Params::of(&uri).text("hash") {
        Some(hash) if hash != page.hash => {
            Redirect::permanent(&format!("{V3}?hash={}", page.hash)).into_response()
        }
        _ => page.answer(&headers, "application/json"),
    }
}

/// `GET /openapi/v2`
pub(super) async fn get_v2(headers: HeaderMap) -> Response {
    static JSON: LazyLock<Page> = LazyLock::new(|| Page::new(v2().to_string().into_bytes()));
    static PROTOBUF: LazyLock<Page> = LazyLock::new(|| Page::new(v2_protobuf()));
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("proto-openapi.spec.v2")) {
        PROTOBUF.answer(&headers, PROTO)
    } else {
        JSON.answer(&headers, "application/json")
    }
}
