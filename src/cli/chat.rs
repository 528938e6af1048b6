//! temp
/// temp
pub async fn chat(_base: url::Url, _token: String, _channel: String) -> Result<(), super::error::Error> {
    std::future::pending().await
}
