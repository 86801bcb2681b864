//! Seccomp profiles that specs refer to by path.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use super::locate::{Diagnostic, Location, SourceText};
use super::model::{SecurityOpt, Service};
use super::node::Node;

/// Profiles in their shortest form, by path. Reports those that are missing or invalid to `diagnostics`; `open` reads a
/// file, and its errors are located in the file itself or, as text, at the option.
pub(super) fn profiles(
    service: &Document<Service>,
    open: impl Fn(&str, &Location) -> Result<Arc<SourceText>, Diagnostic>,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<String, String> {
    let nodes = service.root.get("security_opt").into_iter().flat_map(Node::items);
    let mut profiles = BTreeMap::new();
    for (option, node) in service.spec.container.security_opt.iter().zip(nodes) {
        let SecurityOpt::SeccompFile(path) = option else { continue };
        let location = service.location(&node.span);
        match open(path, &location).and_then(|text| compact(&text, &location)) {
            Ok(profile) => _ = profiles.insert(path.clone(), profile),
            Err(error) => diagnostics.push(error),
        }
    }
    profiles
}

/// Returns the JSON of a profile without white space.
fn compact(text: &Arc<SourceText>, used: &Location) -> Result<String, Diagnostic> {
    let error = |at: usize, message: String| {
        let diagnostic = Diagnostic::at(Location::new(text, at..at + 1), message);
        diagnostic.related(used.clone(), "referenced here")
    };
    match serde_json::from_str::<Value>(text.text()) {
        Ok(profile @ Value::Object(_)) => Ok(profile.to_string()),
        Ok(_) => Err(error(0, "a seccomp profile is a JSON object".into())),
        Err(invalid) => {
            let at = text.line_range(invalid.line()).start + invalid.column().saturating_sub(1);
            let message = invalid.to_string();
            // The place is that of the diagnostic.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
            Err(error(at, format!("the seccomp profile is not valid JSON: {message}")))
        }
    }
}
