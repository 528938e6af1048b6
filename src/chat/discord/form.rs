//! A message with a file, as `multipart/form-data`: the part `payload_json`, and the part
//! `files[0]`. Pure.

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A message with a file.
#[derive(Debug, Clone)]
pub(super) struct Form {
    boundary: String,
    payload: String,
    name: String,
    file: Bytes,
}

impl Form {
    /// A form. Its boundary follows from the file, so that it does not stand in it by any chance
    /// worth speaking of.
    pub(super) fn new(payload: &Value, name: &str, file: Bytes) -> Self {
        let hash = Sha256::new().chain_update(name).chain_update(&file).finalize();
        let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self {
            boundary: format!("od-{hash}"),
            payload: payload.to_string(),
            name: plain(name),
            file,
        }
    }

    pub(super) fn content_type(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    pub(super) fn bytes(&self) -> Bytes {
        let Self { boundary, payload, name, file } = self;
        let mut bytes = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"payload_json\"\r\n\
             Content-Type: application/json\r\n\r\n{payload}\r\n--{boundary}\r\n\
             Content-Disposition: form-data; name=\"files[0]\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        bytes.extend_from_slice(file);
        bytes.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        bytes.into()
    }
}

/// A name without what would end it, or its line.
fn plain(name: &str) -> String {
    let kept = |c: char| if c.is_control() || "\"\\/".contains(c) { '_' } else { c };
    name.chars().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_break_out_of_its_line() {
        let form = Form::new(&serde_json::json!({"a": 1}), "x\"\r\nEvil: 1/y", "body".into());
        let text = String::from_utf8(form.bytes().to_vec()).unwrap();
        assert!(text.contains("filename=\"x___Evil: 1_y\"\r\n"), "{text}");
        assert!(text.ends_with(&format!("\r\n\r\nbody\r\n--{}--\r\n", form.boundary)), "{text}");
    }
}
