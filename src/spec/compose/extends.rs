//! `extends`: a service that begins as a copy of another.

use std::ops::Range;
use std::rc::Rc;

use super::super::node::{Node, Value};
use super::super::value::quoted;
use super::loader::{Context, Loader, Outcome};
use super::reset::{self, Resets};
use super::values::text;
use super::{Problem, merge, paths};

/// A service on the way from the first that extends to the last that is extended: its file and its name.
type Trail = Vec<(String, String)>;

impl Loader<'_> {
    /// Replaces the services of a document that extend others.
    pub fn extend_services(
        &mut self,
        document: &mut Node,
        resets: &Resets,
        file: &str,
        context: &mut Context,
    ) -> Outcome<()> {
        let Some(services) = document.get("services").cloned() else { return Ok(()) };
        for entry in services.entries() {
            if entry.value.get("extends").is_none() {
                continue;
            }
            let name = entry.key.text.as_str();
            let merged = self.extend(name, &services, resets, file, context, &mut Trail::new())?;
            if let Some(known) = document.get_mut("services").and_then(|services| services.get_mut(name)) {
                *known = merged;
            }
        }
        Ok(())
    }

    /// Returns a service of `services` with what it extends.
    fn extend(
        &mut self,
        name: &str,
        services: &Node,
        resets: &Resets,
        file: &str,
        context: &mut Context,
        trail: &mut Trail,
    ) -> Outcome<Node> {
        let Some(service) = services.get(name) else { return Ok(services.clone()) };
        let Some(extends) = service.get("extends") else { return Ok(service.clone()) };
        let step = (file.to_owned(), name.to_owned());
        if trail.contains(&step) {
            let message = format!("service {} extends itself", quoted(name));
            return self.refuse(&extends.span, message);
        }
        trail.push(step);
        let (base_name, base_file) = match &extends.value {
            Value::Map(_) => (extends.get("service").and_then(text), extends.get("file")),
            _ => (text(extends), None),
        };
        let Some(base_name) = base_name else {
            return self.refuse(&extends.span, "`extends` has no `service`".to_owned());
        };
        let base = match base_file.and_then(text) {
            Some(path) if paths::is_remote(path) => {
                let message = format!("{} is not on this machine", quoted(path));
                return self.refuse(&base_file.unwrap_or(extends).span, message);
            }
            Some(path) => {
                let span = base_file.unwrap_or(extends).span.clone();
                let path = paths::join(&context.directory, &paths::expand_home(path, self.request.home));
                let extended = self.extended(&path, &span, context)?;
                let extended = Rc::clone(&extended);
                let base_services = extended.root.get("services");
                let Some(base_services) = base_services.filter(|services| services.get(base_name).is_some()) else {
                    let message = format!("service {} not found in `{}`", quoted(base_name), self.shown(&path));
                    return self.refuse(&extends.span, message);
                };
                self.extend(base_name, base_services, &extended.resets, &path, context, trail)?
            }
            None if services.get(base_name).is_none() => {
                let message = format!("service {} not found in this file", quoted(base_name));
                return self.refuse(&extends.span, message);
            }
            None => self.extend(base_name, services, resets, file, context, trail)?,
        };
        self.extend_with(base, service, name, resets)
    }

    /// Merges a service onto the one that it extends.
    fn extend_with(&mut self, mut base: Node, service: &Node, name: &str, resets: &Resets) -> Outcome<Node> {
        if base.is_null() {
            return Ok(service.clone());
        }
        reset::apply_to(&mut base, "services", name, resets);
        let mut problems = Vec::new();
        let mut merged = merge::merge_at(base, service.clone(), &["services", "*"], &mut problems);
        self.report(problems)?;
        if let Value::Map(entries) = &mut merged.value {
            entries.retain(|entry| entry.key.text != "extends");
        }
        Ok(Node { span: service.span.clone(), ..merged })
    }

    pub fn refuse<T>(&mut self, span: &Range<usize>, message: String) -> Outcome<T> {
        self.report(vec![Problem::new(span, message)])?;
        Err(super::loader::Failed)
    }
}
