//! The published schemas are those of the types, and the examples are good.

use std::{env, fs, path::Path};

use open_dispatch::{
    resource::{Kind, Span, schema::json_schema, yaml},
    server::openapi,
};
use proptest::prelude::*;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_published_schemas_are_current() {
    for kind in Kind::ALL {
        let path = root().join(format!("specs/schema/{}.json", kind.singular()));
        let now = json_schema(kind);
        if env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        let published: Value = serde_json::from_str(&published).unwrap_or_default();
        assert!(
            published == now,
            "{} is behind the types; write it anew: UPDATE_SCHEMAS=1 cargo test --test schemas",
            path.display(),
        );
    }
}

#[test]
fn the_published_schema_of_the_configuration_file_is_current() {
    let path = root().join("specs/schema/config.json");
    let now = open_dispatch::config::File::schema();
    if env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    let published: Value = serde_json::from_str(&published).unwrap_or_default();
    assert!(published == now, "{} is behind the types", path.display());
}

#[test]
fn the_published_openapi_documents_are_current() {
    let documents = [("openapi-v2", openapi::v2()), ("openapi-v3", openapi::v3())];
    for (name, now) in documents {
        let path = root().join(format!("specs/schema/{name}.json"));
        if env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        let published: Value = serde_json::from_str(&published).unwrap_or_default();
        assert!(
            published == now,
            "{} is behind the types; write it anew: UPDATE_SCHEMAS=1 cargo test --test schemas",
            path.display(),
        );
    }
}

#[test]
fn every_reference_of_an_openapi_document_leads_somewhere() {
    for document in [openapi::v2(), openapi::v3()] {
        let references: Vec<&str> =
            all(&document).iter().filter_map(|s| s["$ref"].as_str()).collect();
        assert!(references.len() > 50, "{references:?}");
        for reference in references {
            assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
        }
    }
}

#[test]
fn every_patch_says_which_kind_it_is_of_and_that_fields_are_validated() {
    // kubectl looks at one of the patches of a kind, whichever comes first.
    let document = openapi::v3();
    let paths = document["paths"].as_object().unwrap();
    let patches: Vec<&Value> = paths.values().filter_map(|path| path.get("patch")).collect();
    let group = |patch: &Value| patch["x-kubernetes-group-version-kind"]["group"].clone();
    let ours = patches.iter().filter(|patch| group(patch) == "opendispatch.dev").count();
    assert_eq!((ours, patches.len()), (2 * Kind::ALL.len(), ours + 1), "one is of a scale");
    for patch in patches {
        let group = group(patch);
        assert!(group == "opendispatch.dev" || group == "autoscaling", "{group}");
        let params = patch["parameters"].as_array().unwrap();
        assert!(params.iter().any(|it| it["name"] == "fieldValidation" && it["in"] == "query"));
    }
}

#[test]
fn each_kind_is_described_under_its_group_version_and_kind() {
    for (document, at) in [(openapi::v2(), "/definitions"), (openapi::v3(), "/components/schemas")]
    {
        for kind in Kind::ALL {
            let schema =
                &document.pointer(at).unwrap()[format!("dev.opendispatch.v1alpha1.{kind}")];
            let expected = serde_json::json!([
                {"group": "opendispatch.dev", "version": "v1alpha1", "kind": kind.name()}
            ]);
            assert_eq!(schema["x-kubernetes-group-version-kind"], expected);
            assert!(schema["properties"]["spec"].is_object(), "{kind}");
        }
    }
}

/// Every subschema of a schema.
fn all(schema: &Value) -> Vec<&Value> {
    let children: Vec<&Value> = match schema {
        Value::Array(items) => items.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    };
    std::iter::once(schema).chain(children.into_iter().flat_map(all)).collect()
}

#[test]
fn every_reference_of_a_schema_leads_somewhere() {
    for kind in Kind::ALL {
        let schema = json_schema(kind);
        let references: Vec<&str> =
            all(&schema).iter().filter_map(|s| s["$ref"].as_str()).collect();
        assert!(!references.is_empty());
        for reference in references {
            assert!(schema.pointer(&reference[1..]).is_some(), "{kind}: {reference}");
        }
    }
}

#[test]
fn every_member_of_a_schema_is_explained() {
    for kind in Kind::ALL {
        let schema = json_schema(kind);
        for part in all(&schema) {
            for (name, member) in part["properties"].as_object().into_iter().flatten() {
                let union = part["required"] == serde_json::json!([name])
                    && part["description"].is_string();
                assert!(union || member["description"].is_string(), "{kind}: {name}: {member}");
            }
        }
    }
}

#[test]
fn no_schema_offers_null() {
    for kind in Kind::ALL {
        let text = json_schema(kind).to_string();
        assert!(!text.contains("null"), "{kind}");
    }
}

#[test]
fn the_examples_are_good() {
    let mut kinds = Vec::new();
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            let objects =
                yaml::read(&text, path.to_str()).unwrap_or_else(|faults| panic!("{faults}"));
            assert!(!objects.is_empty(), "{}", path.display());
            kinds.extend(objects.iter().map(|object| object.kind()));
        }
    }
    assert!(kinds.contains(&Kind::Agent) && kinds.contains(&Kind::Job), "{kinds:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_span_reads_back_as_it_was_written(millis: u64) {
        let span = Span::from_millis(millis);
        prop_assert_eq!(span.to_string().parse(), Ok(span));
    }

    #[test]
    fn a_span_never_panics(text in "[0-9]{0,25}[a-zµ ]{0,3}[0-9]{0,3}[smhd]{0,2}") {
        let _ = text.parse::<Span>();
    }
}
