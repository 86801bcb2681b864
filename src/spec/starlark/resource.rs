//! The value that `service(...)` and `job(...)` return.

use std::fmt;

use allocative::Allocative;
use starlark::any::ProvidesStaticType;
use starlark::environment::{Methods, MethodsBuilder, MethodsStatic};
use starlark::values::{NoSerialize, StarlarkValue, Value, starlark_value};
use starlark::{starlark_module, starlark_simple_value};

/// A service or job defined by a program.
#[derive(Debug, Clone, PartialEq, Eq, ProvidesStaticType, NoSerialize, Allocative)]
pub(super) struct Resource {
    /// `Service` or `Job`.
    pub kind: String,
    /// Name; empty if missing, which is reported when the document is read.
    pub name: String,
    /// Image; empty if missing.
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

/// Attributes and methods of services and jobs.
#[starlark_module]
pub(super) fn methods(builder: &mut MethodsBuilder) {
    /// Name of the service or job, which is also its host name on the group's network.
    #[starlark(attribute)]
    fn name(this: &Resource) -> anyhow::Result<String> {
        Ok(this.name.clone())
    }

    /// `Service` or `Job`.
    #[starlark(attribute)]
    fn kind(this: &Resource) -> anyhow::Result<String> {
        Ok(this.kind.clone())
    }

    /// Image; empty if it is not set.
    #[starlark(attribute)]
    fn image(this: &Resource) -> anyhow::Result<String> {
        Ok(this.image.clone())
    }

    /// Returns the address of a port on the group's network: `appdb:5432`.
    fn address(this: &Resource, #[starlark(require = pos)] port: i32) -> anyhow::Result<String> {
        Ok(format!("{}:{port}", this.name))
    }

    /// Returns the URL of a port on the group's network: `http://api:80/v1`.
    fn url(
        this: &Resource,
        #[starlark(require = pos)] port: i32,
        #[starlark(default = "")] path: &str,
        #[starlark(default = "http")] scheme: &str,
    ) -> anyhow::Result<String> {
        Ok(format!("{scheme}://{}:{port}{path}", this.name))
    }
}
