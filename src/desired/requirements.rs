//! Fields that need a newer engine than the oldest one that is supported.

use super::Config;
use crate::capabilities::ApiVersion;
use crate::spec::Loaded;
use crate::spec::model;

/// A field that a service uses, and the API version that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the field: `annotations`, `volumes.subpath`.
    pub field: &'static str,
    /// Where it is written, e.g. `specs/app.yaml:12:16`.
    pub place: String,
    pub api: ApiVersion,
}

/// A field with the API version that it needs, and whether a container uses it. The part of the name behind a dot is a
/// key of the field, or of an item of its list; it only narrows the place.
type Row = (&'static str, ApiVersion, fn(&Config) -> bool);

const ROWS: &[Row] = &[("annotations", ApiVersion(1, 43), |config| !config.annotations.is_empty())];

/// The fields of a service that some supported engines do not know.
pub(super) fn requirements(loaded: &Loaded<model::Service>, config: &Config) -> Vec<Requirement> {
    let used = ROWS.iter().filter(|(_, _, is_used)| is_used(config));
    used.map(|(field, api, _)| Requirement { field, place: loaded.place(field), api: *api }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn fields_exist_and_versions_belong_to_an_engine() {
        let schema = schemars::schema_for!(model::ServiceDocument);
        let fields = schema.get("properties").unwrap().as_object().unwrap();
        for (field, api, _) in ROWS {
            assert!(fields.contains_key(field.split('.').next().unwrap()), "{field}");
            assert!(api.docker().is_some(), "{api}");
        }
    }
}
