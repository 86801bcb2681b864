//! What `service(...)` and `job(...)` give back: a value that can be passed on.

use std::fmt;

use allocative::Allocative;
use starlark::any::ProvidesStaticType;
use starlark::environment::{Methods, MethodsBuilder, MethodsStatic};
use starlark::values::{NoSerialize, StarlarkValue, Value, starlark_value};
use starlark::{starlark_module, starlark_simple_value};

/// A service or a job that the program has made.
#[derive(Debug, Clone, PartialEq, Eq, ProvidesStaticType, NoSerialize, Allocative)]
pub(super) struct Resource {
    /// `Service` or `Job`.
    pub kind: String,
    /// Its name; empty if it has none, which is reported elsewhere.
    pub name: String,
    /// Its image.
    pub image: String,
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

starlark_simple_value!(Resource);

#[starlark_value(type = "service")]
impl<'v> StarlarkValue<'v> for Resource {
    fn get_methods() -> Option<&'static Methods> {
        static METHODS: MethodsStatic = MethodsStatic::new("service", methods);
        Some(METHODS.methods())
    }

    fn equals(&self, other: Value<'v>) -> starlark::Result<bool> {
        Ok(Resource::from_value(other).is_some_and(|other| other == self))
    }
}

/// What a service or job can be asked.
#[starlark_module]
pub(super) fn methods(builder: &mut MethodsBuilder) {
    /// The name, by which others depend on it and reach it.
    #[starlark(attribute)]
    fn name(this: &Resource) -> anyhow::Result<String> {
        Ok(this.name.clone())
    }

    /// `Service` or `Job`.
    #[starlark(attribute)]
    fn kind(this: &Resource) -> anyhow::Result<String> {
        Ok(this.kind.clone())
    }

    /// The image.
    #[starlark(attribute)]
    fn image(this: &Resource) -> anyhow::Result<String> {
        Ok(this.image.clone())
    }

    /// The address of a port on the network of the group: `appdb:5432`.
    fn address(this: &Resource, #[starlark(require = pos)] port: i32) -> anyhow::Result<String> {
        Ok(format!("{}:{port}", this.name))
    }

    /// The URL of a port on the network of the group: `http://api:80/v1`.
    fn url(
        this: &Resource,
        #[starlark(require = pos)] port: i32,
        #[starlark(default = "")] path: &str,
        #[starlark(default = "http")] scheme: &str,
    ) -> anyhow::Result<String> {
        Ok(format!("{scheme}://{}:{port}{path}", this.name))
    }
}
