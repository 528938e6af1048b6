//! Which image a machine is made from. The rules are [`Images`]'s, which editors applied when the
//! spec was taken; they are applied again here, because the configuration may have changed since.

use super::FlySettings;
use crate::resource::{FlyRuntime, Images, NoImage};

/// The whole reference of the image that a spec asks for.
///
/// # Errors
/// Why there is none, with what there is instead.
pub fn resolve(spec: &FlyRuntime, settings: &FlySettings) -> Result<String, NoImage> {
    let images = Images {
        usual: settings.image.clone(),
        aliases: settings.images.clone(),
        allowed: settings.allowed_images.clone(),
    };
    images.resolve(spec.image.as_deref()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::fly::SecretsBy;

    fn settings(allowed: &[&str]) -> FlySettings {
        FlySettings {
            api: "http://127.0.0.1:1".parse().unwrap(),
            token: String::new().into(),
            app: "my-sprites".into(),
            region: "iad".into(),
            image: Some("node".into()),
            images: [("node".to_owned(), "registry.fly.io/a/node:v1".to_owned())].into(),
            allowed_images: allowed.iter().map(|&it| it.to_owned()).collect(),
            server: "http://127.0.0.1:2".parse().unwrap(),
            capacity: 1,
            secrets_by: SecretsBy::Environment,
            environment: Vec::new(),
            extra_env: Vec::new(),
        }
    }

    #[test]
    fn a_spec_gets_its_image_or_the_default_and_nothing_that_is_not_allowed() {
        let of = |image: Option<&str>, allowed: &[&str]| {
            let spec = FlyRuntime { image: image.map(str::to_owned), ..FlyRuntime::default() };
            resolve(&spec, &settings(allowed))
        };
        assert_eq!(of(None, &[]).unwrap(), "registry.fly.io/a/node:v1");
        assert_eq!(of(Some("me/other:v2"), &[]).unwrap(), "me/other:v2");
        assert!(matches!(of(Some("me/other:v2"), &["you/"]), Err(NoImage::NotAllowed { .. })));
    }
}
